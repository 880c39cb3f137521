"""Options of diffusion processes and their samplers. No JAX here."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class EDMOptions:
    """EDM in training (Karras et al. 2022); the defaults are those of DIAMOND (Alonso et al. 2024).

    Attributes:
      sigma_data: standard deviation of the diffused quantity; frames are scaled to [-1, 1].
      offset_noise: standard deviation of the noise that all positions of a channel share.
      sigma_mean, sigma_std: of ln σ.
      sigma_low, sigma_high: bounds of σ.
    """

    sigma_data: float = 0.5
    offset_noise: float = 0.3
    sigma_mean: float = -0.4
    sigma_std: float = 1.2
    sigma_low: float = 2e-3
    sigma_high: float = 20.0


@dataclasses.dataclass(frozen=True)
class EDMSamplerOptions:
    """The deterministic sampler of EDM (Karras et al. 2022, algorithm 1).

    Attributes:
      num_steps: noise levels above 0.
      order: 1 for Euler, 2 for Heun.
      sigma_min, sigma_max, rho: of the noise schedule (equation 5).
      initial_noise: "sigma_max" starts from σ_max·N(0, 1); "unit" from N(0, 1), as the released DIAMOND code does,
        which leaves samples with too little spread.
    """

    num_steps: int = 3
    order: int = 1
    sigma_min: float = 2e-3
    sigma_max: float = 5.0
    rho: float = 7.0
    initial_noise: str = "sigma_max"


@dataclasses.dataclass(frozen=True)
class DDPMOptions:
    """DDPM in training (Ho et al. 2020); DIAMOND's baseline.

    Noisy data are √ᾱ·x/data_std + √(1 − ᾱ)·ε, ε ~ N(0, 1) plus offset noise, and the network predicts ε.

    Attributes:
      data_std: standard deviation of the diffused quantity, which is divided by it.
      offset_noise: standard deviation of the noise that all positions of a channel share, as a part of ε.
      num_levels: length T of the schedule; t is uniform in 0..T−1.
      beta_low, beta_high: ends of the linear schedule of β.
    """

    data_std: float = 0.5
    offset_noise: float = 0.3
    num_levels: int = 1000
    beta_low: float = 1e-4
    beta_high: float = 0.02


@dataclasses.dataclass(frozen=True)
class DDPMSamplerOptions:
    """DDIM (Song et al. 2021).

    Attributes:
      num_steps: its levels lie evenly inside the schedule, t = T·(n − i)/(n + 1) for i = 0..n−1, so that a single step
        starts in the middle: close to T it would see noise alone.
      eta: 0 for DDIM, 1 for DDPM's ancestral noise (equations 12 and 16).
    """

    num_steps: int = 3
    eta: float = 0.0
