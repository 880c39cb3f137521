"""The input of a predictor with memory: the latest latents and the actions between them, in arrays of fixed shape."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from world_models.core.types import Array


class History(NamedTuple):
    """The latest latents and actions, the oldest first; entries beyond `count` are padding.

    Attributes:
      latents: float32 [..., length, width].
      actions: float32 [..., length, action]; each followed the latent of its index, the last is not known yet.
      count: int32 [...], number of latents.
    """

    latents: Array
    actions: Array
    count: Array

    @property
    def latest(self) -> jax.Array:
        """The latest latent, [..., width]."""
        return get_row(self.latents, self.count - 1)


def empty(shape: tuple[int, ...], length: int, width: int, action: int) -> History:
    """A history without entries, with leading axes `shape`."""
    zeros = lambda size: jnp.zeros((*shape, length, size))
    return History(zeros(width), zeros(action), jnp.zeros(shape, jnp.int32))


def append(history: History, action: Array, latent: Array) -> History:
    """Adds an action [..., action] and the latent [..., width] it led to; a full history drops its oldest entry.

    The action is ignored if the history is empty.
    """
    length = history.latents.shape[-2]
    full = (history.count == length)[..., None, None]
    shifted = lambda rows: jnp.where(full, jnp.roll(rows, -1, axis=-2), rows)
    count = jnp.minimum(history.count + 1, length)
    latents = set_row(shifted(history.latents), count - 1, latent)
    return History(latents, shifted(set_row(history.actions, history.count - 1, action)), count)


def set_row(rows: Array, index: Array, value: Array) -> jax.Array:
    """Rows [..., n, size] with `value` [..., size] at `index` [...]; unchanged where the index is out of range."""
    selected = jnp.arange(rows.shape[-2]) == index[..., None]
    return jnp.where(selected[..., None], value[..., None, :], rows)


def get_row(rows: Array, index: Array) -> jax.Array:
    """The row of [..., n, size] at `index` [...] >= 0: [..., size]."""
    return jnp.take_along_axis(rows, index[..., None, None], axis=-2).squeeze(-2)
