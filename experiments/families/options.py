"""What the configs of all families share. No JAX here."""

import dataclasses
from typing import Any

from experiments.evaluation.options import (
    DistanceOptions,
    EvalOptions,
    FeatureOptions,
    FuturesOptions,
    LongRolloutOptions,
    OpenLoopOptions,
)
from experiments.training.options import InitFromOptions, RuntimeOptions, TrainOptions
from world_models.data.options import RECORDING, ClipDataOptions
from world_models.diffusion.options import SAMPLER, EDMSamplerOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """A whole config; families add what their models are made of.

    On resuming a run `eval`, `runtime` and `record` may change, and `train.num_steps`; nothing else.

    Attributes:
      experiment: dotted path of the module with the family's class `Experiment`.
      seed: of initial weights, the order of the data and all noise.
      record: what the command `record` records; None where the data are only read.
      data: what is trained on.
      init_from: weights of another run to begin with.
      train: what training makes of the weights.
      eval: all that happens after training, or beside it.
      runtime: what concerns the machine alone.
    """

    experiment: str
    seed: int = 0
    record: Any = dataclasses.field(default=None, metadata={"schema": RECORDING})
    data: Any = ClipDataOptions()
    init_from: InitFromOptions = InitFromOptions()
    train: TrainOptions = TrainOptions()
    eval: EvalOptions = EvalOptions()
    runtime: RuntimeOptions = RuntimeOptions()


@dataclasses.dataclass(frozen=True)
class DiffusionEval(EvalOptions):
    """What is measured of a model that samples frames by diffusion.

    Attributes:
      every, first, best, better, held_out: as of `EvalOptions`.
      open_loop: imagined futures during training.
      features: the space of the next two.
      distances: between sets of imagined and of real clips.
      long_rollout: drift and action following over many frames.
      cost: whether parameters and floating-point operations are counted.
      imagine: what the command `imagine` makes.
      sampler: of the diffusion process.
    """

    open_loop: OpenLoopOptions = OpenLoopOptions()
    features: FeatureOptions = FeatureOptions()
    distances: DistanceOptions = DistanceOptions()
    long_rollout: LongRolloutOptions = LongRolloutOptions()
    cost: bool = False
    imagine: FuturesOptions = FuturesOptions()
    sampler: Any = dataclasses.field(default=EDMSamplerOptions(), metadata={"schema": SAMPLER})
