"""Pretraining steps of a masked autoencoder, ours and PyTorch's, in a process that runs one when it is asked to.

`benchmarks.mae` starts it. A line on standard input is the name of a step; it is answered by a line of JSON:
 seconds of wall clock and of processor a step, and the last loss.
"""

import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

LEARNING_RATE, BETAS, WEIGHT_DECAY = 1e-3, (0.9, 0.95), 0.05


@dataclasses.dataclass(frozen=True)
class Size:
    """A masked autoencoder: pixels of a side and channels, side of a patch, and (width, depth, heads) of both parts."""

    image: int
    channels: int
    patch: int
    encoder: tuple[int, int, int]
    decoder: tuple[int, int, int]


SIZES = {
    "debug": Size(16, 1, 4, (32, 2, 2), (16, 1, 2)),
    "mini": Size(28, 1, 4, (96, 6, 3), (64, 2, 4)),
    "tiny": Size(32, 3, 4, (192, 12, 3), (192, 4, 3)),
    "base": Size(224, 3, 16, (768, 12, 12), (512, 8, 16)),
}


def images(size: Size, batch: int) -> np.ndarray:
    """Noise, uint8 [batch, height, width, channel]."""
    shape = (batch, size.image, size.image, size.channels)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def ours(size: Size, batch: int, dtype: str, unroll: bool) -> tuple[dict[str, Callable[[], float]], dict[str, Any]]:
    """Our steps, each of which makes one update and returns the loss, and facts about them.

    - "ours": a training step: masks, loss, gradient, AdamW.
    - "dense": the same with mask tokens in the encoder, so that it sees as many tokens as there are patches.
    - "sorted": "ours" without masks, shuffles and gathers: it is given normalized patches, the visible ones first.
    - "masking": masks, shuffles and gathers by themselves, of patches that are cut already. No gradient goes through
      them: neither pixels nor fixed positions are trained.
    """
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx

    from experiments.runs import runtime
    from experiments.tools.benchmarks.common import matmul_ceiling
    from experiments.training import state
    from world_models.core.flops import count_flops
    from world_models.models.masked_autoencoder import targets
    from world_models.models.masked_autoencoder.model import MaskedAutoencoder
    from world_models.models.masked_autoencoder.options import MaskedAutoencoderOptions
    from world_models.nn.options import ComputeOptions, TransformerOptions
    from world_models.nn.patches import patchify

    runtime.setup()
    frames = images(size, batch)[:, None]
    optimizer = optax.adamw(LEARNING_RATE, *BETAS, weight_decay=WEIGHT_DECAY)

    def part(width: int, depth: int, heads: int) -> TransformerOptions:
        return TransformerOptions(width, depth, heads, compute=ComputeOptions(unroll=-1 if unroll else 1))

    def masked_loss(model: MaskedAutoencoder, frames: jax.Array, count: jax.Array) -> jax.Array:
        keys = jax.random.split(jax.random.fold_in(jax.random.key(0), count), batch)
        return model.loss_of(frames, model.mask(keys))

    def sorted_loss(model: MaskedAutoencoder, patches: jax.Array, count: jax.Array) -> jax.Array:
        visible, places = model.num_visible, np.arange(model.num_patches)[None]
        tokens = model.encoder(patches[:, :visible], places[:, :visible])
        predictions = model.decoder(tokens, places, model.num_patches - visible)
        goal = targets.target(model.options.target, patches[:, visible:], size.channels)
        return jnp.mean((predictions.astype(jnp.float32) - goal) ** 2)

    def masking() -> Callable[[], float]:
        options = MaskedAutoencoderOptions(part(*size.encoder), part(*size.decoder), patch=size.patch, dtype=dtype)
        model = nnx.jit(lambda: MaskedAutoencoder(options, frames.shape[1:], rngs=nnx.Rngs(0)))()
        merge, params, constants = state.split_model(model)

        @jax.jit
        def mask(params: Any, count: jax.Array, patches: jax.Array) -> tuple:
            model = merge(params, constants)
            places = model.mask(jax.random.split(jax.random.fold_in(jax.random.key(0), count), batch))
            shuffled = model.normalized(jnp.take_along_axis(patches, places[..., None], axis=1))
            seen = jnp.asarray(model.encoder.positions(), dtype)[places[:, : model.num_visible]]
            return count + 1, shuffled, seen, jnp.asarray(model.decoder.positions(), dtype)[places]

        now = [jnp.int32(0)]
        patches = jax.jit(lambda frames: patchify(frames, size.patch, 1))(frames)

        def step() -> float:
            now[0], *made = mask(params, now[0], patches)
            jax.block_until_ready(made)
            return 0.0

        return step

    def program(dense: bool, loss_of: Callable, prepare: Callable) -> tuple[Callable[[], float], int, int]:
        options = MaskedAutoencoderOptions(
            part(*size.encoder), part(*size.decoder), patch=size.patch, encode_mask_tokens=dense, dtype=dtype
        )
        model = nnx.jit(lambda: MaskedAutoencoder(options, frames.shape[1:], rngs=nnx.Rngs(0)))()
        data = jax.device_put(prepare(model))
        merge, params, constants = state.split_model(model)

        def loss(params: Any, count: jax.Array, data: jax.Array) -> jax.Array:
            return loss_of(merge(params, constants), data, count)

        def update(params: Any, moments: Any, count: jax.Array, data: jax.Array) -> tuple:
            value, gradient = jax.value_and_grad(loss)(params, count, data)
            change, moments = optimizer.update(gradient, moments, params)
            return optax.apply_updates(params, change), moments, count + 1, value

        update = jax.jit(update, donate_argnums=(0, 1, 2))
        now = [params, optimizer.init(params), jnp.int32(0)]

        def step() -> float:
            *now[:], value = update(*now, data)
            return float(value)

        return step, count_flops(jax.value_and_grad(loss), params, jnp.int32(0), data), optax.tree.size(params)

    def ceiling() -> float:
        large = () if jax.default_backend() == "cpu" else (4096, 8192)  # a CPU has long reached it
        return matmul_ceiling(dtype, (1024, 2048, *large))

    whole, flops, parameters = program(False, masked_loss, lambda model: frames)
    dense, dense_flops, _ = program(True, masked_loss, lambda model: frames)
    bare, _, _ = program(False, sorted_loss, lambda model: model.normalized(model.patches(frames)))
    facts = {
        "parameters": parameters,
        "flops": flops,
        "dense_flops": dense_flops,
        "device": jax.devices()[0].device_kind,
    }
    return {"ours": whole, "dense": dense, "sorted": bare, "masking": masking(), "ceiling": ceiling}, facts


def torch(size: Size, batch: int, dtype: str, compiled: bool) -> tuple[dict[str, Callable[[], float]], dict[str, Any]]:
    """The training step of Hugging Face's ViTMAE, and facts about it: see `ours`."""
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
    make = {"ours": ours, "torch": torch}[asked.pop("who")]
    serve(*make(SIZES[asked.pop("size")], **asked), pace)
