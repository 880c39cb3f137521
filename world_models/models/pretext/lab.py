"""Colours in CIE Lab, where distances are like those that people see, and bins of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial import ConvexHull

from world_models.core.types import Array

# Linear sRGB to XYZ (IEC 61966-2-1), each row divided by the white point D65.
_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_TO_XYZ = (_XYZ / _XYZ.sum(axis=1, keepdims=True)).astype(np.float32)


_LIMIT = 6 / 29
"""Where the cube root of Lab becomes a line."""


def rgb_to_lab(frames: Array) -> jax.Array:
    """sRGB [..., 3] in 0..255 to float32 [..., 3]: L in 0..100, a (green to red) and b (blue to yellow) in ±128."""
    xyz = jnp.einsum("...c,dc->...d", _linear(frames), _TO_XYZ, precision="highest")
    root = jnp.where(xyz > _LIMIT**3, jnp.cbrt(jnp.maximum(xyz, _LIMIT**3)), xyz / (3 * _LIMIT**2) + 4 / 29)
    x, y, z = root[..., 0], root[..., 1], root[..., 2]
    return jnp.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def lab_to_rgb(lab: Array) -> jax.Array:
    """The inverse of `rgb_to_lab`: float32 [..., 3] in 0..255; what sRGB does not have is clipped."""
    y = (lab[..., 0] + 16) / 116
    root = jnp.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    xyz = jnp.where(root > _LIMIT, root**3, 3 * _LIMIT**2 * (root - 4 / 29))
    return _curved(jnp.einsum("...c,dc->...d", xyz, np.linalg.inv(_TO_XYZ), precision="highest"))


def same_lightness(frames: Array) -> jax.Array:
    """Grey frames float32 [..., 3] in 0..255 with the lightness L of frames [..., 3]."""
    luminance = jnp.einsum("...c,c->...", _linear(frames), _TO_XYZ[1], precision="highest")
    return jnp.repeat(_curved(luminance)[..., None], 3, axis=-1)


def _linear(frames: Array) -> jax.Array:
    """Light of sRGB in 0..255: float32 in 0..1."""
    rgb = jnp.asarray(frames).astype(jnp.float32) / 255
    return jnp.where(rgb > 0.04045, ((jnp.maximum(rgb, 0) + 0.055) / 1.055) ** 2.4, rgb / 12.92)


def _curved(linear: Array) -> jax.Array:
    """The inverse of `_linear`; light outside 0..1 is clipped."""
    linear = jnp.clip(linear, 0, 1)
    curved = 1.055 * jnp.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055
    return 255 * jnp.where(linear > 0.0031308, curved, 12.92 * linear)


@functools.cache
def gamut_bins(step: int = 10) -> np.ndarray:
    """The (a, b) on a grid that stand for the colours of sRGB: float32 [bins, 2], in order.

    They are the corners of all cells of the grid that the convex hull of the (a, b) of sRGB touches, so that any mean
    of colours lies among four of them; with a step of 10 they are 313, as in Zhang et al. (2016).

    Args:
      step: between neighbours along either axis; Zhang et al. have 10.
    """
    side = np.linspace(0, 255, 64)
    surface = [
        np.insert(np.stack(np.meshgrid(side, side), -1).reshape(-1, 2), axis, value, axis=1)
        for axis in range(3)
        for value in (0, 255)
    ]
    colors = _ab(np.concatenate(surface))
    hull = ConvexHull(colors).equations  # of every edge: normal · x + offset, below 0 inside
    low, high = np.floor(colors.min(axis=0) / step), np.floor(colors.max(axis=0) / step)
    cells = np.stack(np.meshgrid(*(np.arange(a, b + 1) for a, b in zip(low, high)), indexing="ij"), -1).reshape(-1, 2)
    nearest = step * (cells[:, None] + (hull[:, :2] < 0))  # the corner of a cell that lies furthest inside of an edge
    touched = cells[np.all(np.sum(nearest * hull[:, :2], axis=-1) + hull[:, 2] <= 0, axis=1)]
    corners = touched[:, None] + np.array([(0, 0), (0, 1), (1, 0), (1, 1)])
    return (step * np.unique(corners.reshape(-1, 2), axis=0)).astype(np.float32)


def _ab(rgb: np.ndarray) -> np.ndarray:
    """The same as `rgb_to_lab` in NumPy and float64, of which a and b: [..., 2]."""
    rgb = rgb / 255
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = linear @ _TO_XYZ.T.astype(np.float64)
    x, y, z = np.moveaxis(np.where(xyz > _LIMIT**3, np.cbrt(xyz), xyz / (3 * _LIMIT**2) + 4 / 29), -1, 0)
    return np.stack([500 * (x - y), 200 * (y - z)], axis=-1)
