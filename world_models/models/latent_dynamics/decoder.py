"""A probe decoder, which shows what latents contain; by default it does not train the latents."""

import jax
from flax import nnx

from world_models.core.sharding import axes
from world_models.core.types import Array
from world_models.models.latent_dynamics.options import DecoderOptions


class Decoder(nnx.Module):
    """A linear map to a coarse image, then convolutions with upsampling by 2 before each."""

    def __init__(self, options: DecoderOptions, width: int, frame_shape: tuple[int, int, int], *, rngs: nnx.Rngs):
        """Builds it for latents [..., width] and frames of (height, width, channel)."""
        channels, (height, breadth, colours) = options.channels, frame_shape
        self.frame_shape = frame_shape
        shrink = 2 ** len(channels)
        self.grid = (-(-height // shrink), -(-breadth // shrink), channels[0])  # cropped at the end
        cells = self.grid[0] * self.grid[1] * self.grid[2]
        self.spread = nnx.Linear(width, cells, kernel_metadata=axes("width", "mlp"), rngs=rngs)
        sizes = list(zip(channels, [*channels[1:], colours]))
        self.convolutions = nnx.List([nnx.Conv(a, b, (3, 3), rngs=rngs) for a, b in sizes])

    def __call__(self, z: Array) -> jax.Array:
        """Latents [..., width] -> normalized frames, float32 [..., h, w, c]."""
        x = self.spread(z).reshape(-1, *self.grid)
        for convolution in self.convolutions:
            x = convolution(nnx.relu(x).repeat(2, axis=1).repeat(2, axis=2))
        height, width, _ = self.frame_shape
        return x[:, :height, :width].reshape(*z.shape[:-1], *self.frame_shape)
