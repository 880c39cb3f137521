"""What configs of several families are checked for before anything is made: one sentence that names the field."""

import math
from collections.abc import Sequence
from typing import Any

import jax

from world_models.core.errors import config_error
from world_models.models.tokenizer.options import TokenizerOptions
from world_models.nn.operations import operations
from world_models.nn.options import COLORS, MLPS, NORMS, HeadOptions, PixelOptions, TransformerOptions
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
    check_one_of(block, options, norm=NORMS, mlp=MLPS)
    if options.kv_heads < 0 or (options.kv_heads and options.heads % options.kv_heads):
        raise config_error(f"{block}.kv_heads", options.kv_heads, f"be 0 or divide {block}.heads={options.heads}")
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


def check_pixels(pixels: PixelOptions, channels: int, block: str = "config.model.pixels") -> None:
    """Raises ConfigError if a block of pixel options does not fit frames of so many channels."""
    for name in ("mean", "std"):
        values = tuple(getattr(pixels, name))
        if len(values) not in (1, channels):
            raise config_error(f"{block}.{name}", values, f"have 1 or {channels} numbers")
    if min(pixels.std) <= 0:
        raise config_error(f"{block}.std", tuple(pixels.std), "be above 0")
    check_one_of(block, pixels, color=COLORS if channels == 3 else COLORS[:1])


def check_space_time(block: str, field: str, options: TransformerOptions, time_every: int) -> None:
    """Checks the options that `block`.`field` gives a space-time transformer with a block over time every so many."""
    check_transformer(f"{block}.{field}", options)
    if options.width // options.heads % 2:
        valid = f"be an even multiple of {block}.{field}.heads={options.heads}"
        raise config_error(f"{block}.{field}.width", options.width, valid)
    if options.depth % time_every:
        valid = f"be a multiple of {block}.time_every={time_every}"
        raise config_error(f"{block}.{field}.depth", options.depth, valid)


def check_window(block: str, window: int, clip_length: int) -> None:
    """Raises ConfigError if `block`.window is not from 1 to `config.data.clip_length`."""
    if not 1 <= window <= clip_length:
        valid = f"be from 1 to config.data.clip_length={clip_length}: no clip in training is longer"
        raise config_error(f"{block}.window", window, valid)


def check_tokenizer(
    block: str, options: TokenizerOptions, frame_shape: Sequence[int], clip_length: int | None = None
) -> None:
    """Checks the options of a tokenizer for frames of (height, width, channel), trained on clips of `clip_length`.

    A tokenizer that was trained before may have seen longer clips: then there is no `clip_length`.

    Raises:
      ConfigError: if they cannot work.
    """
    check_patches(options.patch, frame_shape, f"{block}.patch")
    for name in ("latents", "latent_channels", "time_every"):
        check_least(block, options, name, 1)
    check_one_of(block, options, layout=("queries", "grid"))
    patches = frame_shape[0] * frame_shape[1] // options.patch**2
    side = math.isqrt(patches // options.latents)
    if options.layout == "grid" and (
        side**2 * options.latents != patches or any(size // options.patch % side for size in frame_shape[:2])
    ):
        valid = f"be {patches} patches divided by a square that tiles them, or have {block}.layout='queries'"
        raise config_error(f"{block}.latents", options.latents, valid)
    for name in ("mask_ratio_max", "motion_weight"):
        if not 0 <= getattr(options, name) < 1:
            raise config_error(f"{block}.{name}", getattr(options, name), "be at least 0 and below 1")
    if clip_length is not None:
        if clip_length < 1:
            raise config_error("config.data.clip_length", clip_length, "be at least 1")
        check_window(block, options.window, clip_length)
    check_one_of(block, options, dtype=("float32", "bfloat16"))
    check_pixels(options.pixels, frame_shape[-1], f"{block}.pixels")
    for name in ("encoder", "decoder"):
        check_space_time(block, name, getattr(options, name), options.time_every)
