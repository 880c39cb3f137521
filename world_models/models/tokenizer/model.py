"""A causal tokenizer of video: a masked autoencoder whose bottleneck is a few bounded latents per frame.

After the tokenizer of Dreamer 4 (Hafner et al. 2025, arXiv 2509.24527, section 3.1), with two simplifications: within
a frame all tokens attend to all, and the loss is the squared error alone, without LPIPS, which needs a pretrained
network.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from world_models.core.sharding import axes
from world_models.core.types import Array, Clip
from world_models.models.tokenizer.options import TokenizerOptions
from world_models.nn.options import TransformerOptions
from world_models.nn.patches import patchify, unpatchify
from world_models.nn.pixels import Pixels
from world_models.nn.space_time import Cache, SpaceTimeTransformer
from world_models.nn.transformer import EPSILON, sincos_positions

_small = nnx.initializers.normal(0.02)
_xavier = nnx.initializers.xavier_uniform()


class Sizes(NamedTuple):
    """Values of an input and an output token, and into or from how many tokens each is embedded or read."""

    inputs: int
    outputs: int
    embedded: int = 1
    read: int = 1


def _linear(
    inputs: int, outputs: int, names: tuple[str | None, str | None], dtype, rngs: nnx.Rngs, init=_xavier
) -> nnx.Linear:
    return nnx.Linear(
        inputs,
        outputs,
        kernel_init=init,
        kernel_metadata=axes(*names),
        bias_metadata=axes(names[-1]),
        dtype=dtype,
        rngs=rngs,
    )


def _learned(count: int, width: int, rngs: nnx.Rngs) -> nnx.Param:
    return nnx.Param(_small(rngs.params(), (count, width)), **axes(None, "width"))


class TokenTransformer(nnx.Module):
    """A space-time transformer from input tokens to output tokens of each frame."""

    def __init__(self, transformer: TransformerOptions, options: TokenizerOptions, sizes: Sizes, rngs: nnx.Rngs):
        """Builds the embedding of inputs, the transformer, and the head of outputs."""
        self.dtype = jnp.dtype(options.dtype)
        width = transformer.width
        self.embed = _linear(sizes.inputs, sizes.embedded * width, (None, "width"), self.dtype, rngs)
        self.transformer = SpaceTimeTransformer(
            transformer, options.time_every, options.window, dtype=self.dtype, rngs=rngs
        )
        self.norm = nnx.LayerNorm(width, epsilon=EPSILON, dtype=self.dtype, rngs=rngs)
        self.head = _linear(sizes.read * width, sizes.outputs, ("width", None), self.dtype, rngs, _small)

    def join(self, x: Array, queries: Array) -> Array:
        """Puts queries [n, width] before the embedded tokens [..., m, width] of each frame: [..., n + m, width]."""
        queries = jnp.broadcast_to(queries.astype(x.dtype), (*x.shape[:-2], *queries.shape))
        return jnp.concatenate([queries, x], axis=-2)


class CausalTokenizer(nnx.Module):
    """Maps frames to latents in [-1, 1] and back, causally in time: an `Encoder` and a `Decoder` of `core.types`.

    Clips may have any length: positions in time are relative, and a block attends to `TokenizerOptions.window` frames
    at most. `encode_step` and `decode_step` do the same as `encode` and `decode`, one frame at a time.
    """

    def __init__(self, options: TokenizerOptions, frame_shape: tuple[int, int, int], *, rngs: nnx.Rngs):
        """Builds the model for frames of `frame_shape` = (height, width, channel), multiples of the patch."""
        self.options, self.frame_shape = options, frame_shape
        self.pixels = Pixels(options.pixels)
        height, width, channels = frame_shape
        self.rows, self.columns = height // options.patch, width // options.patch
        self.num_patches, pixels = self.rows * self.columns, options.patch**2 * channels
        # Patches along each side of the square that a latent stands for; 0 where latents are learned queries.
        self.side = math.isqrt(self.num_patches // options.latents) if options.layout == "grid" else 0
        merged = self.side**2 or 1
        self.encoder = TokenTransformer(
            options.encoder, options, Sizes(pixels, options.latent_channels, read=merged), rngs
        )
        self.latent_queries = None if self.side else _learned(options.latents, options.encoder.width, rngs)
        self.mask_token = _learned(1, options.encoder.width, rngs)
        self.latent_norm = nnx.RMSNorm(options.latent_channels, epsilon=EPSILON, use_scale=False, rngs=rngs)
        self.decoder = TokenTransformer(
            options.decoder, options, Sizes(options.latent_channels, pixels, embedded=merged), rngs
        )
        self.patch_query = None if self.side else _learned(1, options.decoder.width, rngs)
        self.latent_positions = None if self.side else _learned(options.latents, options.decoder.width, rngs)

    @property
    def latent_shape(self) -> tuple[int, int]:
        """(latents, channels) of a frame."""
        return self.options.latents, self.options.latent_channels

    def encode(self, frames: Array, hidden: Array | None = None) -> jax.Array:
        """Latents of clips.

        Args:
          frames: uint8 [batch, time, h, w, c].
          hidden: bool [batch, time, patches], which patches to mask; None for none.

        Returns:
          float32 [batch, time, latents, channels] in [-1, 1]; those of a frame depend on no later frame.
        """
        x = self._patch_tokens(self.patches(frames), hidden)
        return self._latents(self.encoder.transformer(x))

    def decode(self, latents: Array) -> jax.Array:
        """Frames, uint8 [batch, time, h, w, c], of latents [batch, time, latents, channels]."""
        return self._frames(self.predict(latents))

    def predict(self, latents: Array) -> jax.Array:
        """Normalized patches, float32 [batch, time, patches, pixels], of latents [batch, time, latents, channels]."""
        return self._pixels(self.decoder.transformer(self._latent_tokens(latents)))

    def encode_cache(self, batch: int) -> Cache:
        """The cache for `encode_step` before the first frame."""
        return self.encoder.transformer.cache(batch, self._num_tokens)

    def encode_step(self, cache: Cache, frame: Array) -> tuple[Cache, jax.Array]:
        """(the new cache, latents [batch, latents, channels]) of the next frame, uint8 [batch, h, w, c]."""
        x = self._patch_tokens(self.patches(frame[:, None])[:, 0], None)
        cache, x = self.encoder.transformer.step(cache, x)
        return cache, self._latents(x)

    def decode_cache(self, batch: int) -> Cache:
        """The cache for `decode_step` before the first frame."""
        return self.decoder.transformer.cache(batch, self._num_tokens)

    def decode_context(self, latents: Array) -> tuple[Cache, jax.Array]:
        """(the cache for `decode_step` after, the last frame uint8 [batch, h, w, c]) of a whole context's latents."""
        cache, x = self.decoder.transformer.observe(self._latent_tokens(latents))
        return cache, self._frames(self._pixels(x[:, -1:]))[:, 0]

    def decode_step(self, cache: Cache, latents: Array) -> tuple[Cache, jax.Array]:
        """(the new cache, frame uint8 [batch, h, w, c]) of the next frame's latents [batch, latents, channels]."""
        cache, x = self.decoder.transformer.step(cache, self._latent_tokens(latents))
        return cache, self._frames(self._pixels(x)[:, None])[:, 0]

    def mask(self, keys: Array, time: int, ratio: float | None = None) -> jax.Array:
        """Samples masks for clips of `time` frames.

        Args:
          keys: random keys, one an example: [batch].
          time: number of frames.
          ratio: probability that a patch is masked; None samples one from U(0, `mask_ratio_max`) for every frame.

        Returns:
          bool [batch, time, patches], true where masked.
        """

        def one(key: Array) -> Array:
            share, patches = jax.random.split(key)
            drawn = jax.random.uniform(share, (time, 1), maxval=self.options.mask_ratio_max)
            return jax.random.uniform(patches, (time, self.num_patches)) < (drawn if ratio is None else ratio)

        return jax.vmap(one)(keys)

    def shown(self, frames: Array, hidden: Array) -> jax.Array:
        """Frames [batch, time, h, w, c] with their masked patches [batch, time, patches] in grey; uint8."""
        patches = patchify(frames, self.options.patch)
        grey = jnp.where(hidden.reshape(len(frames), -1, 1), jnp.uint8(128), patches)
        return unpatchify(grey, (frames.shape[1], self.rows, self.columns), self.options.patch)

    def loss(self, clip: Clip, keys: Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Mean squared error of all normalized pixels, masked or not, under masks sampled from `keys` [batch].

        Pixels are weighted by `motion`, whose share of the loss is `TokenizerOptions.motion_weight`.
        """
        frames, share = clip.frames, self.options.motion_weight
        predictions = self.predict(self.encode(frames, self.mask(keys, frames.shape[1])))
        errors = (predictions - self.patches(frames)) ** 2
        loss = jnp.mean(errors)
        if share:
            loss = (1 - share) * loss + share * jnp.mean(self.motion(frames) * errors)
        return loss, {"loss": loss}

    def motion(self, frames: Array) -> jax.Array:
        """How far every pixel is from its mean over the clip, beside all pixels of the clip.

        Args:
          frames: uint8 [batch, time, h, w, c].

        Returns:
          float32 [batch, time, patches, pixels], the same in all channels of a pixel, with mean 1 over a clip; 0 in a
          clip whose frames are all alike.
        """
        patches = patchify(frames, self.options.patch).astype(jnp.float32)
        patches = patches.reshape(*frames.shape[:2], self.num_patches, -1, frames.shape[-1])
        apart = jnp.mean(jnp.abs(patches - jnp.mean(patches, axis=1, keepdims=True)), axis=-1, keepdims=True)
        mean = jnp.mean(apart, axis=(1, 2, 3, 4), keepdims=True)
        shares = apart / jnp.where(mean > 0, mean, 1)
        return jnp.broadcast_to(shares, patches.shape).reshape(*patches.shape[:3], -1)

    def patches(self, frames: Array) -> jax.Array:
        """Normalized patches, float32 [batch, time, patches, pixels], of frames in 0..255 [batch, time, h, w, c]."""
        patches = patchify(frames, self.options.patch).reshape(*frames.shape[:2], self.num_patches, -1)
        return self.pixels.normalize(patches)

    @property
    def _num_tokens(self) -> int:
        """Of a frame in either transformer."""
        return self.num_patches + (0 if self.side else self.options.latents)

    def _latents(self, x: Array) -> Array:
        """Latents in [-1, 1] of the encoder's outputs [..., tokens, width].

        Normalized first: tanh alone saturated within 1,000 steps at a learning rate of 1e-3, all latents constant.
        """
        x = self.encoder.norm(x if self.side else x[..., : self.options.latents, :])
        if self.side:
            grid = x.reshape(-1, 1, self.rows, self.columns, x.shape[-1])
            x = patchify(grid, self.side).reshape(*x.shape[:-2], self.options.latents, -1)
        return jnp.tanh(self.latent_norm(self.encoder.head(x).astype(jnp.float32)))

    def _pixels(self, x: Array) -> Array:
        """Normalized patches, float32 [..., patches, pixels], of the decoder's outputs [..., tokens, width]."""
        return self.decoder.head(self.decoder.norm(x[..., : self.num_patches, :])).astype(jnp.float32)

    def _frames(self, patches: Array) -> Array:
        pixels = self.pixels.restore(patches)
        grid = (patches.shape[1], self.rows, self.columns)
        return unpatchify(pixels.reshape(len(patches), -1, patches.shape[-1]), grid, self.options.patch)

    def _patch_tokens(self, patches: Array, hidden: Array | None) -> Array:
        x = self.encoder.embed(patches)
        if hidden is not None:
            x = jnp.where(hidden[..., None], self.mask_token[...].astype(x.dtype), x)
        x = x + jnp.asarray(sincos_positions(self.rows, self.columns, x.shape[-1]), x.dtype)
        return x if self.side else self.encoder.join(x, self.latent_queries[...])

    def _latent_tokens(self, latents: Array) -> Array:
        x = self.decoder.embed(latents)
        positions = sincos_positions(self.rows, self.columns, self.options.decoder.width)
        if self.side:
            grid = (1, self.rows // self.side, self.columns // self.side)
            whole = unpatchify(x.reshape(-1, *x.shape[-2:]), grid, self.side)
            return whole.reshape(*x.shape[:-2], self.num_patches, -1) + jnp.asarray(positions, x.dtype)
        x = x + self.latent_positions[...].astype(x.dtype)
        return self.decoder.join(x, self.patch_query[...] + positions)
