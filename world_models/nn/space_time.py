"""A transformer over the tokens of many frames that attends within frames and, causally, over time."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from world_models.core.sharding import split_batch
from world_models.core.types import Array
from world_models.nn.options import TransformerOptions
from world_models.nn.transformer import REMAT, Block, Transformer


class Cache(NamedTuple):
    """Keys and values of past frames, for `SpaceTimeTransformer.step`; static shapes, however long the stream.

    Attributes:
      keys, values: of the last `window` frames, the newest last: [groups, batch, tokens, window, heads, size].
      count: int32, number of frames seen, at most `window`.
    """

    keys: Array
    values: Array
    count: Array


class Group(nnx.Module):
    """`time_every` blocks: all but the last attend within a frame, the last one over time, each token to itself."""

    def __init__(
        self,
        options: TransformerOptions,
        time_every: int,
        condition: int = 0,
        *,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        # Rematerialization is a choice for the group as a whole.
        depth = time_every - 1
        compute = dataclasses.replace(options.compute, remat="none")
        within = dataclasses.replace(options, depth=depth, compute=compute)
        self.space = Transformer(within, condition, dtype=dtype, rngs=rngs)
        self.time = Block(options, condition, causal=True, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array, window: int, condition: Array | None = None) -> Array:
        """All frames of clips at once; a frame attends to the `window` newest frames, itself included.

        Args:
          x: [batch, time, tokens, width].
          window: number of frames.
          condition: [batch, time, tokens or 1, condition], or None.

        Returns:
          Like `x`.
        """
        batch, time, tokens, width = x.shape
        flat = None if condition is None else condition.reshape(batch * time, *condition.shape[2:])
        x = self.space(x.reshape(batch * time, tokens, width), flat).reshape(x.shape)
        change = self.time.modulate(condition)
        y = self.time.attention_input(x, change)
        q, k, v = self._qkv(y.swapaxes(1, 2).reshape(batch * tokens, time, width))
        positions = np.arange(time)
        mixed = jax.nn.dot_product_attention(
            rotate(q, positions),
            rotate(k, positions),
            v,
            is_causal=True,
            local_window_size=(window - 1, 0) if window < time else None,
            implementation=self.time.attention.implementation,
        )
        mixed = mixed.reshape(batch, tokens, time, *mixed.shape[2:]).swapaxes(1, 2)
        return self.time.finish(x, self.time.attention.out(mixed), change)

    def step(
        self, x: Array, keys: Array, values: Array, visible: Array, condition: Array | None = None
    ) -> tuple[Array, Array, Array]:
        """One frame, given keys and values of those before.

        Keys are cached without rotation and rotated by their age, so that no number grows with the length of a stream.

        Args:
          x: [batch, tokens, width].
          keys, values: [batch, tokens, window, heads, size].
          visible: bool [window], which of them, this frame's included, hold a frame.
          condition: [batch, tokens or 1, condition], or None.

        Returns:
          (outputs like `x`, new keys, new values).
        """
        x = self.space(x, condition)
        change = self.time.modulate(condition)
        q, k, v = (y[:, :, None] for y in self._qkv(self.time.attention_input(x, change)))
        keys, values = (jnp.concatenate([old[:, :, 1:], new], axis=2) for old, new in ((keys, k), (values, v)))
        positions = np.arange(keys.shape[2])
        flat = lambda y: y.reshape(-1, *y.shape[2:])
        mixed = jax.nn.dot_product_attention(
            rotate(flat(q), positions[-1:]), rotate(flat(keys), positions), flat(values), mask=visible[None, None, None]
        )
        attended = self.time.attention.out(mixed.reshape(q[:, :, 0].shape))
        return self.time.finish(x, attended, change), keys, values

    def _qkv(self, x: Array) -> tuple[Array, Array, Array]:
        qkv = self.time.attention.qkv(x)
        return tuple(qkv[..., i, :, :] for i in range(3))


class SpaceTimeTransformer(nnx.Module):
    """`depth` blocks, every `time_every`-th over time; groups of them are stacked and scanned over.

    Positions in time are rotary (Su et al. 2021): only the distance of two frames matters. In one block a frame attends
    to no frame more than `window` − 1 before it, so that a stream may be longer than any clip in training. A condition
    scales, shifts and gates every block (adaLN-zero, see `Block`), per frame or per token.
    """

    def __init__(
        self,
        options: TransformerOptions,
        time_every: int,
        window: int,
        condition: int = 0,
        *,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Builds the blocks.

        Args:
          options: of all blocks; `depth` is a multiple of `time_every`, and `width / heads` is even.
          time_every: number of blocks in a group, at least 2.
          window: frames that a block attends to over time.
          condition: width of a condition, 0 for none.
          dtype: of the computation; parameters are float32.
          rngs: for the initial parameters.
        """
        self.options, self.window, self.dtype = options, window, dtype
        self.time_every, self.num_groups = time_every, options.depth // time_every

        @nnx.split_rngs(splits=self.num_groups)
        @nnx.vmap(in_axes=(0,), transform_metadata={nnx.PARTITION_NAME: "layers"})
        def stacked(rngs: nnx.Rngs) -> Group:
            return Group(options, time_every, condition, dtype=dtype, rngs=rngs)

        self.groups = stacked(rngs)

    def __call__(self, x: Array, condition: Array | None = None) -> Array:
        """All frames of clips at once; no frame depends on a later one or on its condition.

        Args:
          x: [batch, time, tokens, width].
          condition: of each frame, [batch, time, condition], or of each token, [batch, time, tokens, condition]; None
            for a model without.

        Returns:
          Like `x`.
        """
        graphdef, layers = nnx.split(self.groups)
        condition = _per_token(condition, x)

        def body(x: Array, layer) -> tuple[Array, None]:
            return split_batch(nnx.merge(graphdef, layer)(x, self.window, condition)), None

        if self.options.compute.remat != "none":
            body = jax.checkpoint(body, policy=REMAT[self.options.compute.remat], prevent_cse=False)
        unroll = -(-self.options.unroll // self.time_every)
        return jax.lax.scan(body, split_batch(x), nnx.as_pure(layers), unroll=unroll)[0]

    def cache(self, batch: int, tokens: int) -> Cache:
        """The cache before the first frame."""
        heads = self.options.heads
        shape = (self.num_groups, batch, tokens, self.window, heads, self.options.width // heads)
        return Cache(jnp.zeros(shape, self.dtype), jnp.zeros(shape, self.dtype), jnp.zeros((), jnp.int32))

    def step(self, cache: Cache, x: Array, condition: Array | None = None) -> tuple[Cache, Array]:
        """The next frame of a stream: equals `__call__` on all frames so far, at its last frame.

        Args:
          cache: from `cache` or the step before.
          x: [batch, tokens, width].
          condition: of the frame, [batch, condition], or of each token, [batch, tokens, condition], or None.

        Returns:
          (the new cache, outputs like `x`).
        """
        graphdef, layers = nnx.split(self.groups)
        condition = _per_token(condition, x)
        count = cache.count + 1
        visible = np.arange(self.window) >= self.window - count

        def body(x: Array, group) -> tuple[Array, tuple[Array, Array]]:
            layer, keys, values = group
            x, *kept = nnx.merge(graphdef, layer).step(x, keys, values, visible, condition)
            return x, tuple(kept)

        x, (keys, values) = jax.lax.scan(body, x, (nnx.as_pure(layers), cache.keys, cache.values))
        return Cache(keys, values, jnp.minimum(count, self.window)), x


def _per_token(condition: Array | None, x: Array) -> Array | None:
    """A condition of each token or of each frame as [..., tokens or 1, condition], in the dtype of tokens `x`."""
    if condition is None:
        return None
    return (condition if condition.ndim == x.ndim else condition[..., None, :]).astype(x.dtype)


def rotate(x: Array, positions: np.ndarray) -> Array:
    """Rotary positions: rotates queries or keys [batch, time, heads, size] by their `positions` [time].

    Channels i and i + size/2 are a point in the plane, rotated by position · 10,000^(−2i / size): the dot product of
    two such vectors depends on the difference of their positions alone (Su et al. 2021, RoFormer, section 3.2.2).
    """
    half = x.shape[-1] // 2
    angle = positions[:, None, None] * 10_000.0 ** -(np.arange(half) / half)
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1).astype(x.dtype)
