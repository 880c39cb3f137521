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
    """What a frame-by-frame pass keeps of the frames before: static shapes, however long the stream.

    Attributes:
      keys, values: of the last `window` frames, the newest last: [groups, batch, tokens, window, heads, size].
      count: int32, frames seen so far.
    """

    keys: Array
    values: Array
    count: Array


class Group(nnx.Module):
    """`time_every` blocks: all but the last attend within a frame, the last one over time, each token to itself."""

    def __init__(
        self, options: TransformerOptions, time_every: int, condition: int = 0, *, dtype=jnp.float32, rngs: nnx.Rngs
    ):
        # What is kept for the backward pass is decided for the group as a whole.
        depth = time_every - 1
        compute = dataclasses.replace(options.compute, remat="none")
        within = dataclasses.replace(options, depth=depth, compute=compute)
        self.space = Transformer(within, condition, dtype=dtype, rngs=rngs)
        self.time = Block(options, condition, causal=True, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array, window: int, condition: Array | None = None) -> Array:
        """[batch, time, tokens, width] -> the same; a frame sees the `window` newest frames, itself included.

        The condition is [batch, time, 1 or tokens, condition].
        """
        batch, time, tokens, width = x.shape
        of_frames = None if condition is None else condition.reshape(batch * time, *condition.shape[2:])
        x = self.space(x.reshape(batch * time, tokens, width), of_frames).reshape(x.shape)
        change = self.time.changes(condition)
        y = self.time.modulate_attention(x, change)
        q, k, v = self._qkv(y.swapaxes(1, 2).reshape(batch * tokens, time, width))
        places = np.arange(time)
        mixed = jax.nn.dot_product_attention(
            rotate(q, places),
            rotate(k, places),
            v,
            is_causal=True,
            local_window_size=(window - 1, 0) if window < time else None,
            implementation=self.time.attention.implementation,
        )
        mixed = mixed.reshape(batch, tokens, time, *mixed.shape[2:]).swapaxes(1, 2)
        return self.time.add_branches(x, self.time.attention.out(mixed), change)

    def step(
        self, x: Array, keys: Array, values: Array, seen: Array, condition: Array | None = None
    ) -> tuple[Array, Array, Array]:
        """One frame, [batch, tokens, width]; keys and values [batch, tokens, window, heads, size]; bool [window].

        The condition is [batch, 1 or tokens, condition].

        Keys are kept as they are and turned by their age, so that no number grows with the length of a stream.
        """
        x = self.space(x, condition)
        change = self.time.changes(condition)
        q, k, v = (y[:, :, None] for y in self._qkv(self.time.modulate_attention(x, change)))
        keys, values = (jnp.concatenate([old[:, :, 1:], new], axis=2) for old, new in ((keys, k), (values, v)))
        places = np.arange(keys.shape[2])
        flat = lambda y: y.reshape(-1, *y.shape[2:])
        mixed = jax.nn.dot_product_attention(
            rotate(flat(q), places[-1:]), rotate(flat(keys), places), flat(values), mask=seen[None, None, None]
        )
        branch = self.time.attention.out(mixed.reshape(q[:, :, 0].shape))
        return self.time.add_branches(x, branch, change), keys, values

    def _qkv(self, x: Array) -> tuple[Array, Array, Array]:
        qkv = self.time.attention.qkv(x)
        return tuple(qkv[..., i, :, :] for i in range(3))


class SpaceTimeTransformer(nnx.Module):
    """`depth` blocks, every `time_every`-th over time; groups of them are stacked and scanned over.

    Positions in time are rotary (Su et al. 2021) and depend on the distance of two frames alone, and a block attends to
    `window` frames at most: a stream may be longer than any clip in training. An optional condition of every frame or
    token acts by adaLN-zero, as in `Block`.
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
        """Builds the blocks; `condition` is the width of a condition, 0 for none.

        `depth` is a multiple of `time_every`, which is at least 2; `width / heads` is even.
        """
        self.options, self.window, self.dtype = options, window, dtype
        self.time_every, self.num_groups = time_every, options.depth // time_every

        @nnx.split_rngs(splits=self.num_groups)
        @nnx.vmap(in_axes=(0,), transform_metadata={nnx.PARTITION_NAME: "layers"})
        def stacked(rngs: nnx.Rngs) -> Group:
            return Group(options, time_every, condition, dtype=dtype, rngs=rngs)

        self.groups = stacked(rngs)

    def __call__(self, x: Array, condition: Array | None = None) -> Array:
        """[batch, time, tokens, width] -> the same; no frame depends on a later one.

        The condition is of a frame, [batch, time, condition], or of a token, [batch, time, tokens, condition].
        """
        condition = _of_tokens(condition, x.ndim)
        graphdef, layers = nnx.split(self.groups)

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
        """The next frame, [batch, tokens, width], given those before; equals `__call__` on all of them.

        The condition is of the frame, [batch, condition], or of its tokens, [batch, tokens, condition].
        """
        condition = _of_tokens(condition, x.ndim)
        graphdef, layers = nnx.split(self.groups)
        count = cache.count + 1
        seen = np.arange(self.window) >= self.window - count

        def body(x: Array, group) -> tuple[Array, tuple[Array, Array]]:
            layer, keys, values = group
            x, *kept = nnx.merge(graphdef, layer).step(x, keys, values, seen, condition)
            return x, tuple(kept)

        x, (keys, values) = jax.lax.scan(body, x, (nnx.as_pure(layers), cache.keys, cache.values))
        return Cache(keys, values, jnp.minimum(count, self.window)), x


def _of_tokens(condition: Array | None, rank: int) -> Array | None:
    """A condition of frames gets an axis of one token, so that it has the rank of the tokens."""
    return condition if condition is None or condition.ndim == rank else condition[..., None, :]


def rotate(x: Array, places: np.ndarray) -> Array:
    """Turns queries or keys [batch, time, heads, size] by their `places` [time] (Su et al. 2021, RoFormer, 3.2.2).

    Channel i and channel i + size/2 are a point in the plane, turned by place · 10,000^(−2i / size): the product of two
    such vectors depends on the difference of their places alone.
    """
    half = x.shape[-1] // 2
    angle = places[:, None, None] * 10_000.0 ** -(np.arange(half) / half)
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1).astype(x.dtype)
