"""The config of video diffusion. No JAX here."""

import dataclasses
from typing import Any

from experiments.evaluation.options import EvalOptions, FuturesOptions, OpenLoopOptions
from experiments.families.options import ExperimentConfig
from world_models.data.options import ClipDataOptions
from world_models.diffusion.options import DIFFUSION, SAMPLER, EDMOptions, EDMSamplerOptions
from world_models.models.video_diffusion.options import VideoDiffusionOptions


@dataclasses.dataclass(frozen=True)
class VideoDiffusionEval(EvalOptions):
    """What is measured of a video diffusion model.

    Attributes:
      every, best, better, held_out: as of `EvalOptions`.
      open_loop: imagined futures during training.
      imagine: what the command `imagine` makes.
      sampler: of the diffusion process.
    """

    open_loop: OpenLoopOptions = OpenLoopOptions()
    imagine: FuturesOptions = FuturesOptions()
    sampler: Any = dataclasses.field(default=EDMSamplerOptions(), metadata={"schema": SAMPLER})


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoDiffusionConfig(ExperimentConfig):
    """A config of video diffusion.

    Attributes:
      data: the clips.
      model: the network and what it is shown.
      diffusion: the process in training.
    """

    data: ClipDataOptions = ClipDataOptions(clip_length=5)
    model: VideoDiffusionOptions = VideoDiffusionOptions()
    diffusion: Any = dataclasses.field(default=EDMOptions(), metadata={"schema": DIFFUSION})
    eval: VideoDiffusionEval = VideoDiffusionEval()
    experiment: str = "experiments.families.video_diffusion.experiment"
