"""What configs of several families are checked for before anything is made: one sentence that names the field."""

from collections.abc import Sequence
from typing import Any

import jax

from world_models.core.errors import config_error
from world_models.nn.operations import operations
from world_models.nn.options import COLORS, HeadOptions, PixelOptions, TransformerOptions
from world_models.nn.transformer import REMAT


def check_transformer(block: str, options: TransformerOptions) -> None:
    """Checks the options that `block` of the config, such as "config.model.encoder", gives a transformer.

    Raises:
      UserError: if they cannot work, here or at all.
    """
    if options.heads < 1 or options.width % options.heads or options.width % 4:
        raise config_error(f"{block}.width", options.width, f"be a multiple of {block}.heads={options.heads} and of 4")
    compute = options.compute
    check_least(block, options, "depth", 1)
    if compute.unroll < -1 or compute.unroll == 0:
        raise config_error("config.runtime.compute.unroll", compute.unroll, "be at least 1, or -1 for all blocks")
    operations(compute.ops)
    check_one_of("config.runtime.compute", compute, remat=tuple(REMAT), attention=("xla", "cudnn"))
    if compute.attention == "cudnn" and jax.default_backend() != "gpu":
        raise config_error(
            "config.runtime.compute.attention",
            "cudnn",
            f"be 'xla' on a {jax.default_backend()}: it needs an NVIDIA GPU",
        )


def check_one_of(block: str, options: Any, **allowed: Sequence[Any]) -> None:
    """Raises ConfigError if a field of `options`, the block of that name, is none of its allowed values."""
    for name, values in allowed.items():
        if getattr(options, name) not in values:
            raise config_error(f"{block}.{name}", getattr(options, name), f"be one of {', '.join(map(repr, values))}")


def check_least(block: str, options: Any, name: str, least: float) -> None:
    """Raises ConfigError if a field of `options`, the block of that name, is below `least`."""
    if getattr(options, name) < least:
        raise config_error(f"{block}.{name}", getattr(options, name), f"be at least {least}")


def check_within_episodes(across_episodes: bool) -> None:
    """Raises ConfigError if clips may run over the end of an episode, for models that learn what actions lead to."""
    if across_episodes:
        raise config_error(
            "config.data.across_episodes", True, "be False: no action leads from one episode to the next"
        )


def check_patches(patch: int, frame_shape: Sequence[int], field: str = "config.model.patch") -> None:
    """Raises ConfigError if a patch size does not divide frames of shape (height, width, channel)."""
    height, width, _ = frame_shape
    if patch < 1 or height % patch or width % patch:
        raise config_error(field, patch, f"divide frames of {height}x{width}: set it or config.data.image_size")


def check_heads(heads: HeadOptions) -> None:
    """Raises ConfigError if `config.model.heads` has a negative weight or no width."""
    for name, least in (("reward", 0), ("terminal", 0), ("hidden", 1)):
        check_least("config.model.heads", heads, name, least)


def check_pixels(pixels: PixelOptions, channels: int) -> None:
    """Raises ConfigError if `config.model.pixels` does not fit frames of so many channels."""
    block = "config.model.pixels"
    for name in ("mean", "std"):
        values = tuple(getattr(pixels, name))
        if len(values) not in (1, channels):
            raise config_error(f"{block}.{name}", values, f"have 1 or {channels} numbers")
    if min(pixels.std) <= 0:
        raise config_error(f"{block}.std", tuple(pixels.std), "be above 0")
    check_one_of(block, pixels, color=COLORS if channels == 3 else COLORS[:1])
