"""Options of language models. No JAX here."""

import dataclasses

from world_models.nn.options import TransformerOptions


@dataclasses.dataclass(frozen=True)
class MaskOptions:
    """Which tokens a masked language model predicts, and what it sees there (Devlin et al. 2018, section 3.1).

    Attributes:
      ratio: share of a row's tokens that are predicted, at least one; never special tokens.
      masked: share of these that are replaced by [MASK].
      random: share that is replaced by any token of the vocabulary; the rest stays as it is.
    """

    ratio: float = 0.15
    masked: float = 0.8
    random: float = 0.1


@dataclasses.dataclass(frozen=True)
class LanguageOptions:
    """A BERT (Devlin et al. 2018), with pre-norm blocks unless it is said otherwise.

    Attributes:
      transformer: its size.
      positions: tokens of the longest sequence; positions are learned.
      masked, pairs: weights in the loss of predicting masked tokens, and which pair a row holds; 0 builds no head.
      mask: which tokens are predicted.
      post_norm: blocks as in BERT, whose weights need them; then no norm follows the last block.
      norm_epsilon: added to variances; BERT's public weights have 1e-12.
      dtype: of the computation; parameters and losses are float32.
    """

    transformer: TransformerOptions
    positions: int = 512
    masked: float = 1.0
    pairs: float = 1.0
    mask: MaskOptions = MaskOptions()
    post_norm: bool = False
    norm_epsilon: float = 1e-6
    dtype: str = "float32"
