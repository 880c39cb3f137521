"""Frame metrics that XLA can compile: PSNR and SSIM per frame, over all pixels or over those that change.

The data range is 1.0 everywhere: uint8 frames (0..255) are divided by 255, float frames are taken to be in 0..1. Every
metric is per frame; a mean over frames is a mean of PSNRs, which is not the PSNR of the mean error.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from world_models.core.types import Array

MIN_MSE = 1 / (12 * 255**2)
"""Mean squared error of rounding to 8 bits: `psnr` takes no error for smaller than that."""

MAX_PSNR = -10 * math.log10(MIN_MSE)
"""58.92 dB, the PSNR of identical frames, so that a still scene does not make a mean over frames infinite."""

_WINDOW = 11
_SIGMA = 1.5
_C1 = 0.01**2
_C2 = 0.03**2


def mse(prediction: Array, truth: Array, mask: Array | None = None) -> jax.Array:
    """Mean squared error of every frame, in units of images in 0..1.

    Args:
      prediction, truth: [..., h, w, c], uint8 0..255 or float 0..1; leading axes broadcast.
      mask: bool [..., h, w], the pixels that count (all their channels); None counts all of them.

    Returns:
      float32 [...], NaN where the mask is empty.
    """
    error = jnp.mean(jnp.square(_unit(prediction) - _unit(truth)), axis=-1)
    return _masked_mean(error, mask)


def absolute_error(prediction: Array, truth: Array) -> jax.Array:
    """Mean absolute error of every frame, in units of images in 0..1: float32 [...] from frames [..., h, w, c]."""
    return jnp.mean(jnp.abs(_unit(prediction) - _unit(truth)), axis=(-3, -2, -1))


def psnr(prediction: Array, truth: Array, mask: Array | None = None) -> jax.Array:
    """Peak signal-to-noise ratio of every frame in dB, `10 log10(1 / MSE)`, at most `MAX_PSNR` (58.92 dB).

    Args:
      prediction, truth: [..., h, w, c], uint8 0..255 or float 0..1; leading axes broadcast.
      mask: bool [..., h, w], the pixels that count (all their channels); None counts all of them.

    Returns:
      float32 [...], NaN where the mask is empty.
    """
    return -10 * jnp.log10(jnp.maximum(mse(prediction, truth, mask), MIN_MSE))


def ssim(prediction: Array, truth: Array, mask: Array | None = None) -> jax.Array:
    """Structural similarity of every frame (Wang et al. 2004): 11x11 Gaussian, σ = 1.5, K1 = 0.01, K2 = 0.03.

    Computed per channel with population covariances and averaged over channels. Without a mask only windows that lie
    wholly inside the frame count, as in the original. With a mask the map has the frame's size, with reflection beyond
    its borders (edge pixels not repeated), and is averaged over the masked pixels: an all-true mask therefore differs
    a little from no mask.

    Args:
      prediction, truth: [..., h, w, c], uint8 0..255 or float 0..1; leading axes broadcast; h and w at least 11.
      mask: bool [..., h, w], the pixels (centres of windows) that count; None counts all valid windows.

    Returns:
      float32 [...] in -1..1, NaN where the mask is empty.

    Raises:
      ValueError: the frames are smaller than the window.
    """
    x, y = _unit(prediction), _unit(truth)
    if min(*x.shape[-3:-1], *y.shape[-3:-1]) < _WINDOW:
        raise ValueError(f"ssim needs frames of at least {_WINDOW}x{_WINDOW} pixels, not {x.shape} and {y.shape}")
    if mask is not None:
        x, y = _reflect(x), _reflect(y)
    mean_x, mean_y = _blur(x), _blur(y)
    variance_x = _blur(x * x) - mean_x**2
    variance_y = _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    structure = (2 * covariance + _C2) / (variance_x + variance_y + _C2)
    return _masked_mean(jnp.mean(luminance * structure, axis=-1), mask)


@functools.partial(jax.jit, static_argnames="threshold")
def changed_pixels(frames: Array, threshold: float) -> jax.Array:
    """Where the world has moved since the context ended; accumulates over the horizon.

    Args:
      frames: uint8 [..., time, h, w, c], 0..255, whose time 0 is the last context frame.
      threshold: a pixel changes between two consecutive frames where some channel differs by more than this (of 255).

    Returns:
      bool [..., time - 1, h, w]; entry k - 1, horizon k, is true where any consecutive pair up to frame k changed.
    """
    frames = jnp.asarray(frames)
    if frames.dtype != jnp.uint8:
        raise TypeError(f"changed_pixels needs uint8 frames, not {frames.dtype}")
    frames = frames.astype(jnp.int32)
    difference = jnp.abs(frames[..., 1:, :, :, :] - frames[..., :-1, :, :, :])
    changed = jnp.max(difference, axis=-1) > threshold
    return jax.lax.associative_scan(jnp.logical_or, changed, axis=changed.ndim - 3)


def _unit(frames: Array) -> jax.Array:
    """uint8 0..255 or float 0..1 to float32 0..1."""
    frames = jnp.asarray(frames)
    if frames.dtype == jnp.uint8:
        return frames.astype(jnp.float32) / 255
    if not jnp.issubdtype(frames.dtype, jnp.floating):
        raise TypeError(f"frames must be uint8 (0..255) or floating point (0..1), not {frames.dtype}")
    return frames.astype(jnp.float32)


def _masked_mean(values: jax.Array, mask: Array | None) -> jax.Array:
    """Mean over the last two axes of `values` [..., h, w], over the mask where there is one."""
    if mask is None:
        return jnp.mean(values, axis=(-2, -1))
    mask = jnp.asarray(mask, bool)
    count = jnp.sum(mask, axis=(-2, -1), dtype=jnp.float32)
    total = jnp.sum(jnp.where(mask, values, 0), axis=(-2, -1))
    return jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan)


def _reflect(x: jax.Array) -> jax.Array:
    pad = (_WINDOW // 2, _WINDOW // 2)
    return jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [pad, pad, (0, 0)], mode="reflect")


def _blur(x: jax.Array) -> jax.Array:
    """Gaussian mean over windows inside [..., h, w, c]: [..., h - 10, w - 10, c].

    Products with banded matrices: three times as fast on CPU as sums of shifted slices. The highest precision, as
    accelerators would otherwise multiply in bfloat16 or TF32.
    """
    for axis in (x.ndim - 3, x.ndim - 2):
        x = jnp.moveaxis(jnp.tensordot(x, _windows(x.shape[axis]), axes=(axis, 0), precision="highest"), -1, axis)
    return x


def _windows(size: int) -> np.ndarray:
    """The weights of all windows inside an axis, float32 [size, size - 10]."""
    offsets = np.arange(size)[:, None] - np.arange(size - _WINDOW + 1) - _WINDOW // 2
    weights = np.where(abs(offsets) <= _WINDOW // 2, np.exp(-0.5 * (offsets / _SIGMA) ** 2), 0)
    return (weights / weights.sum(axis=0)).astype(np.float32)
