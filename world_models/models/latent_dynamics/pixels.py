"""Frames as a model sees them: in colours and units in which small things are not lost beside large ones."""

import jax
import jax.numpy as jnp
import numpy as np

from world_models.core.types import Array
from world_models.models.latent_dynamics.options import PixelOptions

# Rows: the mean of the channels, red against green, green against blue. Whatever is gray is 0 in the last two.
OPPONENT = np.array([[1 / 3, 1 / 3, 1 / 3], [1, -1, 0], [0, 1, -1]], np.float32)


class Pixels(PixelOptions):
    """How uint8 frames become numbers, and back."""

    def normalize(self, frames: Array) -> jax.Array:
        """Uint8 frames [..., h, w, c] -> float32 of that shape, in standard deviations from the mean."""
        x = jnp.asarray(frames, jnp.float32) / 255
        if self.color == "opponent":
            x = jnp.einsum("...c,dc->...d", x, OPPONENT, precision="highest")
        mean, std = self._of(x.shape[-1])
        return (x - mean) / std

    def restore(self, x: Array) -> jax.Array:
        """The inverse of `normalize`: uint8, clipped to what a byte can hold."""
        mean, std = self._of(x.shape[-1])
        x = x * std + mean
        if self.color == "opponent":
            x = jnp.einsum("...d,cd->...c", x, np.linalg.inv(OPPONENT), precision="highest")
        return jnp.round(255 * jnp.clip(x, 0, 1)).astype(jnp.uint8)

    def _of(self, channels: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation, [channels] each."""
        return tuple(np.resize(np.float32(values), channels) for values in (self.mean, self.std))
