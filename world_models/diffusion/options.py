"""Options of diffusion processes and their samplers. No JAX here."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class EDMOptions:
    """A `world_models.diffusion.process.Process` whose level is σ; the defaults are DIAMOND's.

    Attributes:
      sigma_data: standard deviation of the diffused quantity; frames are scaled to [-1, 1].
      offset_noise: noise shared by all pixels of a channel.
      sigma_mean, sigma_std: of ln σ in training; sigma_low, sigma_high: bounds of σ in training.
      num_steps, order, sigma_min, sigma_max, rho: of the sampler.
      initial_noise: "sigma_max" starts the sampler from σ_max·N(0, 1); "unit" from N(0, 1), as the released DIAMOND
        code does, which leaves samples with too little spread.
    """

    sigma_data: float = 0.5
    offset_noise: float = 0.3
    sigma_mean: float = -0.4
    sigma_std: float = 1.2
    sigma_low: float = 2e-3
    sigma_high: float = 20.0
    num_steps: int = 3
    order: int = 1
    sigma_min: float = 2e-3
    sigma_max: float = 5.0
    rho: float = 7.0
    initial_noise: str = "sigma_max"


@dataclasses.dataclass(frozen=True)
class DDPMOptions:
    """A `world_models.diffusion.process.Process` whose level is the index t of ᾱ; DIAMOND's baseline.

    Noisy data are √ᾱ·x/data_std + √(1 − ᾱ)·ε, ε ~ N(0, 1) plus offset noise, and the network predicts ε.

    Attributes:
      data_std: standard deviation of the diffused quantity, which is divided by it.
      offset_noise: noise shared by all pixels of a channel, as a part of ε.
      num_levels: length T of the training schedule; t is uniform in 0..T−1.
      beta_low, beta_high: ends of the linear schedule of β.
      num_steps: of the sampler. Its levels lie evenly inside the schedule, t = T·(n − i)/(n + 1) for i = 0..n−1, so
        that a single step starts in the middle: close to T the network sees nothing but its own answer.
      eta: 0 for DDIM, 1 for DDPM's ancestral noise (Song et al. 2021, equations 12 and 16).
    """

    data_std: float = 0.5
    offset_noise: float = 0.3
    num_levels: int = 1000
    beta_low: float = 1e-4
    beta_high: float = 0.02
    num_steps: int = 3
    eta: float = 0.0
