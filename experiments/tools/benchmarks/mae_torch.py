"""The peer's step of the benchmark `mae`. No JAX here."""

from typing import Any

import torch
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from experiments.tools.benchmarks.mae_sizes import SIZES, images
from experiments.tools.benchmarks.steps import Step
from experiments.tools.benchmarks.torch_step import DEVICE, training


def make_steps(size: str, batch: int, dtype: str, compiled: bool) -> tuple[dict[str, Step], dict[str, Any]]:
    """The training step of Hugging Face's ViTMAE, and facts about it."""
    chosen = SIZES[size]
    (width, depth, heads), (narrow, few, fewer) = chosen.encoder, chosen.decoder
    config = ViTMAEConfig(
        image_size=chosen.image,
        num_channels=chosen.channels,
        patch_size=chosen.patch,
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
    model = ViTMAEForPreTraining(config).to(DEVICE)
    pixels = torch.from_numpy(images(chosen, batch)).to(DEVICE).permute(0, 3, 1, 2).float().div(127.5).sub(1)
    pixels = pixels.contiguous()
    forward = torch.compile(model) if compiled else model
    step, parameters = training(model, lambda: forward(pixels).loss, dtype)
    return {"torch": step}, {"parameters": parameters, "version": torch.__version__}
