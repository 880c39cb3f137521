"""What a predictor that looks back remembers: the latest latents and the actions between them, in static shapes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from world_models.core.types import Array


class Memory(NamedTuple):
    """The latest latents and the actions between them, the oldest first; what lies beyond `count` means nothing.

    Attributes:
      latents: float32 [..., history, width].
      actions: float32 [..., history, action]; the one at a place was done there, that at the newest is to come.
      count: int32 [...], latents known.
    """

    latents: Array
    actions: Array
    count: Array

    @property
    def newest(self) -> jax.Array:
        """The latest latent, [..., width]."""
        return at(self.latents, self.count - 1)


def empty(shape: tuple[int, ...], history: int, width: int, action: int) -> Memory:
    """A memory of nothing, with leading `shape`."""
    zeros = lambda size: jnp.zeros((*shape, history, size))
    return Memory(zeros(width), zeros(action), jnp.zeros(shape, jnp.int32))


def append(memory: Memory, action: Array, latent: Array) -> Memory:
    """What is remembered after an action [..., action] led to a latent [..., width]; the oldest goes if it is full.

    To an empty memory the action means nothing.
    """
    history = memory.latents.shape[-2]
    full = (memory.count == history)[..., None, None]
    moved = lambda rows: jnp.where(full, jnp.roll(rows, -1, axis=-2), rows)
    count = jnp.minimum(memory.count + 1, history)
    latents = put(moved(memory.latents), count - 1, latent)
    return Memory(latents, moved(put(memory.actions, memory.count - 1, action)), count)


def put(rows: Array, place: Array, new: Array) -> jax.Array:
    """Rows [..., n, size] with `new` [..., size] at `place` [...]; as they were where there is no such place."""
    here = jnp.arange(rows.shape[-2]) == place[..., None]
    return jnp.where(here[..., None], new[..., None, :], rows)


def at(rows: Array, place: Array) -> jax.Array:
    """The row of [..., n, size] at `place` [...] >= 0: [..., size]."""
    return jnp.take_along_axis(rows, place[..., None, None], axis=-2).squeeze(-2)
