"""Kernel distance between two sets of features: the squared maximum mean discrepancy of a cubic kernel, unbiased.

With k(x, y) = (x·y / d + 1)³ it is E k(x, x') + E k(y, y') − 2 E k(x, y) over pairs of different samples (Bińkowski et
al. 2018, arXiv 1801.01401, whose KID it is on Inception's features). Its expectation does not depend on the numbers of
samples, so that it serves where there are too few for a Fréchet distance; an estimate may be below 0. Values depend on
the scale of the features: compare them within one feature space alone.
"""

import math
from typing import NamedTuple

import numpy as np

from world_models.metrics.frechet import Z

LEAST_BLOCKS = 5  # fewer say too little of how much blocks differ


class KernelDistance(NamedTuple):
    """A squared distance with how sure it is.

    Attributes:
      distance: unbiased, perhaps below 0.
      low, high: 95 % interval, `distance` ± 1.96 `error`.
      error: standard error; over blocks where there are several, else by a jackknife over the groups of both sets.
      count, reference_count: samples of both sets that were used.
    """

    distance: float
    low: float
    high: float
    error: float
    count: int
    reference_count: int


def polynomial_kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(x·y / d + 1)³ of all pairs of rows of [n, d] and [m, d]: float64 [n, m]."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    return (x @ y.T / x.shape[1] + 1) ** 3


def kernel_distance(
    features: np.ndarray,
    reference: np.ndarray,
    groups: np.ndarray | None = None,
    reference_groups: np.ndarray | None = None,
    block_size: int = 500,
) -> KernelDistance:
    """The kernel distance of two sets of features, with its standard error.

    Sets of at least `LEAST_BLOCKS` blocks are cut into blocks of `block_size` consecutive rows; the distance is the
    mean over pairs of blocks, a remainder is left out. Rows that depend on each other should therefore stand together.

    Args:
      features, reference: [n, d] and [m, d].
      groups, reference_groups: int [n] and [m]; rows of one group (frames of one video) are not independent: no pairs
        are made of them, and the jackknife leaves them out together. By default every row is its own group.
      block_size: most rows of a block.

    Raises:
      ValueError: if a set has fewer than two rows, shapes do not fit or numbers are not finite.
    """
    x, y = np.asarray(features, np.float64), np.asarray(reference, np.float64)
    shapes = f"{x.shape} and {y.shape}"
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2 or block_size < 2:
        raise ValueError(f"features of shapes {shapes} must be [n, d] and [m, d] with two rows, and so must a block")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError(f"features of shapes {shapes} must be finite")
    named = [
        np.arange(len(z)) if given is None else np.asarray(given) for z, given in ((x, groups), (y, reference_groups))
    ]
    blocks = min(len(x), len(y)) // block_size
    if blocks < LEAST_BLOCKS:
        distance, error = _estimate(x, y, *named)
        counts = (len(x), len(y))
    else:
        parts = [slice(i * block_size, (i + 1) * block_size) for i in range(blocks)]
        found = [_estimate(x[part], y[part], *(one[part] for one in named))[0] for part in parts]
        distance, error = float(np.mean(found)), float(np.std(found, ddof=1) / math.sqrt(blocks))
        counts = (blocks * block_size, blocks * block_size)
    return KernelDistance(distance, distance - Z * error, distance + Z * error, error, *counts)


def _by_group(kernel: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Sums of a kernel's values [n, m] over the groups of its rows and columns."""
    for axis, groups in ((0, rows), (1, columns)):
        order = np.argsort(groups, kind="stable")
        begins = np.unique(groups[order], return_index=True)[1]
        if len(begins) < len(groups):
            kernel = np.add.reduceat(np.take(kernel, order, axis=axis), begins, axis=axis)
    return kernel


def _estimate(x: np.ndarray, y: np.ndarray, x_groups: np.ndarray, y_groups: np.ndarray) -> tuple[float, float]:
    """The estimate from all rows and its jackknife error; NaN where leaving a group out leaves fewer than two groups.

    Sums over groups make both cheap: what a group contributes is a row of these.
    """
    sides = [(x, x_groups), (y, y_groups)]
    within, sizes = [], []
    for z, groups in sides:
        own = _by_group(polynomial_kernel(z, z), groups, groups)
        np.fill_diagonal(own, 0)  # pairs within a group are no independent pairs
        within.append(own)
        sizes.append(np.unique(groups, return_counts=True)[1].astype(np.float64))
    cross = _by_group(polynomial_kernel(x, y), x_groups, y_groups)
    (n, m), pairs = (len(x), len(y)), [size.sum() ** 2 - np.sum(size**2) for size in sizes]
    if min(pairs) == 0:
        return math.nan, math.nan
    means = [own.sum() / count for own, count in zip(within, pairs)]
    distance, variance = means[0] + means[1] - 2 * cross.sum() / (n * m), 0.0
    for own, size, count, other, across in zip(within, sizes, pairs, means[::-1], (cross, cross.T)):
        if len(size) < 3:
            return float(distance), math.nan
        rest = n + m - size.sum()
        left = count - 2 * size * (size.sum() - size)
        without = (own.sum() - 2 * own.sum(axis=1)) / left + other
        without = without - 2 * (across.sum() - across.sum(axis=1)) / ((size.sum() - size) * rest)
        variance += (len(size) - 1) / len(size) * np.sum((without - without.mean()) ** 2)
    return float(distance), math.sqrt(variance)
