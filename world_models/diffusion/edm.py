"""Diffusion in the form of Karras et al. 2022 ("EDM"), with the offset noise of Alonso et al. 2024 ("DIAMOND")."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from world_models.core.types import Array
from world_models.diffusion.options import EDMOptions, EDMSamplerOptions
from world_models.diffusion.process import Denoising, Noised, expand_to_rank, sample_noise, vmap_keys


@dataclasses.dataclass(frozen=True)
class EDM(Denoising, EDMSamplerOptions, EDMOptions):
    """A `Process` whose level is σ."""

    def add_noise(self, clean: Array, keys: Array) -> Noised:
        """Noisy targets clean + σ·noise + offset noise, with ln σ ~ N(sigma_mean, sigma_std²), σ clipped.

        Args:
          clean: targets [batch, ..., channel].
          keys: random keys, one a noise level: [batch] or [batch, time].
        """
        level_keys, offset, noise = sample_noise(keys, clean.shape)
        sigma = jnp.exp(self.sigma_mean + self.sigma_std * vmap_keys(jax.random.normal, level_keys))
        sigma = jnp.clip(sigma, self.sigma_low, self.sigma_high)
        noisy = self.add_noise_of(clean, sigma, noise) + self.offset_noise * offset
        scale = self._scale(sigma, clean.ndim)
        return Noised(noisy, sigma, (clean - scale.c_skip * noisy) / scale.c_out, jnp.ones_like(sigma))

    def add_noise_of(self, clean: Array, sigma: Array, noise: Array) -> Array:
        """clean + σ·noise."""
        return clean + expand_to_rank(sigma, clean.ndim) * noise

    def network_input(self, noisy: Array, sigma: Array) -> tuple[Array, Array]:
        """(c_in·noisy, c_noise of σ [batch] or [batch, time])."""
        scale = self._scale(sigma, noisy.ndim)
        return scale.c_in * noisy, scale.c_noise.reshape(sigma.shape)

    def denoised(self, noisy: Array, output: Array, sigma: Array) -> Array:
        """c_skip·noisy + c_out·output."""
        scale = self._scale(sigma, noisy.ndim)
        return scale.c_skip * noisy + scale.c_out * output

    def sample(self, denoise: Callable[[Array, Array], Array], key: Array, shape: tuple[int, ...]) -> Array:
        """Integrates the probability-flow ODE from σ_max in `num_steps` steps; `denoise` maps (noisy, scalar σ)."""
        start = self.sigma_max if self.initial_noise == "sigma_max" else 1.0
        sigmas = sigma_schedule(self.num_steps, self.sigma_min, self.sigma_max, self.rho)
        return sample(denoise, start * jax.random.normal(key, shape), sigmas, self.order)

    def _scale(self, sigma: Array, rank: int) -> "Preconditioning":
        return preconditioning(expand_to_rank(sigma, rank), self.sigma_data, self.offset_noise)


class Preconditioning(NamedTuple):
    """Scalings around the network F: D(x; σ) = c_skip·x + c_out·F(c_in·x, c_noise); each shaped like σ."""

    c_in: Array
    c_skip: Array
    c_out: Array
    c_noise: Array


def preconditioning(sigma: Array, sigma_data: float, offset_noise: float = 0.0) -> Preconditioning:
    """The scalings that give network input and target unit variance at every noise level (Karras et al., table 1).

    Args:
      sigma: standard deviation of the noise, any shape.
      sigma_data: standard deviation of the data.
      offset_noise: standard deviation of the noise that all positions of a channel share; it adds to σ in quadrature.
    """
    variance = sigma**2 + offset_noise**2
    total = variance + sigma_data**2
    c_skip = sigma_data**2 / total
    return Preconditioning(1 / jnp.sqrt(total), c_skip, jnp.sqrt(variance * c_skip), jnp.log(variance) / 8)


def sigma_schedule(num_steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Array:
    """Noise levels of the sampler, float32 [num_steps + 1]: from σ_max to σ_min, then 0 (Karras et al., eq. 5)."""
    ramp = np.linspace(0, 1, num_steps) if num_steps > 1 else np.zeros(1)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return jnp.asarray(np.append((high + ramp * (low - high)) ** rho, 0.0), jnp.float32)


def sample(denoise: Callable[[Array, Array], Array], noise: Array, sigmas: Array, order: int = 1) -> Array:
    """Integrates the probability-flow ODE dx/dσ = (x − D(x; σ)) / σ from noise to data (Karras et al., algorithm 1).

    Args:
      denoise: D(x, σ) with x [batch, ...] and a scalar σ.
      noise: the start, [batch, ...]; σ_max·N(0, 1) samples the data distribution.
      sigmas: decreasing levels [steps + 1] that end with 0.
      order: 1 for Euler, 2 for Heun, which calls `denoise` twice a step but the last.

    Returns:
      Samples, shaped like `noise`.
    """

    def euler(x, levels):
        sigma, following = levels
        slope = (x - denoise(x, sigma)) / sigma
        return x + (following - sigma) * slope, slope

    def heun(x, levels):
        sigma, following = levels
        trial, slope = euler(x, levels)
        end_slope = (trial - denoise(trial, following)) / following
        return x + (following - sigma) * (slope + end_slope) / 2, None

    levels = jnp.stack([sigmas[:-1], sigmas[1:]], axis=1)
    body = euler if order == 1 else heun
    x, _ = jax.lax.scan(lambda x, pair: (body(x, pair)[0], None), noise, levels[:-1])
    return euler(x, levels[-1])[0]
