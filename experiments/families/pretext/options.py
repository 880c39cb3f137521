"""The config of pretext tasks. No JAX here."""

import dataclasses

from experiments.evaluation.options import (
    EvalOptions,
    LinearProbeOptions,
    ProbeOptions,
    ReconstructionOptions,
    TrackingOptions,
)
from experiments.families.options import ExperimentConfig
from world_models.data.options import ClipDataOptions
from world_models.models.pretext.options import PretextOptions


@dataclasses.dataclass(frozen=True)
class PretextEval(EvalOptions):
    """What is measured of a pretext task and its encoder.

    Attributes:
      every, first, best, better, held_out: as of `EvalOptions`; the task's metrics are held out like the loss.
      num_pictures: held-out clips in the picture of tasks that draw one.
      imagine: what the command `imagine` makes of such tasks.
      probes, linear_probe: what the encoder knows.
      tracking: how well masks follow objects by the encoder's features.
    """

    best: str = ""
    num_pictures: int = 6
    imagine: ReconstructionOptions = ReconstructionOptions()
    probes: ProbeOptions = ProbeOptions()
    linear_probe: LinearProbeOptions = LinearProbeOptions()
    tracking: TrackingOptions = TrackingOptions()


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretextConfig(ExperimentConfig):
    """A config of a pretext task.

    Attributes:
      data: the images or clips.
      model: task and encoder.
    """

    model: PretextOptions
    data: ClipDataOptions = ClipDataOptions(validation_split="test", clip_length=1)
    eval: PretextEval = PretextEval()
    experiment: str = "experiments.families.pretext.experiment"
