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
      groups, reference_groups: int [n] and [m]; rows of one group (frames of one video) are left out together by the
        jackknife. By default every row is its own. They change no distance, and nothing where there are blocks.
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
    blocks = min(len(x), len(y)) // block_size
    if blocks < LEAST_BLOCKS:
        distance, error = _estimate(x, y, groups, reference_groups)
        counts = (len(x), len(y))
    else:
        cut = lambda z: z[: blocks * block_size].reshape(blocks, block_size, -1)
        found = [_estimate(a, b)[0] for a, b in zip(cut(x), cut(y))]
        distance, error = float(np.mean(found)), float(np.std(found, ddof=1) / math.sqrt(blocks))
        counts = (blocks * block_size, blocks * block_size)
    return KernelDistance(distance, distance - Z * error, distance + Z * error, error, *counts)


def _by_group(kernel: np.ndarray, rows: np.ndarray | None, columns: np.ndarray | None) -> np.ndarray:
    """Sums of a kernel's values [n, m] over the groups of its rows and columns."""
    for axis, groups in ((0, rows), (1, columns)):
        if groups is not None:
            index = np.unique(groups, return_inverse=True)[1]
            order = np.argsort(index, kind="stable")
            begins = np.searchsorted(index[order], np.arange(index.max() + 1))
            kernel = np.add.reduceat(np.take(kernel, order, axis=axis), begins, axis=axis)
    return kernel


def _estimate(
    x: np.ndarray, y: np.ndarray, x_groups: np.ndarray | None = None, y_groups: np.ndarray | None = None
) -> tuple[float, float]:
    """The estimate from all rows and its jackknife error; NaN where leaving a group out leaves fewer than two rows."""
    xx, yy, xy = polynomial_kernel(x, x), polynomial_kernel(y, y), polynomial_kernel(x, y)
    np.fill_diagonal(xx, 0)
    np.fill_diagonal(yy, 0)
    n, m = xy.shape
    distance = xx.sum() / (n * (n - 1)) + yy.sum() / (m * (m - 1)) - 2 * xy.mean()
    sides = ((xx, yy, xy, x_groups), (yy, xx, xy.T, y_groups))
    return float(distance), math.sqrt(sum(_variance(*side) for side in sides))


def _variance(own: np.ndarray, other: np.ndarray, cross: np.ndarray, groups: np.ndarray | None) -> float:
    """The jackknife's variance of the estimate from leaving out one group of one set after the other."""
    n, m = cross.shape
    sizes = np.ones(n) if groups is None else np.unique(groups, return_counts=True)[1]
    left = n - sizes
    if left.min() < 2:
        return math.nan
    own, cross = _by_group(own, groups, groups), _by_group(cross, groups, None)
    within = (own.sum() - 2 * own.sum(axis=1) + np.diag(own)) / (left * (left - 1))
    between = (cross.sum() - cross.sum(axis=1)) / (left * m)
    found = within + other.sum() / (m * (m - 1)) - 2 * between
    return float((len(sizes) - 1) / len(sizes) * np.sum((found - found.mean()) ** 2))
