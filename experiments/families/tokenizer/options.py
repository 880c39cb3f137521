"""The config of causal tokenizers. No JAX here."""

import dataclasses

from experiments.evaluation.options import EvalOptions, ReconstructionOptions
from experiments.families.options import ExperimentConfig
from world_models.data.options import ClipDataOptions
from world_models.models.tokenizer.options import TokenizerOptions


@dataclasses.dataclass(frozen=True)
class TokenizerEval(EvalOptions):
    """What is measured of a tokenizer.

    Attributes:
      every, first, best, better, held_out: as of `EvalOptions`.
      changed_threshold: by how much of 255 a pixel must change between two frames to count as changing.
      num_pictures: held-out clips in the picture of reconstructions.
      imagine: what the command `imagine` makes.
    """

    best: str = "eval/fidelity/psnr"
    better: str = "higher"
    changed_threshold: int = 8
    num_pictures: int = 4
    imagine: ReconstructionOptions = ReconstructionOptions(num_shown=4)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenizerConfig(ExperimentConfig):
    """A config of a causal tokenizer.

    Attributes:
      data: the clips.
      model: encoder, decoder and latents.
    """

    model: TokenizerOptions
    data: ClipDataOptions = ClipDataOptions(clip_length=8)
    eval: TokenizerEval = TokenizerEval()
    experiment: str = "experiments.families.tokenizer.experiment"
