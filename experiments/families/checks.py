"""What configs of several families are checked for before anything is made: one sentence that names the field."""

from collections.abc import Sequence

import jax

from world_models.core.errors import UserError
from world_models.nn.options import TransformerOptions
from world_models.nn.transformer import REMAT


def check_transformer(block: str, options: TransformerOptions) -> None:
    """Checks the options that `block` of the config, such as "config.encoder", gives a transformer.

    Raises:
      UserError: if they cannot work, here or at all.
    """
    if options.heads < 1 or options.width % options.heads or options.width % 4:
        raise UserError(f"{block}.width={options.width} must be a multiple of {block}.heads={options.heads} and of 4.")
    if options.depth < 1 or not 1 <= options.unroll <= options.depth:
        raise UserError(
            f"{block}.depth={options.depth} must be at least 1, and {block}.unroll={options.unroll} between 1 and that."
        )
    for name, allowed in {"remat": tuple(REMAT), "attention": ("xla", "cudnn")}.items():
        if getattr(options, name) not in allowed:
            raise UserError(f"{block}.{name}={getattr(options, name)!r} must be one of {allowed}.")
    if options.attention == "cudnn" and jax.default_backend() != "gpu":
        raise UserError(
            f"{block}.attention='cudnn' needs an NVIDIA GPU, and this is a {jax.default_backend()}: set it to 'xla'."
        )


def check_patches(patch: int, frame_shape: Sequence[int]) -> None:
    """Refuses `config.model.patch` if it does not divide frames of shape (height, width, channel)."""
    height, width, _ = frame_shape
    if patch < 1 or height % patch or width % patch:
        raise UserError(
            f"Frames of {height}x{width} must be multiples of config.model.patch={patch}: set that or "
            "config.data.image_size."
        )


def check_pixels(mean: Sequence[float], std: Sequence[float], channels: int) -> None:
    """Refuses `config.model.pixel_mean` and `pixel_std` that do not fit frames of so many channels."""
    for name, values in {"pixel_mean": mean, "pixel_std": std}.items():
        if len(values) not in (1, channels):
            raise UserError(f"config.model.{name}={tuple(values)} must have 1 or {channels} numbers.")
    if min(std) <= 0:
        raise UserError(f"config.model.pixel_std={tuple(std)} must be above 0.")
