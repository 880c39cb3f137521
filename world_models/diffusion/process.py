"""The interface of diffusion processes: how targets get noise, how the network is conditioned, how samples are drawn.

Arrays have any rank, [batch, ..., channel]: frames, clips, latents or vectors. A noise level belongs to an example,
[batch], or to each frame of one, [batch, time] (diffusion forcing; Chen et al. 2024), and broadcasts over the rest.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from world_models.core.types import Array


class Noised(NamedTuple):
    """Targets with noise, and the output that the network is trained towards.

    Attributes:
      noisy: [batch, ..., channel].
      level: noise level, [batch] or [batch, time], in the process's own unit.
      target: training target of the network, like `noisy`, of about unit variance.
      weight: of the squared error in the loss, like `level`.
    """

    noisy: Array
    level: Array
    target: Array
    weight: Array


class Process(Protocol):
    """A diffusion process and its sampler; a frozen dataclass of numbers.

    `level` has the leading axes of the arrays that it belongs to, [batch] or [batch, time].
    """

    num_steps: int

    def errors(self, network: Callable[..., Array], clean: Array, keys: Array) -> Array:
        """Weighted mean squared errors in training, like `keys`: their mean is the loss.

        Args:
          network: maps the results of `network_input` to its output; a `Shortcut` passes more, see there.
          clean: targets [batch, ..., channel].
          keys: random keys, one a noise level: [batch] or [batch, time].
        """

    def add_noise(self, clean: Array, keys: Array) -> Noised:
        """Draws a noise level and noise.

        Args:
          clean: targets [batch, ..., channel].
          keys: random keys, one a noise level: [batch] or [batch, time].
        """

    def add_noise_of(self, clean: Array, level: Array, noise: Array) -> Array:
        """The targets at given noise levels, with given standard normal noise, like `clean`."""

    def network_input(self, noisy: Array, level: Array) -> tuple[Array, Array]:
        """Inputs of the network: the noisy target, scaled to about unit variance, and its noise level, like `level`."""

    def denoised(self, noisy: Array, output: Array, level: Array) -> Array:
        """The clean target, like `noisy`, that an output of the network stands for."""

    def sample(self, denoise: Callable[[Array, Array], Array], key: Array, shape: tuple[int, ...]) -> Array:
        """Samples targets of `shape` in `num_steps` steps; `denoise` maps (noisy, scalar level) to clean targets."""


class Denoising:
    """`Process.errors` of a process that trains its network on one noisy target alone."""

    def errors(self, network: Callable[[Array, Array], Array], clean: Array, keys: Array) -> Array:
        """Weighted mean squared errors of the network's output, like `keys`; see `Process.errors`."""
        noised = self.add_noise(clean, keys)
        output = network(*self.network_input(noised.noisy, noised.level))
        return noised.weight * mean_square(output - noised.target, keys.ndim)


def mean_square(x: Array, lead: int) -> Array:
    """The mean of squares over all axes but the first `lead`, in float32."""
    return jnp.mean(jnp.square(x.astype(jnp.float32)), axis=range(lead, x.ndim))


def sample_noise(keys: Array, shape: tuple[int, ...]) -> tuple[Array, Array, Array]:
    """Samples standard normal noise and offset noise.

    Args:
      keys: random keys, one a noise level: [batch] or [batch, time].
      shape: of the targets, (*keys.shape, ..., channel).

    Returns:
      (keys to sample levels with, like `keys`; offset noise, one value a key and channel, [*keys.shape, 1, ..., 1,
      channel]; noise of `shape`).

    Raises:
      ValueError: if `shape` does not begin with that of `keys` or has no axis after it.
    """
    lead, rest = shape[: keys.ndim], shape[keys.ndim :]
    if lead != keys.shape or not rest:
        raise ValueError(f"Targets of shape {shape} must begin with keys.shape={keys.shape} and have a channel axis.")

    def draw(key: Array) -> tuple[Array, Array, Array]:
        level, channels, values = jax.random.split(key, 3)
        shared = (*(1,) * (len(rest) - 1), rest[-1])
        return level, jax.random.normal(channels, shared), jax.random.normal(values, rest)

    return vmap_keys(draw, keys)


def vmap_keys(function: Callable, keys: Array):
    """Maps a function of one random key over keys of any shape."""
    for _ in range(keys.ndim):
        function = jax.vmap(function)
    return function(keys)


def expand_to_rank(values: Array, rank: int) -> Array:
    """Appends axes of size 1: [batch] or [batch, time] -> [batch, (time,) 1, ..., 1] of the given rank."""
    return values.reshape(values.shape + (1,) * (rank - values.ndim))
