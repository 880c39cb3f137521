"""Which training examples keep their labels in a low-shot curve."""

import numpy as np

from world_models.core.errors import UserError
from world_models.core.types import Array


def balanced_subset(labels: Array, per_class: int, seed: int, *, or_fewer: bool = False) -> np.ndarray:
    """`per_class` examples of every class 0..max(labels), drawn at random without replacement.

    With one seed the subsets are nested: that for 10 a class lies in that for 100, so that a curve over label counts
    differs only by the labels added.

    Args:
      labels: int [n], classes from 0.
      per_class: how many of each.
      seed: non-negative; another seed draws other examples.
      or_fewer: whether a class that has fewer gives all of them.

    Returns:
      int64 [classes * per_class] (fewer with `or_fewer`), increasing indices into `labels`.

    Raises:
      UserError: there are no labels, a label is negative, per_class is not positive, or a class has too few
        without `or_fewer`.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.size == 0 or labels.min() < 0:
        raise UserError(f"labels of shape {labels.shape} must be one or more classes from 0, in one dimension")
    if per_class < 1:
        raise UserError(f"per_class={per_class} must be at least 1")
    counts = np.bincount(labels)
    if (short := np.flatnonzero(counts < per_class)).size and not or_fewer:
        listed = ", ".join(f"{label} ({counts[label]})" for label in short)
        raise UserError(f"per_class={per_class} is more than there are labels of class {listed}")
    drawn = [
        np.random.default_rng((seed, label)).permutation(np.flatnonzero(labels == label))[:per_class]
        for label in range(len(counts))
    ]
    return np.sort(np.concatenate(drawn)).astype(np.int64)
