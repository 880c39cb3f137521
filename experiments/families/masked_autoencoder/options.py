"""The config of masked autoencoders. No JAX here."""

import dataclasses

from experiments.evaluation.options import (
    EvalOptions,
    FineTuneOptions,
    LinearProbeOptions,
    ProbeOptions,
    ReconstructionOptions,
)
from experiments.families.options import ExperimentConfig
from world_models.data.options import ClipDataOptions
from world_models.models.masked_autoencoder.options import MaskedAutoencoderOptions


@dataclasses.dataclass(frozen=True)
class AugmentOptions:
    """Augmentation of training clips.

    Attributes:
      crop_scale: (least, greatest) share of the area of random crops, which are resized to the whole; () for none.
      flip: whether half of the clips are mirrored.
    """

    crop_scale: tuple[float, ...] = ()
    flip: bool = False


@dataclasses.dataclass(frozen=True)
class MaskedAutoencoderEval(EvalOptions):
    """What is measured of a masked autoencoder.

    Attributes:
      every, first, best, better, held_out: as of `EvalOptions`.
      num_pictures: held-out clips in the picture of reconstructions.
      imagine: what the command `imagine` makes.
      probes, linear_probe, fine_tune: what the encoder knows.
    """

    best: str = ""
    num_pictures: int = 6
    imagine: ReconstructionOptions = ReconstructionOptions()
    probes: ProbeOptions = ProbeOptions()
    linear_probe: LinearProbeOptions = LinearProbeOptions()
    fine_tune: FineTuneOptions = FineTuneOptions()


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedAutoencoderConfig(ExperimentConfig):
    """A config of a masked autoencoder.

    Attributes:
      data: the images or clips.
      model: encoder, decoder, masks and targets.
      augment: of training clips.
    """

    model: MaskedAutoencoderOptions
    data: ClipDataOptions = ClipDataOptions(validation_split="test", clip_length=1)
    augment: AugmentOptions = AugmentOptions()
    eval: MaskedAutoencoderEval = MaskedAutoencoderEval()
    experiment: str = "experiments.families.masked_autoencoder.experiment"
