"""The config of video transformers. No JAX here."""

import dataclasses
from typing import Any

from experiments.evaluation.options import FuturesOptions
from experiments.families.options import DiffusionEval, ExperimentConfig
from world_models.data.options import ClipDataOptions
from world_models.diffusion.options import DIFFUSION, SAMPLER, ShortcutOptions, ShortcutSamplerOptions
from world_models.models.video_transformer.options import VideoTransformerOptions


@dataclasses.dataclass(frozen=True)
class VideoTransformerEval(DiffusionEval):
    """What is measured of a video transformer.

    Attributes:
      every, first, best, better, held_out, open_loop, features, distances, long_rollout, cost, imagine, sampler: as of
        `DiffusionEval`.
      sinks: first frames of a stream, those of the context first, that stay in the window as if they were the oldest
        there (Xiao et al. 2023, StreamingLLM, section 3.2). Training has none, so that with
        `config.model.forcing="self"` clips may then not be longer than the window.
    """

    imagine: FuturesOptions = FuturesOptions(horizon=32)
    sampler: Any = dataclasses.field(default=ShortcutSamplerOptions(), metadata={"schema": SAMPLER})
    sinks: int = 0


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
