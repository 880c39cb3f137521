"""Encoders of single frames: a small residual CNN, or the encoder of this project's masked autoencoder."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from world_models.core.sharding import axes
from world_models.core.types import Array
from world_models.models.latent_dynamics.options import CNNOptions, ViTOptions
from world_models.models.masked_autoencoder.model import Encoder as PatchEncoder
from world_models.models.masked_autoencoder.options import MaskedAutoencoderOptions
from world_models.nn.constants import freeze
from world_models.nn.patches import grid_of, patchify


class CNN(nnx.Module):
    """Stacks of a convolution, a pooling and residual blocks."""

    def __init__(self, options: CNNOptions, channels: int, *, dtype, rngs: nnx.Rngs):
        """Builds it for frames of so many channels."""
        self.dtype, stacks = dtype, []
        for width in options.channels:
            first = _conv(channels, width, dtype=dtype, rngs=rngs)
            rest = [_conv(width, width, dtype=dtype, rngs=rngs) for _ in range(2 * options.blocks)]
            stacks.append(nnx.List([first, *rest]))
            channels = width
        self.stacks = nnx.List(stacks)

    def __call__(self, frames: Array) -> Array:
        """Normalized frames [n, h, w, c] -> features [n, outputs]."""
        return self.maps(frames).reshape(len(frames), -1)

    def maps(self, frames: Array) -> Array:
        """The same with the axes of space: [n, rows, columns, size], of frames of any size."""
        x = frames.astype(self.dtype)
        for first, *rest in self.stacks:
            x = nnx.max_pool(first(x), (3, 3), (2, 2), "SAME")
            for one, two in zip(rest[::2], rest[1::2]):
                x = x + two(nnx.relu(one(nnx.relu(x))))
        return nnx.relu(x)


class ViT(PatchEncoder):
    """The masked autoencoder's encoder of all patches; features are the concatenated tokens, which keep positions."""

    def __init__(self, options: ViTOptions, frame_shape: tuple[int, int, int], *, dtype, rngs: nnx.Rngs):
        """Builds it for frames of (height, width, channel)."""
        # The second transformer is the decoder's, which is not built.
        made = MaskedAutoencoderOptions(
            options, options, patch=options.patch, class_token=options.class_token, dtype=str(dtype)
        )
        grid = grid_of((1, *frame_shape), options.patch, 1)
        super().__init__(made, grid, options.patch**2 * frame_shape[-1], rngs=rngs)
        self.patch, self.grid = options.patch, grid[1:]

    def __call__(self, frames: Array) -> Array:
        """Normalized frames [n, h, w, c] -> features [n, outputs]."""
        return self.maps(frames).reshape(len(frames), -1)

    def maps(self, frames: Array) -> Array:
        """The same with the axes of space: [n, rows, columns, width].

        Frames may be smaller than those it was made for, by whole patches: they get the positions of the upper left.
        """
        rows, columns = (side // self.patch for side in frames.shape[1:3])
        indices = None
        if (rows, columns) != self.grid:
            indices = self.grid[1] * np.arange(rows)[:, None] + np.arange(columns)
            indices = np.broadcast_to(indices.reshape(-1), (len(frames), rows * columns))
        tokens = super().__call__(patchify(frames[:, None], self.patch), indices)
        return tokens[:, int(self.class_token is not None) :].reshape(len(frames), rows, columns, -1)


def make_encoder(
    options: CNNOptions | ViTOptions, frame_shape: tuple[int, int, int], *, dtype=jnp.float32, rngs: nnx.Rngs
) -> tuple[nnx.Module, int]:
    """(the encoder, number of features of a frame); in a frozen one the parameters are constants of the same names."""
    dtype = jnp.dtype(dtype)
    if isinstance(options, CNNOptions):
        encoder = CNN(options, frame_shape[-1], dtype=dtype, rngs=rngs)
    else:
        encoder = ViT(options, frame_shape, dtype=dtype, rngs=rngs)
    if options.frozen:
        freeze(encoder)
    frames = jax.ShapeDtypeStruct((1, *frame_shape), jnp.float32)
    features = jax.eval_shape(lambda encoder, frames: encoder(frames), encoder, frames)
    return encoder, features.shape[-1]


def _conv(inputs: int, outputs: int, *, dtype, rngs: nnx.Rngs) -> nnx.Conv:
    names = axes(None, None, "channels_in", "channels_out")
    return nnx.Conv(inputs, outputs, (3, 3), kernel_metadata=names, dtype=dtype, rngs=rngs)
