"""Convolutions and pooling of fixed feature networks, in float32 at full precision on every device."""

import jax
import jax.numpy as jnp

from world_models.core.types import Array

Pad = tuple[int, int]


def to_rgb(frames: Array) -> jax.Array:
    """uint8 0..255 or float 0..1 [..., h, w, 1 or 3] as float32 in [-1, 1] with three channels.

    Raises:
      ValueError: for another number of channels.
    """
    frames = jnp.asarray(frames)
    if frames.shape[-1] not in (1, 3):
        raise ValueError(f"frames must have 1 or 3 channels, not {frames.shape[-1]}")
    x = frames.astype(jnp.float32) / (255 if frames.dtype == jnp.uint8 else 1)
    return jnp.broadcast_to(2 * x - 1, (*x.shape[:-1], 3))


def convolve(x: Array, kernel: Array, bias: Array | None = None, stride: int = 1, pad: Pad = (0, 0)) -> jax.Array:
    """[n, h, w, c] with a kernel [height, width, c, out], as PyTorch's `conv2d` pads and strides."""
    y = jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(p, p) for p in pad],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=jax.lax.Precision.HIGHEST,  # accelerators would else compute in bfloat16 or TF32
    )
    return y if bias is None else y + bias


def max_pool(x: Array, size: int, stride: int, pad: int = 0) -> jax.Array:
    """Maximum over squares of [n, h, w, c]."""
    return _reduce(x, -jnp.inf, jax.lax.max, size, stride, pad)


def mean_pool(x: Array, size: int, pad: int) -> jax.Array:
    """Mean over squares of [n, h, w, c] at every place; what lies outside does not count."""
    total = _reduce(x, 0.0, jax.lax.add, size, 1, pad)
    return total / _reduce(jnp.ones_like(x[:1, ..., :1]), 0.0, jax.lax.add, size, 1, pad)


def _reduce(x: Array, start: float, function, size: int, stride: int, pad: int) -> jax.Array:
    padding = ((0, 0), (pad, pad), (pad, pad), (0, 0))
    return jax.lax.reduce_window(x, start, function, (1, size, size, 1), (1, stride, stride, 1), padding)
