"""Colours in CIE Lab, where distances are like those that people see."""

import jax
import jax.numpy as jnp
import numpy as np

from world_models.core.types import Array

# Linear sRGB to XYZ (IEC 61966-2-1), each row divided by the white point D65.
_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_TO_XYZ = (_XYZ / _XYZ.sum(axis=1, keepdims=True)).astype(np.float32)


def rgb_to_lab(frames: Array) -> jax.Array:
    """sRGB [..., 3] in 0..255 to float32 [..., 3]: L in 0..100, a (green to red) and b (blue to yellow) in ±128."""
    rgb = jnp.asarray(frames).astype(jnp.float32) / 255
    linear = jnp.where(rgb > 0.04045, ((jnp.maximum(rgb, 0) + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = jnp.einsum("...c,dc->...d", linear, _TO_XYZ, precision="highest")
    limit = 6 / 29
    root = jnp.where(xyz > limit**3, jnp.cbrt(jnp.maximum(xyz, limit**3)), xyz / (3 * limit**2) + 4 / 29)
    x, y, z = root[..., 0], root[..., 1], root[..., 2]
    return jnp.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)
