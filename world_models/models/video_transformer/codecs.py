"""Between frames and what a video transformer diffuses: patches of pixels, or the latents of a causal tokenizer."""

from typing import Any, Protocol

import jax
import jax.numpy as jnp

from world_models.core.types import Array
from world_models.models.tokenizer.model import CausalTokenizer
from world_models.nn.options import PixelOptions
from world_models.nn.patches import patchify, unpatchify
from world_models.nn.pixels import Pixels


class Codec(Protocol):
    """Maps frames to tokens and back, a stream a frame at a time.

    Attributes:
      latent_shape: (tokens, channels) of a frame.
    """

    latent_shape: tuple[int, int]

    def encode(self, frames: Array) -> jax.Array:
        """Float32 tokens [batch, time, tokens, channels], of uint8 frames [batch, time, h, w, c]."""

    def clip(self, latents: Array) -> jax.Array:
        """Tokens of any shape, moved into the range that `encode` has."""

    def decode_context(self, latents: Array) -> tuple[Any, jax.Array]:
        """(cache for `decode_step`, newest frame uint8 [batch, h, w, c]) of [batch, time, tokens, channels]."""

    def decode_step(self, cache: Any, latents: Array) -> tuple[Any, jax.Array]:
        """(the new cache, frame uint8 [batch, h, w, c]) of the next frame's tokens [batch, tokens, channels]."""


class PatchCodec:
    """Tokens are the patches of a frame: `pixels`-normalized, flattened, row by row. Nothing is learned or cached."""

    def __init__(self, frame_shape: tuple[int, int, int], patch: int, pixels: PixelOptions):
        """`patch` divides height and width of frames of (height, width, channel)."""
        height, width, channels = frame_shape
        self.patch, self.pixels = patch, Pixels(pixels)
        self.grid = (height // patch, width // patch)
        self.latent_shape = (self.grid[0] * self.grid[1], patch**2 * channels)

    def encode(self, frames: Array) -> jax.Array:
        """As of every `Codec`."""
        patches = patchify(frames, self.patch).reshape(*frames.shape[:2], *self.latent_shape)
        return self.pixels.normalize(patches)

    def clip(self, latents: Array) -> jax.Array:
        """The nearest tokens that frames of uint8 have."""
        return self.pixels.quantize(latents)

    def decode_context(self, latents: Array) -> tuple[None, jax.Array]:
        """As of every `Codec`."""
        return self.decode_step(None, latents[:, -1])

    def decode_step(self, cache: None, latents: Array) -> tuple[None, jax.Array]:
        """As of every `Codec`."""
        return cache, unpatchify(self.pixels.restore(latents), (1, *self.grid), self.patch)[:, 0]


class TokenizerCodec:
    """The latents of a `CausalTokenizer`, which is only used here, not owned."""

    def __init__(self, tokenizer: CausalTokenizer):
        """Wraps a tokenizer."""
        self.tokenizer, self.latent_shape = tokenizer, tokenizer.latent_shape

    def encode(self, frames: Array) -> jax.Array:
        """As of every `Codec`; no gradient passes."""
        return jax.lax.stop_gradient(self.tokenizer.encode(frames))

    def clip(self, latents: Array) -> jax.Array:
        """Within [-1, 1]."""
        return jnp.clip(latents, -1, 1)

    def decode_context(self, latents: Array) -> tuple[Any, jax.Array]:
        """As of every `Codec`."""
        return self.tokenizer.decode_context(latents)

    def decode_step(self, cache: Any, latents: Array) -> tuple[Any, jax.Array]:
        """As of every `Codec`."""
        return self.tokenizer.decode_step(cache, latents)
