"""The config of video diffusion. No JAX here."""

import dataclasses
from typing import Any

from experiments.families.options import DiffusionEval, ExperimentConfig
from world_models.data.options import ClipDataOptions
from world_models.diffusion.options import DIFFUSION, EDMOptions
from world_models.models.video_diffusion.options import VideoDiffusionOptions


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
    eval: DiffusionEval = DiffusionEval()
    experiment: str = "experiments.families.video_diffusion.experiment"
