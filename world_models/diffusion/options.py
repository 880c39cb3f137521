"""Options of diffusion processes and their samplers. No JAX here."""

import dataclasses

from world_models.core.options import OneOf


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
    """Variance-preserving diffusion in training (Ho et al. 2020); the defaults are DIAMOND's baseline.

    Noisy data are √ᾱ·x/data_std + √(1 − ᾱ)·ε, ε ~ N(0, 1) plus offset noise.

    Attributes:
      data_std: standard deviation of the diffused quantity, which is divided by it.
      offset_noise: standard deviation of the noise that all positions of a channel share, as a part of ε.
      num_levels: length T of the schedule; t is uniform in 0..T−1.
      schedule: of ᾱ: "linear" in β (Ho et al.), "cosine" (Nichol & Dhariwal 2021) or "sigmoid" (Jabri et al. 2022).
      beta_low, beta_high: ends of the linear schedule of β.
      prediction: what the network predicts: "noise" ε, "clean" x, or "velocity" √ᾱ·ε − √(1 − ᾱ)·x (Salimans & Ho 2022).
    """

    data_std: float = 0.5
    offset_noise: float = 0.3
    num_levels: int = 1000
    schedule: str = "linear"
    beta_low: float = 1e-4
    beta_high: float = 0.02
    prediction: str = "noise"


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


@dataclasses.dataclass(frozen=True)
class FlowOptions:
    """Flow matching (Lipman et al. 2023) in training, with the choices of Dreamer 4 (Hafner et al. 2025, section 3.2).

    Noisy data are z = τ·x/data_std + (1 − τ)·ε, with the signal level τ uniform in [0, 1).

    Attributes:
      data_std: standard deviation of the diffused quantity, which is divided by it.
      prediction: what the network predicts: "clean" x, "velocity" x − ε, or "noise" ε.
      loss: in which space errors are squared: "clean", or "velocity", which weighs errors of x by 1 / (1 − τ)².
      weight: "ramp", 0.9·τ + 0.1, or "uniform".
    """

    data_std: float = 1.0
    prediction: str = "clean"
    loss: str = "clean"
    weight: str = "ramp"


@dataclasses.dataclass(frozen=True)
class FlowSamplerOptions:
    """The sampler of flow matching.

    Attributes:
      num_steps: of equal size in τ.
      order: 1 for Euler, 2 for Heun, which calls the network twice a step but the last.
      temperature: factor of the noise that sampling starts from.
    """

    num_steps: int = 4
    order: int = 1
    temperature: float = 1.0


@dataclasses.dataclass(frozen=True)
class ShortcutOptions:
    """Shortcut forcing (Frans et al. 2024; Hafner et al. 2025, section 3.2): the network is told the size of a step.

    Predictions and losses are of the clean data, weighted by the ramp.

    Attributes:
      data_std: standard deviation of the diffused quantity, which is divided by it.
      max_steps: K, a power of two; steps have sizes 1/K, 2/K, … 1, and τ is a multiple of the step's size.
      self_share: share of the examples that learn a step from two steps of half its size; the others learn flow
        matching with the smallest step.
    """

    data_std: float = 1.0
    max_steps: int = 64
    self_share: float = 0.25


@dataclasses.dataclass(frozen=True)
class ShortcutSamplerOptions:
    """The sampler of a shortcut model.

    Attributes:
      num_steps: a power of two, at most `max_steps`.
      temperature: factor of the noise that sampling starts from.
    """

    num_steps: int = 4
    temperature: float = 1.0


DIFFUSION = OneOf("process", {"edm": EDMOptions, "ddpm": DDPMOptions, "flow": FlowOptions, "shortcut": ShortcutOptions})
SAMPLER = OneOf(
    "process",
    {
        "edm": EDMSamplerOptions,
        "ddpm": DDPMSamplerOptions,
        "flow": FlowSamplerOptions,
        "shortcut": ShortcutSamplerOptions,
    },
)
