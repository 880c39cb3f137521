"""The config of multi-level latent dynamics. No JAX here."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from experiments.evaluation.options import EvalOptions, FuturesOptions, OpenLoopOptions
from experiments.families.options import ExperimentConfig
from experiments.planning.options import PLAN, WorldPlanOptions
from world_models.core.options import MapOf, OneOf
from world_models.data.options import ClipDataOptions
from world_models.models.latent_dynamics.options import (
    CNNOptions,
    DecoderOptions,
    LevelOptions,
    ViTOptions,
)
from world_models.nn.options import HeadOptions, PixelOptions
from world_models.planning.options import PlannerLevel

ENCODER = OneOf("kind", {"cnn": CNNOptions, "vit": ViTOptions})


@dataclasses.dataclass(frozen=True)
class LatentDynamicsModel:
    """What a model is made of; levels have names.

    Attributes:
      levels: names of 1 to 4 entries of `level`, from the lowest up; a name may stand for several levels.
      level: what each level is made of. The lowest takes neither `encoder`, `stride` nor `action` from here: it lifts
        features of frames, ticks with them, and has the actions of the data.
      encoder: of frames.
      decoder: of latents, for people to look at.
      pixels: how frames become numbers.
      heads: that predict rewards and ends of episodes.
      detach_lower: whether the loss of an upper level leaves the levels below as they are.
      dtype: in which frames are encoded; all else is float32.
    """

    level: Mapping[str, LevelOptions] = dataclasses.field(metadata={"schema": MapOf(LevelOptions)})
    levels: tuple[str, ...] = ("bottom",)
    encoder: Any = dataclasses.field(
        default=ViTOptions(width=64, depth=1, heads=4, mlp_ratio=2.0), metadata={"schema": ENCODER}
    )
    decoder: DecoderOptions = DecoderOptions(channels=(32, 16, 8), frames=1)
    pixels: PixelOptions = PixelOptions()
    heads: HeadOptions = HeadOptions()
    detach_lower: bool = True
    dtype: str = "float32"


@dataclasses.dataclass(frozen=True)
class LatentDynamicsEval(EvalOptions):
    """What is measured of latent dynamics.

    Attributes:
      every, first, best, better, held_out: as of `EvalOptions`.
      open_loop: imagined futures during training, where there is a decoder.
      imagine: what the command `imagine` makes.
      plan: what the command `plan` plays.
      search: how each level plans, by its name.
    """

    open_loop: OpenLoopOptions = OpenLoopOptions(horizon=16)
    imagine: FuturesOptions = FuturesOptions(num_contexts=32, horizon=32, num_samples=1, fps=8.0)
    plan: Any = dataclasses.field(default=WorldPlanOptions(), metadata={"schema": PLAN})
    search: Mapping[str, PlannerLevel] = dataclasses.field(
        default_factory=dict, metadata={"schema": MapOf(PlannerLevel)}
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatentDynamicsConfig(ExperimentConfig):
    """A config of latent dynamics.

    Attributes:
      data: the clips.
      model: encoder, levels and decoder.
    """

    model: LatentDynamicsModel
    data: ClipDataOptions = ClipDataOptions(clip_length=16, stride=4)
    eval: LatentDynamicsEval = LatentDynamicsEval()
    experiment: str = "experiments.families.latent_dynamics.experiment"
