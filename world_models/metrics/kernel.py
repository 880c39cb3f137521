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
    block_size: int = 1000,
) -> KernelDistance:
    """The kernel distance of two sets of features, with its standard error.

    Sets of at least two blocks each are cut into blocks of `block_size` consecutive rows; the distance is the mean over
    pairs of blocks, a remainder is left out. Rows that depend on each other should therefore stand together.

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
    if blocks < 2:
        distance, error = _jackknife(x, y, groups, reference_groups)
        counts = (len(x), len(y))
    else:
        cut = lambda z: z[: blocks * block_size].reshape(blocks, block_size, -1)
        found = [_mean_discrepancy(_sums(a, b)) for a, b in zip(cut(x), cut(y))]
        distance, error = float(np.mean(found)), float(np.std(found, ddof=1) / math.sqrt(blocks))
        counts = (blocks * block_size, blocks * block_size)
    return KernelDistance(distance, distance - Z * error, distance + Z * error, error, *counts)


class _Sums(NamedTuple):
    """Kernel values by pair of groups, without those of a sample with itself, and the sizes of the groups."""

    xx: np.ndarray
    yy: np.ndarray
    xy: np.ndarray
    x_sizes: np.ndarray
    y_sizes: np.ndarray


def _sums(
    x: np.ndarray, y: np.ndarray, x_groups: np.ndarray | None = None, y_groups: np.ndarray | None = None
) -> _Sums:
    members = [_members(len(z), groups) for z, groups in ((x, x_groups), (y, y_groups))]
    xx, yy = polynomial_kernel(x, x), polynomial_kernel(y, y)
    np.fill_diagonal(xx, 0)
    np.fill_diagonal(yy, 0)
    a, b = members
    return _Sums(a.T @ xx @ a, b.T @ yy @ b, a.T @ polynomial_kernel(x, y) @ b, a.sum(axis=0), b.sum(axis=0))


def _members(count: int, groups: np.ndarray | None) -> np.ndarray:
    """float64 [count, groups], 1 where a row is in a group."""
    if groups is None:
        return np.eye(count)
    return np.eye(len(np.unique(groups)))[np.unique(groups, return_inverse=True)[1]]


def _mean_discrepancy(sums: _Sums, keep_x: np.ndarray | None = None, keep_y: np.ndarray | None = None) -> float:
    """The unbiased estimate from the groups that are kept."""
    i = np.ones(len(sums.xx)) if keep_x is None else keep_x
    j = np.ones(len(sums.yy)) if keep_y is None else keep_y
    n, m = i @ sums.x_sizes, j @ sums.y_sizes
    return float(i @ sums.xx @ i / (n * (n - 1)) + j @ sums.yy @ j / (m * (m - 1)) - 2 * (i @ sums.xy @ j) / (n * m))


def _jackknife(
    x: np.ndarray, y: np.ndarray, x_groups: np.ndarray | None, y_groups: np.ndarray | None
) -> tuple[float, float]:
    """The estimate from all rows and its standard error; NaN where leaving a group out leaves fewer than two rows."""
    sums, variance = _sums(x, y, x_groups, y_groups), 0.0
    for name, sizes in (("keep_x", sums.x_sizes), ("keep_y", sums.y_sizes)):
        count = len(sizes)
        if sizes.sum() - sizes.max() < 2:
            variance = math.nan
            continue
        found = np.array([_mean_discrepancy(sums, **{name: row}) for row in 1 - np.eye(count)])
        variance += (count - 1) / count * np.sum((found - found.mean()) ** 2)
    return _mean_discrepancy(sums), math.sqrt(variance)
