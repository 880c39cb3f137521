"""A transformer over the tokens of many frames that attends within frames and, causally, over time."""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from world_models.core.sharding import split_batch
from world_models.core.types import Array
from world_models.nn.options import TransformerOptions
from world_models.nn.transformer import REMAT, Block, Transformer

TURN = 2**24  # a full turn of rotary positions: integers wrap where angles do, so that no position is too large


class Entries(NamedTuple):
    """Keys, rotated, and values of all frames of clips, of every group: [groups, batch, tokens, time, heads, size]."""

    keys: Array
    values: Array


class Past(NamedTuple):
    """Keys, rotated, and values of the newest frames in one group, in the shape that XLA multiplies on a CPU.

    Of another order of axes, or of more than one in place of `rows`, it makes copies.

    Attributes:
      keys: [rows, size, slots], a row for every key head of every token of the batch.
      values: [rows, slots, size].
    """

    keys: Array
    values: Array


class Cache(NamedTuple):
    """Keys and values of the frames in the window: a ring buffer, of the same size however long the stream.

    Attributes:
      groups: of every group, in arrays of their own: a group's part of one array for all is copied for every product.
        As many slots as the window has frames: the sinks, then a ring of the others.
      count: int32, number of frames seen.
    """

    groups: tuple[Past, ...]
    count: Array

    @property
    def slots(self) -> int:
        """How many frames it holds."""
        return self.groups[0].keys.shape[-1]


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
        self.space = Transformer(within, condition, dtype=dtype, rngs=rngs) if depth else None
        self.time = Block(options, condition, causal=True, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Array, window: int, condition: Array | None = None, past: Entries | None = None
    ) -> tuple[Array, Entries]:
        """All frames of clips at once; a frame attends to the `window` newest frames, itself included.

        Args:
          x: [batch, time, tokens, width].
          window: number of frames.
          condition: [batch, time, tokens or 1, condition], or None.
          past: [batch, tokens, time, kv_heads, size], what a frame attends to instead of the frames of `x` before it.

        Returns:
          (outputs like `x`, keys and values of all frames, [batch, tokens, time, kv_heads, size]).
        """
        batch, time, tokens, width = x.shape
        flat = None if condition is None else condition.reshape(batch * time, *condition.shape[2:])
        if self.space is not None:
            x = self.space(x.reshape(batch * time, tokens, width), flat).reshape(x.shape)
        change = self.time.modulate(condition)
        y = self.time.attention_input(x, change)
        q, k, v = self.time.attention.project(y.swapaxes(1, 2).reshape(batch * tokens, time, width))
        positions = np.arange(time)
        q, k = rotate(q, positions), rotate(k, positions)
        if past is None:
            mixed = self.time.attention.mix(q, k, v, window if window < time else None)
        else:
            age = positions[:, None] - positions
            mask = np.concatenate([(age > 0) & (age < window), age == 0], axis=1)
            both = (jnp.concatenate([a.reshape(b.shape), b], axis=1) for a, b in zip(past, (k, v)))
            mixed = jax.nn.dot_product_attention(q, *both, mask=jnp.asarray(mask)[None, None])
        mixed = mixed.reshape(batch, tokens, time, *mixed.shape[2:]).swapaxes(1, 2)
        entries = Entries(*(z.reshape(batch, tokens, *z.shape[1:]) for z in (k, v)))
        return self.time.finish(x, self.time.attention.out(mixed), change), entries

    def attend(
        self,
        x: Array,
        past: Past,
        visible: Array,
        position: Array,
        slot: Array | None = None,
        condition: Array | None = None,
        sinks: int = 0,
    ) -> tuple[Past, Array]:
        """One frame, given keys and values of those before.

        Args:
          x: [batch, tokens, width].
          past: of earlier frames.
          visible: bool [slots], which of them hold a frame that this one attends to.
          position: number of frames before this one, a scalar.
          slot: where this frame's keys and values replace others; None to keep them as they are.
          condition: [batch, tokens or 1, condition], or None.
          sinks: how many slots hold the first frames, which are attended to as if at most slots − 1 frames ago.

        Returns:
          (past, outputs like `x`).
        """
        if self.space is not None:
            x = self.space(x, condition)
        change = self.time.modulate(condition)
        q, k, v = self.time.attention.project(self.time.attention_input(x, change))
        to_sinks = rotate(q, jnp.minimum(position, visible.size - 1)) if sinks else None
        q, k = rotate(q, position), rotate(k, position)
        if slot is not None:
            # Written, then read: XLA writes in place what is not read as it was before.
            put = lambda old, new, axis: jax.lax.dynamic_update_index_in_dim(
                old, new.reshape(-1, new.shape[-1]), slot, axis
            )
            past = Past(put(past.keys, k, -1), put(past.values, v, -2))
            mixed = _attend(q, past, visible | (np.arange(visible.size) == slot), sinks=sinks, to_sinks=to_sinks)
        else:
            mixed = _attend(q, past, visible, k, v, sinks, to_sinks)
        return past, self.time.finish(x, self.time.attention.out(mixed), change)


def _attend(
    q: Array,
    past: Past,
    visible: Array,
    k: Array | None = None,
    v: Array | None = None,
    sinks: int = 0,
    to_sinks: Array | None = None,
) -> Array:
    """Attention of each token, queries [batch, tokens, heads, size], to its past and, if given, to its own `k` and `v`.

    The past is neither copied nor joined with what is given. Queries to the first `sinks` slots are others, if given.
    """
    shape, size = q.shape, q.shape[-1]
    q = q.reshape(past.keys.shape[0], -1, size)
    rows = lambda x: x.reshape(len(q), 1, size)
    score = lambda formula, *both: jnp.einsum(formula, *both, preferred_element_type=jnp.float32) / math.sqrt(size)
    scores = score("rsd,rdn->rsn", q, past.keys)
    if to_sinks is not None:
        nearer = score("rsd,rdn->rsn", to_sinks.reshape(q.shape), past.keys[..., :sinks])
        scores = jnp.concatenate([nearer, scores[..., sinks:]], axis=-1)
    scores = jnp.where(visible, scores, -jnp.inf)
    top = scores.max(axis=-1, keepdims=True)
    if k is not None:
        own = score("rsd,rnd->rsn", q, rows(k))
        top = jnp.maximum(top, own)
    weights = jnp.exp(scores - top)
    total = weights.sum(axis=-1, keepdims=True)
    mixed = jnp.einsum("rsn,rnd->rsd", weights.astype(q.dtype), past.values, preferred_element_type=jnp.float32)
    if k is not None:
        weight = jnp.exp(own - top)
        mixed, total = mixed + weight * rows(v), total + weight
    return (mixed / total).astype(q.dtype).reshape(shape)


class SpaceTimeTransformer(nnx.Module):
    """`depth` blocks, every `time_every`-th over time; groups of them are stacked and scanned over.

    Positions in time are rotary (Su et al. 2021): only the distance of two frames matters. In one block a frame attends
    to no frame more than `window` − 1 before it, so that a stream may be longer than any clip in training. In a stream
    the first frames may stay in the window, as if they were its oldest (Xiao et al. 2023, StreamingLLM). A condition
    scales, shifts and gates every block (adaLN-zero, see `Block`), per frame or per token.
    """

    def __init__(
        self,
        options: TransformerOptions,
        time_every: int,
        window: int,
        condition: int = 0,
        *,
        sinks: int = 0,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Builds the blocks.

        Args:
          options: of all blocks; `depth` is a multiple of `time_every`, and `width / heads` is even.
          time_every: number of blocks in a group.
          window: frames that a block attends to over time.
          condition: width of a condition, 0 for none.
          sinks: how many of the `window` frames are the first ones of a stream; less than `window`.
          dtype: of the computation; parameters are float32.
          rngs: for the initial parameters.
        """
        self.options, self.window, self.sinks, self.dtype = options, window, sinks, dtype
        self.time_every, self.num_groups = time_every, options.depth // time_every

        @nnx.split_rngs(splits=self.num_groups)
        @nnx.vmap(in_axes=(0,), transform_metadata={nnx.PARTITION_NAME: "layers"})
        def stacked(rngs: nnx.Rngs) -> Group:
            return Group(options, time_every, condition, dtype=dtype, rngs=rngs)

        self.groups = stacked(rngs)

    def __call__(self, x: Array, condition: Array | None = None, past: Entries | None = None) -> Array:
        """All frames of clips at once; no frame depends on a later one or on its condition.

        Args:
          x: [batch, time, tokens, width].
          condition: of each frame, [batch, time, condition], or of each token, [batch, time, tokens, condition]; None
            for a model without.
          past: of other clips of this size, from `remember`: each frame attends to their frames before it instead of
            to those of `x`. With all frames of `x` this is what `attend` does with one.

        Returns:
          Like `x`.
        """
        return self._run(x, condition, keep=False, past=past)[0]

    def remember(self, x: Array, condition: Array | None = None) -> tuple[Entries, Array]:
        """As `__call__`: (keys and values of all frames, [groups, batch, tokens, time, kv_heads, size]; outputs)."""
        x, entries = self._run(x, condition, keep=True)
        return entries, x

    def observe(self, x: Array, condition: Array | None = None) -> tuple[Cache, Array]:
        """As `__call__`, and the cache after all frames, as after as many calls of `step`.

        Raises:
          ValueError: with sinks, if there are more frames than the window has.
        """
        if self.sinks and x.shape[1] > self.window:
            raise ValueError(
                f"observe got {x.shape[1]} frames; with sinks it takes at most {self.window}, the window: "
                "later frames come by `step`."
            )
        kept, x = self.remember(x, condition)
        cache, time = self.cache(x.shape[0], x.shape[2]), x.shape[1]
        frames = np.arange(max(0, time - cache.slots), time)
        slots, groups = frames % cache.slots, []
        for empty, *entries in zip(cache.groups, *kept):
            # [batch, tokens, time, heads, size] -> [rows, time, size]
            keys, values = (z[:, :, frames].swapaxes(2, 3).reshape(-1, len(frames), z.shape[-1]) for z in entries)
            keys = empty.keys.at[..., slots].set(keys.swapaxes(1, 2))
            groups.append(Past(keys, empty.values.at[:, slots].set(values)))
        return Cache(tuple(groups), jnp.int32(time)), x

    def _run(
        self, x: Array, condition: Array | None, keep: bool, past: Entries | None = None
    ) -> tuple[Array, Entries | None]:
        graphdef, layers = nnx.split(self.groups)
        condition = _per_token(condition, x)

        def body(x: Array, group) -> tuple[Array, Entries | None]:
            layer, past = group
            x, entries = nnx.merge(graphdef, layer)(x, self.window, condition, past)
            return split_batch(x), entries if keep else None

        if self.options.compute.remat != "none":
            body = jax.checkpoint(body, policy=REMAT[self.options.compute.remat], prevent_cse=False)
        unroll = -(-self.options.unroll // self.time_every)
        return jax.lax.scan(body, split_batch(x), (nnx.as_pure(layers), past), unroll=unroll)

    def cache(self, batch: int, tokens: int) -> Cache:
        """The cache before the first frame."""
        options, slots = self.options, self.window
        size, rows = options.width // options.heads, batch * tokens * (options.kv_heads or options.heads)
        empty = lambda *shape: jnp.zeros((rows, *shape), self.dtype)
        groups = tuple(Past(empty(size, slots), empty(slots, size)) for _ in range(self.num_groups))
        return Cache(groups, jnp.zeros((), jnp.int32))

    def attend(self, cache: Cache, x: Array, condition: Array | None = None) -> Array:
        """The next frame of a stream, which is not kept: equals `__call__` on all frames so far, at its last frame.

        With sinks it does as long as all frames lie in the window.

        Args:
          cache: of the frames before.
          x: [batch, tokens, width].
          condition: of the frame, [batch, condition], or of each token, [batch, tokens, condition], or None.

        Returns:
          Like `x`.
        """
        return self._stream(cache, x, condition, None)[1]

    def step(self, cache: Cache, x: Array, condition: Array | None = None) -> tuple[Cache, Array]:
        """As `attend`, and the frame is kept in the place of the oldest but the sinks: (the new cache, outputs)."""
        groups, x = self._stream(cache, x, condition, self._slot(cache.count))
        return Cache(groups, cache.count + 1), x

    def _slot(self, frame: Array) -> Array:
        """Where a frame of a stream lies in its cache: a sink at its number, all others in a ring."""
        ring = self.sinks + (frame - self.sinks) % (self.window - self.sinks)
        return jnp.where(frame < self.sinks, frame, ring)

    def _stream(
        self, cache: Cache, x: Array, condition: Array | None, slot: Array | None
    ) -> tuple[tuple[Past, ...], Array]:
        graphdef, layers = nnx.split(self.groups)
        condition, slots, count, groups = _per_token(condition, x), np.arange(cache.slots), cache.count, []
        visible = (slots < count) & (slots != self._slot(count))  # the oldest is outside the window
        for i, past in enumerate(cache.groups):
            group = nnx.merge(graphdef, jax.tree.map(lambda weights, i=i: weights[i], nnx.as_pure(layers)))
            past, x = group.attend(x, past, visible, count, slot, condition, self.sinks)
            groups.append(past)
        return tuple(groups), x


def _per_token(condition: Array | None, x: Array) -> Array | None:
    """A condition of each token or of each frame as [..., tokens or 1, condition], in the dtype of tokens `x`."""
    if condition is None:
        return None
    return (condition if condition.ndim == x.ndim else condition[..., None, :]).astype(x.dtype)


def rotate(x: Array, positions: Array | np.ndarray) -> Array:
    """Rotary positions: rotates queries or keys [..., heads, size] by their int `positions`, [...] or fewer axes.

    Channels i and i + size/2 are a point in the plane, rotated by position · 10,000^(−2i / size): the dot product of
    two such vectors depends on the difference of their positions alone (Su et al. 2021, RoFormer, section 3.2.2).
    Frequencies are rounded to whole parts of 2^24 a turn, so that products with positions are exact integers modulo a
    turn and a stream may be as long as int32 can count.
    """
    half = x.shape[-1] // 2
    steps = np.round(10_000.0 ** -(np.arange(half) / half) * TURN / (2 * np.pi)).astype(np.int32)
    turns = (jnp.asarray(positions, jnp.int32)[..., None, None] * steps) & (TURN - 1)
    angle = turns.astype(jnp.float32) * np.float32(2 * np.pi / TURN)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1).astype(x.dtype)
