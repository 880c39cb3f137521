"""What a diffusion process is to a model: how targets get noise, what the network sees and says, how to sample."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax

from world_models.core.types import Array


class Noised(NamedTuple):
    """Targets with noise, and what the network should make of them.

    Attributes:
      noisy: [batch, h, w, c].
      level: how much noise, [batch], in the process's own measure.
      target: the output that the network is trained towards, [batch, h, w, c], of about unit variance.
    """

    noisy: Array
    level: Array
    target: Array


class Process(Protocol):
    """A way from data to noise and back; a frozen dataclass of numbers."""

    num_steps: int

    def add_noise(self, clean: Array, keys: Array) -> Noised:
        """Draws a level and noise for every clean target [batch, h, w, c], each from its own key [batch]."""

    def network_input(self, noisy: Array, level: Array) -> tuple[Array, Array]:
        """(what the network sees, of about unit variance, [batch, h, w, c]; the level as it sees it, [batch])."""

    def denoised(self, noisy: Array, output: Array, level: Array) -> Array:
        """The clean target that an output of the network stands for, [batch, h, w, c]."""

    def sample(self, denoise: Callable[[Array, Array], Array], key: Array, shape: tuple[int, ...]) -> Array:
        """Draws targets of `shape` from noise in `num_steps` steps; `denoise` maps (noisy, scalar level) to targets."""


def sample_noise(keys: Array, shape: tuple[int, ...]) -> tuple[Array, Array, Array]:
    """What every example's noise is made of.

    Args:
      keys: random keys [batch].
      shape: (batch, h, w, c).

    Returns:
      (keys to draw levels from [batch]; normal draws, one a channel [batch, 1, 1, c] and one a value [batch, h, w, c]).
    """

    def draw(key: Array) -> tuple[Array, Array, Array]:
        level, channels, values = jax.random.split(key, 3)
        return level, jax.random.normal(channels, (1, 1, shape[-1])), jax.random.normal(values, shape[1:])

    return jax.vmap(draw)(keys)


def per_pixel(values: Array) -> Array:
    """[batch] -> [batch, 1, 1, 1]."""
    return values[:, None, None, None]
