"""The config of video transformers. No JAX here."""

import dataclasses
from typing import Any

from experiments.evaluation.options import EvalOptions, FuturesOptions, OpenLoopOptions
from experiments.families.options import ExperimentConfig
from world_models.data.options import ClipDataOptions
from world_models.diffusion.options import DIFFUSION, SAMPLER, ShortcutOptions, ShortcutSamplerOptions
from world_models.models.video_transformer.options import VideoTransformerOptions


@dataclasses.dataclass(frozen=True)
class VideoTransformerEval(EvalOptions):
    """What is measured of a video transformer.

    Attributes:
      every, best, better, held_out: as of `EvalOptions`.
      open_loop: imagined futures during training.
      imagine: what the command `imagine` makes.
      sampler: of the diffusion process.
    """

    open_loop: OpenLoopOptions = OpenLoopOptions()
    imagine: FuturesOptions = FuturesOptions(horizon=32)
    sampler: Any = dataclasses.field(default=ShortcutSamplerOptions(), metadata={"schema": SAMPLER})


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoTransformerConfig(ExperimentConfig):
    """A config of video transformers.

    Attributes:
      data: the clips.
      model: the network, and what it diffuses.
      diffusion: the process in training.
    """

    data: ClipDataOptions = ClipDataOptions(clip_length=16)
    model: VideoTransformerOptions
    diffusion: Any = dataclasses.field(default=ShortcutOptions(), metadata={"schema": DIFFUSION})
    eval: VideoTransformerEval = VideoTransformerEval()
    experiment: str = "experiments.families.video_transformer.experiment"
