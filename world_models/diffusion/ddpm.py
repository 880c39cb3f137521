"""Diffusion in the form of Ho et al. 2020 ("DDPM"): the network predicts the noise; sampled in few steps as DDIM."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from world_models.core.types import Array
from world_models.diffusion.options import DDPMOptions, DDPMSamplerOptions
from world_models.diffusion.process import Noised, per_pixel, sample_noise


@dataclasses.dataclass(frozen=True)
class DDPM(DDPMSamplerOptions, DDPMOptions):
    """A `Process` whose level is the index t of ᾱ; the network predicts ε."""

    @property
    def alphas(self) -> np.ndarray:
        """ᾱ of every level, float64 [num_levels], falling from almost 1 to almost 0."""
        return np.cumprod(1 - np.linspace(self.beta_low, self.beta_high, self.num_levels))

    @property
    def levels(self) -> np.ndarray:
        """The sampler's levels t, int32 [num_steps], falling."""
        return (self.num_levels * np.arange(self.num_steps, 0, -1) / (self.num_steps + 1)).astype(np.int32)

    def add_noise(self, clean: Array, keys: Array) -> Noised:
        """See `Process`."""
        level_keys, shared, pixels = sample_noise(keys, clean.shape)
        level = jax.vmap(lambda key: jax.random.randint(key, (), 0, self.num_levels))(level_keys)
        noise = pixels + self.offset_noise * shared
        signal, spread = self._mixture(level)
        return Noised(signal * clean / self.data_std + spread * noise, level, noise)

    def network_input(self, noisy: Array, level: Array) -> tuple[Array, Array]:
        """See `Process`."""
        return noisy, (level + 1) / self.num_levels

    def denoised(self, noisy: Array, output: Array, level: Array) -> Array:
        """See `Process`."""
        signal, spread = self._mixture(level)
        return (noisy - spread * output) / signal * self.data_std

    def sample(self, denoise: Callable[[Array, Array], Array], key: Array, shape: tuple[int, ...]) -> Array:
        """See `Process`. The denoised target, which the model may have clipped, says what the noise was."""
        start, *step_keys = jax.random.split(key, self.num_steps + 1)
        now = self.alphas[self.levels]
        after = np.append(now[1:], 1.0)
        fresh = self.eta * np.sqrt((1 - now / after) * (1 - after) / (1 - now))

        def step(x: Array, inputs: tuple[Array, ...]) -> tuple[Array, None]:
            level, now, after, fresh, step_key = inputs
            clean = denoise(x, level) / self.data_std
            noise = (x - jnp.sqrt(now) * clean) / jnp.sqrt(1 - now)
            x = jnp.sqrt(after) * clean + jnp.sqrt(1 - after - fresh**2) * noise
            return x + fresh * jax.random.normal(step_key, shape), None

        numbers = [jnp.asarray(values, jnp.float32) for values in (now, after, fresh)]
        x, _ = jax.lax.scan(
            step, jax.random.normal(start, shape), (jnp.asarray(self.levels), *numbers, jnp.stack(step_keys))
        )
        return x * self.data_std

    def _mixture(self, level: Array) -> tuple[Array, Array]:
        """(√ᾱ, √(1 − ᾱ)) of levels [batch], each [batch, 1, 1, 1]."""
        alpha = jnp.asarray(self.alphas, jnp.float32)[level]
        return per_pixel(jnp.sqrt(alpha)), per_pixel(jnp.sqrt(1 - alpha))
