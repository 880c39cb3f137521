"""Variance-preserving diffusion (Ho et al. 2020, "DDPM") with any prediction target; sampled in few steps as DDIM."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from world_models.core.types import Array
from world_models.diffusion.options import DDPMOptions, DDPMSamplerOptions
from world_models.diffusion.process import Denoising, Noised, expand_to_rank, sample_noise, vmap_keys


@dataclasses.dataclass(frozen=True)
class DDPM(Denoising, DDPMSamplerOptions, DDPMOptions):
    """A `Process` whose level is the index t of ᾱ."""

    @property
    def alphas(self) -> np.ndarray:
        """ᾱ of every level, float64 [num_levels], falling from almost 1 to almost 0."""
        if self.schedule == "linear":
            return np.cumprod(1 - np.linspace(self.beta_low, self.beta_high, self.num_levels))
        share = np.linspace(0, 1, self.num_levels + 1)
        if self.schedule == "cosine":
            signal = np.cos((share + 0.008) / 1.008 * np.pi / 2) ** 2
        else:
            signal = 1 / (1 + np.exp(6 * share - 3)) - 1 / (1 + np.exp(3))
        beta = 1 - signal[1:] / signal[:-1]
        return np.cumprod(1 - np.clip(beta, 0, 0.999))

    @property
    def levels(self) -> np.ndarray:
        """The sampler's levels t, int32 [num_steps], falling."""
        return (self.num_levels * np.arange(self.num_steps, 0, -1) / (self.num_steps + 1)).astype(np.int32)

    def add_noise(self, clean: Array, keys: Array) -> Noised:
        """Noisy targets √ᾱ·clean/data_std + √(1 − ᾱ)·ε, with t uniform and offset noise as a part of ε.

        Args:
          clean: targets [batch, ..., channel].
          keys: random keys, one a noise level: [batch] or [batch, time].
        """
        level_keys, offset, noise = sample_noise(keys, clean.shape)
        level = vmap_keys(lambda key: jax.random.randint(key, (), 0, self.num_levels), level_keys)
        noise = noise + self.offset_noise * offset
        noisy = self.add_noise_of(clean, level, noise)
        signal, spread = self._mixture(level, clean.ndim)
        clean = clean / self.data_std
        targets = {"noise": noise, "clean": clean, "velocity": signal * noise - spread * clean}
        return Noised(noisy, level, targets[self.prediction], jnp.ones(level.shape))

    def add_noise_of(self, clean: Array, level: Array, noise: Array) -> Array:
        """√ᾱ·clean/data_std + √(1 − ᾱ)·noise."""
        signal, spread = self._mixture(level, clean.ndim)
        return signal * clean / self.data_std + spread * noise

    def network_input(self, noisy: Array, level: Array) -> tuple[Array, Array]:
        """(noisy, (t + 1) / T in (0, 1])."""
        return noisy, (level + 1) / self.num_levels

    def denoised(self, noisy: Array, output: Array, level: Array) -> Array:
        """The clean target that a prediction means: (noisy − √(1 − ᾱ)·ε) / √ᾱ or √ᾱ·noisy − √(1 − ᾱ)·velocity."""
        signal, spread = self._mixture(level, noisy.ndim)
        if self.prediction == "clean":
            return output * self.data_std
        if self.prediction == "velocity":
            return (signal * noisy - spread * output) * self.data_std
        return (noisy - spread * output) / signal * self.data_std

    def sample(self, denoise: Callable[[Array, Array], Array], key: Array, shape: tuple[int, ...]) -> Array:
        """Samples by DDIM (Song et al. 2021, equation 12), in `num_steps` steps; `denoise` maps (noisy, scalar t).

        The noise is computed from the denoised target, which the model may have clipped, and not from its output.
        """
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

    def _mixture(self, level: Array, rank: int) -> tuple[Array, Array]:
        """(√ᾱ, √(1 − ᾱ)) of levels, with axes appended up to `rank`."""
        alpha = jnp.asarray(self.alphas, jnp.float32)[expand_to_rank(level, rank).astype(jnp.int32)]
        return jnp.sqrt(alpha), jnp.sqrt(1 - alpha)
