"""Pretraining steps of a masked autoencoder, ours and PyTorch's, in a process that runs one when it is asked to.

`benchmarks.mae` starts it. A line on standard input is the name of a step; it is answered by a line of JSON:
 seconds of wall clock and of processor a step, and the last loss.
"""

import contextlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from experiments.tools.benchmarks.mae_sizes import BETAS, LEARNING_RATE, SIZES, WEIGHT_DECAY, Size, images


def torch(size: Size, batch: int, dtype: str, compiled: bool) -> tuple[dict[str, Callable[[], float]], dict[str, Any]]:
    """The training step of Hugging Face's ViTMAE, and facts about it."""
    import torch
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    device = "cuda" if torch.cuda.is_available() else "cpu"
    (width, depth, heads), (narrow, few, fewer) = size.encoder, size.decoder
    config = ViTMAEConfig(
        image_size=size.image,
        num_channels=size.channels,
        patch_size=size.patch,
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        decoder_hidden_size=narrow,
        decoder_num_hidden_layers=few,
        decoder_num_attention_heads=fewer,
        decoder_intermediate_size=4 * narrow,
        mask_ratio=0.75,
        norm_pix_loss=True,
    )
    torch.manual_seed(0)
    model = ViTMAEForPreTraining(config).to(device)
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=LEARNING_RATE, betas=BETAS, weight_decay=WEIGHT_DECAY, fused=True)
    pixels = torch.from_numpy(images(size, batch)).to(device).permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous()
    forward = torch.compile(model) if compiled else model

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        narrow = torch.autocast(device, torch.bfloat16) if dtype == "bfloat16" else contextlib.nullcontext()
        with narrow:
            loss = forward(pixels).loss
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return {"torch": step}, {
        "parameters": sum(parameter.numel() for parameter in learned),
        "version": torch.__version__,
    }


def serve(steps: dict[str, Callable[[], float]], facts: dict[str, Any], seconds: float) -> None:
    """Prints `facts`, then runs requested steps, about `seconds` at a time, until standard input ends."""
    counts: dict[str, int] = {}
    print(json.dumps(facts), flush=True)
    for name in map(str.strip, sys.stdin):
        step = steps[name]
        if name == "ceiling":
            print(json.dumps({"flops_per_second": step()}), flush=True)
            continue
        if name not in counts:
            step()  # compiles
            start = time.perf_counter()
            step()
            counts[name] = max(1, round(seconds / (time.perf_counter() - start)))
        start, used = time.perf_counter(), time.process_time()
        for _ in range(counts[name]):
            loss = step()
        wall, cpu = time.perf_counter() - start, time.process_time() - used
        steps_run = counts[name]
        print(json.dumps({"seconds": wall / steps_run, "cpu_seconds": cpu / steps_run, "loss": loss}), flush=True)


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    pace = asked.pop("seconds")
    if asked.pop("who") == "ours":
        from experiments.tools.benchmarks.mae_ours import make_steps
    else:
        make_steps = torch
    serve(*make_steps(SIZES[asked.pop("size")], **asked), pace)
