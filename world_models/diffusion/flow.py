"""Flow matching between noise and data (Lipman et al. 2023), plain and with shortcuts (Frans et al. 2024).

In both the level is the signal level τ: 0 for noise alone, 1 for clean data.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from world_models.core.types import Array
from world_models.diffusion.options import FlowOptions, FlowSamplerOptions, ShortcutOptions, ShortcutSamplerOptions
from world_models.diffusion.process import Denoising, Noised, expand_to_rank, mean_square, sample_noise, vmap_keys

LEAST = 0.05  # of what errors and predictions of noise are divided by: τ or 1 − τ


class _Interpolation(Denoising):
    """Noisy data on the straight line from noise to data, z = τ·x/data_std + (1 − τ)·ε."""

    data_std: float
    num_steps: int
    temperature: float

    def add_noise_of(self, clean: Array, level: Array, noise: Array) -> Array:
        """τ·clean/data_std + (1 − τ)·noise."""
        level = expand_to_rank(level, clean.ndim)
        return level * clean / self.data_std + (1 - level) * noise

    def network_input(self, noisy: Array, level: Array) -> tuple[Array, Array]:
        """(noisy, τ)."""
        return noisy, level

    def _start(self, key: Array, shape: tuple[int, ...]) -> Array:
        return self.temperature * jax.random.normal(key, shape)

    def _slope(self, clean: Array, noisy: Array, level: Array) -> Array:
        """dz/dτ on the line from `noisy` at τ to `clean`, in the data's units, at τ = 1."""
        return (clean / self.data_std - noisy) / (1 - level)


@dataclasses.dataclass(frozen=True)
class Flow(_Interpolation, FlowSamplerOptions, FlowOptions):
    """A `Process` whose level is τ, uniform in [0, 1)."""

    def add_noise(self, clean: Array, keys: Array) -> Noised:
        """Noisy targets with τ uniform.

        Args:
          clean: targets [batch, ..., channel].
          keys: random keys, one a noise level: [batch] or [batch, time].
        """
        level_keys, _, noise = sample_noise(keys, clean.shape)
        level = vmap_keys(jax.random.uniform, level_keys)
        scaled = clean / self.data_std
        targets = {"clean": scaled, "velocity": scaled - noise, "noise": noise}
        return Noised(self.add_noise_of(clean, level, noise), level, targets[self.prediction], self._weight(level))

    def _weight(self, level: Array) -> Array:
        """Of the squared error of the network's output."""
        rest = jnp.maximum(1 - level, LEAST)
        of_clean = {"clean": 1.0, "velocity": rest, "noise": rest / jnp.maximum(level, LEAST)}[self.prediction]
        error = of_clean if self.loss == "clean" else of_clean / rest
        return jnp.square(error) * (ramp(level) if self.weight == "ramp" else jnp.ones_like(level))

    def denoised(self, noisy: Array, output: Array, level: Array) -> Array:
        """The clean target that a prediction means: output, noisy + (1 − τ)·velocity or (noisy − (1 − τ)·noise) / τ."""
        level = expand_to_rank(level, noisy.ndim)
        if self.prediction == "velocity":
            output = noisy + (1 - level) * output
        elif self.prediction == "noise":
            output = (noisy - (1 - level) * output) / jnp.maximum(level, LEAST)
        return output * self.data_std

    def sample(self, denoise: Callable[[Array, Array], Array], key: Array, shape: tuple[int, ...]) -> Array:
        """Integrates from noise to data in `num_steps` steps of Euler or Heun; `denoise` maps (noisy, scalar τ)."""
        size = 1 / self.num_steps

        def euler(x: Array, level: Array) -> tuple[Array, Array]:
            slope = self._slope(denoise(x, level), x, level)
            return x + size * slope, slope

        def heun(x: Array, level: Array) -> tuple[Array, None]:
            trial, slope = euler(x, level)
            end = self._slope(denoise(trial, level + size), trial, level + size)
            return x + size * (slope + end) / 2, None

        body = euler if self.order == 1 else heun
        levels = jnp.arange(self.num_steps) / self.num_steps
        x, _ = jax.lax.scan(lambda x, level: (body(x, level)[0], None), self._start(key, shape), levels[:-1])
        return euler(x, levels[-1])[0] * self.data_std


@dataclasses.dataclass(frozen=True)
class Shortcut(_Interpolation, ShortcutSamplerOptions, ShortcutOptions):
    """A `Process` whose network is told the size of a step, as the integer e of d = 2^−e, and predicts clean data."""

    @property
    def num_sizes(self) -> int:
        """Sizes of steps: e from 0, a step from noise to data, to log2 of `max_steps`."""
        return self.max_steps.bit_length()

    def denoised(self, noisy: Array, output: Array, level: Array) -> Array:
        """The output, in the data's units."""
        return output * self.data_std

    def errors(self, network: Callable[..., Array], clean: Array, keys: Array) -> Array:
        """Weighted mean squared errors, like `keys` (Hafner et al. 2025, equations 5 to 8).

        Every n-th example, n = 1 / `self_share`, learns a step of random size from two steps of half its size that the
        network itself makes, without gradient; the others learn the clean data with the smallest step.

        Args:
          network: maps (noisy, τ, e) to clean data, divided by `data_std`; τ and e are like `keys`. Where it is shown
            some of the examples alone, it gets the slice that chose them as a fourth argument.
          clean: targets [batch, ..., channel].
          keys: random keys, one a noise level: [batch] or [batch, time].
        """
        level_keys, _, noise = sample_noise(keys, clean.shape)
        size_keys, level_keys = jnp.moveaxis(vmap_keys(jax.random.split, level_keys), -1, 0)
        finest = self.num_sizes - 1
        size = jnp.full(keys.shape, finest, jnp.int32)
        every = round(1 / self.self_share) if self.self_share and finest else 0
        if every:
            drawn = vmap_keys(lambda key: jax.random.randint(key, (), 0, finest), size_keys[::every])
            size = size.at[::every].set(drawn)
        steps = 2.0**size
        level = jnp.floor(vmap_keys(jax.random.uniform, level_keys) * steps) / steps
        noisy = self.add_noise_of(clean, level, noise)
        target = jnp.asarray(clean) / self.data_std
        if every:
            rows = slice(None, None, every)
            some = lambda *inputs: network(*inputs, rows)
            target = target.at[rows].set(self._two_halves(some, noisy[rows], level[rows], size[rows]))
        return ramp(level) * mean_square(network(noisy, level, size) - target, keys.ndim)

    def _two_halves(self, network: Callable[..., Array], noisy: Array, level: Array, size: Array) -> Array:
        """The clean data towards which one step equals two of half its size."""
        half, wide = 0.5 ** (size + 1), lambda x: expand_to_rank(x, noisy.ndim)
        slope = lambda x, level: (network(x, level, size + 1) - x) / wide(1 - level)
        first = slope(noisy, level)
        second = slope(noisy + first * wide(half), level + half)
        return jax.lax.stop_gradient(noisy + wide(1 - level) * (first + second) / 2)

    def sample(self, denoise: Callable[..., Array], key: Array, shape: tuple[int, ...]) -> Array:
        """Goes from noise to data in `num_steps` steps; `denoise` maps (noisy, scalar τ, scalar e)."""
        size = jnp.int32(self.num_steps.bit_length() - 1)

        def step(x: Array, level: Array) -> tuple[Array, None]:
            return x + self._slope(denoise(x, level, size), x, level) / self.num_steps, None

        x, _ = jax.lax.scan(step, self._start(key, shape), jnp.arange(self.num_steps) / self.num_steps)
        return x * self.data_std


def ramp(level: Array) -> Array:
    """The weight 0.9·τ + 0.1 (Hafner et al. 2025, equation 8): levels with more signal have more to learn from."""
    return 0.9 * level + 0.1
