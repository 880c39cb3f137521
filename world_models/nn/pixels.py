"""The pixel adapter: uint8 frames to the floats that a model computes with, and back."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from world_models.core.types import Array
from world_models.nn.options import PixelOptions

# Rows: the mean of the channels, red minus green, green minus blue. The last two are 0 where a pixel is gray.
OPPONENT = np.array([[1 / 3, 1 / 3, 1 / 3], [1, -1, 0], [0, 1, -1]], np.float32)


@dataclasses.dataclass(frozen=True)
class Pixels:
    """Converts frames, or patches of them, whose last axis holds whole pixels with the channel varying fastest."""

    options: PixelOptions = PixelOptions()

    def normalize(self, frames: Array) -> jax.Array:
        """Model floats of frames: float32 [..., n·channels], in standard deviations from the mean.

        Args:
          frames: [..., n·channels], uint8 or float in 0..255; n is 1 for frames, the pixels of a patch for patches.
        """
        x = jnp.asarray(frames).astype(jnp.float32)
        if self.options.color == "opponent":
            x = _mix_channels(x, OPPONENT)
        mean, std = self._statistics(x.shape[-1])
        return x / (255 * std) - mean / std

    def intensities(self, x: Array) -> jax.Array:
        """The inverse of `normalize` before rounding: float32 like `x`, in 0..1 where 255 is 1; not clipped."""
        mean, std = self._statistics(x.shape[-1])
        x = x * std + mean
        return _mix_channels(x, np.linalg.inv(OPPONENT)) if self.options.color == "opponent" else x

    def restore(self, x: Array) -> jax.Array:
        """The inverse of `normalize`: uint8 like `x`, clipped to 0..255."""
        return jnp.round(255 * jnp.clip(self.intensities(x), 0, 1)).astype(jnp.uint8)

    def quantize(self, x: Array) -> jax.Array:
        """The model floats nearest to `x` that uint8 frames have; no gradient passes."""
        return self.normalize(self.restore(x))

    def _statistics(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation, repeated to a last axis of `size`."""
        return np.resize(np.float32(self.options.mean), size), np.resize(np.float32(self.options.std), size)


def _mix_channels(x: Array, matrix: np.ndarray) -> jax.Array:
    """Multiplies the three channels of every pixel [..., n·3] by a matrix [3, 3]."""
    pixels = x.reshape(*x.shape[:-1], -1, 3)
    return jnp.einsum("...c,dc->...d", pixels, matrix, precision="highest").reshape(x.shape)
