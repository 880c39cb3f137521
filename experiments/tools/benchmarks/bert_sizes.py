"""Sizes and data that both sides of `benchmarks.bert` use. Neither JAX nor PyTorch here."""

import dataclasses

import numpy as np

LENGTH = 128
EPSILON = 1e-12  # of BERT's norms


@dataclasses.dataclass(frozen=True)
class Size:
    """A BERT: width, blocks, heads and tokens of the vocabulary."""

    width: int
    depth: int
    heads: int
    vocabulary: int = 30_522


# Those of BERT miniatures (Turc et al. 2019), and BERT-base.
SIZES = {
    "debug": Size(16, 2, 2, 96),
    "tiny": Size(128, 2, 2),
    "mini": Size(256, 4, 4),
    "small": Size(512, 4, 8),
    "base": Size(768, 12, 12),
}


@dataclasses.dataclass(frozen=True)
class Rows:
    """Full rows of two segments with masked tokens.

    Attributes:
      tokens: int32 [batch, LENGTH], what the model sees.
      types: int32 [batch, LENGTH], 0 in the first half, 1 in the second.
      places: int32 [batch, predictions], where it predicts: 15 % of the places, all different.
      targets: int32 [batch, predictions], the true tokens there.
      labels: int32 [batch], whether the second segment follows the first (0) or not.
    """

    tokens: np.ndarray
    types: np.ndarray
    places: np.ndarray
    targets: np.ndarray
    labels: np.ndarray


def rows(size: Size, batch: int) -> Rows:
    """Noise."""
    rng = np.random.default_rng(0)
    draw = lambda high, *shape: rng.integers(0, high, shape, dtype=np.int32)
    predictions = round(0.15 * LENGTH)
    places = rng.permuted(np.tile(np.arange(LENGTH, dtype=np.int32), (batch, 1)), axis=1)[:, :predictions]
    types = np.tile((np.arange(LENGTH) >= LENGTH // 2).astype(np.int32), (batch, 1))
    tokens = draw(size.vocabulary, batch, LENGTH)
    return Rows(tokens, types, places, draw(size.vocabulary, batch, predictions), draw(2, batch))
