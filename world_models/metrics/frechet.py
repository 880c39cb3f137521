"""Fréchet distance between two sets of features: of Gaussians with their means and covariances.

For N(μ₁, Σ₁) and N(μ₂, Σ₂) it is |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁^½ Σ₂ Σ₁^½)^½) (Dowson and Landau 1982; on features of
images Heusel et al. 2017, arXiv 1706.08500). All in float64, with unbiased covariances.

Its estimate from n samples is too large, by about a constant over n that grows with the dimension: two samples of one
distribution are some distance apart. So compare numbers at equal n alone, beside the distance of two sets of real data
of that n, and have many more samples than dimensions.
"""

import math
from typing import NamedTuple

import numpy as np

Z = 1.959963984540054  # normal quantile of a two-sided 95 % interval


class Moments(NamedTuple):
    """What a Fréchet distance needs of a set: float64.

    Attributes:
      count: samples.
      mean: [d].
      scatter: [d, d], sum of the outer products of deviations from the mean.
    """

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @property
    def covariance(self) -> np.ndarray:
        """Unbiased, [d, d]."""
        return self.scatter / (self.count - 1)


class FrechetDistance(NamedTuple):
    """A distance with how sure it is.

    Attributes:
      distance: the estimate, which is biased upwards.
      low, high: 95 % interval of the estimate, by a jackknife over blocks; it does not remove the bias. NaN with fewer
        than two blocks in a set.
      bias: how much too large the jackknife finds the estimate; of use only where both counts are well above the
        dimension.
      count, reference_count: samples of both sets.
      dimension: of the features.
    """

    distance: float
    low: float
    high: float
    bias: float
    count: int
    reference_count: int
    dimension: int


def moments(features: np.ndarray) -> Moments:
    """Those of features [n, d].

    Raises:
      ValueError: if there is no sample, a number is not finite, or the shape is another.
    """
    x = np.asarray(features, np.float64)
    if x.ndim != 2 or not len(x) or not np.isfinite(x).all():
        raise ValueError(f"features of shape {x.shape} must be finite and of shape [n, d], n at least 1")
    mean = x.mean(axis=0)
    return Moments(len(x), mean, (x - mean).T @ (x - mean))


def merge(a: Moments, b: Moments) -> Moments:
    """The moments of two sets together (Chan et al. 1979), so that features need not be held at once."""
    count, shift = a.count + b.count, b.mean - a.mean
    scatter = a.scatter + b.scatter + np.outer(shift, shift) * (a.count * b.count / count)
    return Moments(count, a.mean + shift * (b.count / count), scatter)


def merge_all(parts: list[Moments]) -> Moments:
    """The moments of several sets together."""
    total = parts[0]
    for part in parts[1:]:
        total = merge(total, part)
    return total


def distance_of_moments(a: Moments, b: Moments) -> float:
    """The Fréchet distance of two Gaussians, at least 0.

    The trace of the root is the sum of the singular values of Σ₁^½ Σ₂^½, whose factors come from symmetric
    eigenvalues with rounding errors below 0 removed: covariances may be singular.

    Raises:
      ValueError: if a set has fewer than two samples or the dimensions differ.
    """
    if min(a.count, b.count) < 2 or a.mean.shape != b.mean.shape:
        raise ValueError(
            f"need two samples a set and one dimension, not {a.count} and {b.count} samples of dimensions "
            f"{len(a.mean)} and {len(b.mean)}"
        )
    root = np.linalg.svd(_factor(a.covariance).T @ _factor(b.covariance), compute_uv=False).sum()
    spread = np.trace(a.covariance) + np.trace(b.covariance) - 2 * root
    return max(0.0, float(np.sum((a.mean - b.mean) ** 2) + spread))


def frechet_distance(
    features: np.ndarray,
    reference: np.ndarray,
    groups: np.ndarray | None = None,
    reference_groups: np.ndarray | None = None,
    num_blocks: int = 10,
) -> FrechetDistance:
    """The Fréchet distance of two sets of features, with an interval.

    The interval is a delete-a-block jackknife of both sets, on the logarithm's scale since no distance is below 0.

    Args:
      features, reference: [n, d] and [m, d], at least two rows each.
      groups, reference_groups: int [n] and [m]; rows of one group depend on each other (frames of one video) and stay
        in one block. By default every row is its own.
      num_blocks: of each set, at most; fewer where there are fewer groups.

    Raises:
      ValueError: if shapes do not fit or numbers are not finite.
    """
    sides = ((np.asarray(features), groups), (np.asarray(reference), reference_groups))
    whole = [moments(x) for x, _ in sides]
    blocks = [[moments(x[rows]) for rows in _blocks(len(x), g, num_blocks)] for x, g in sides]
    distance = distance_of_moments(*whole)
    variance = bias = 0.0
    for side, parts in enumerate(blocks):
        left = [merge_all(parts[:i] + parts[i + 1 :]) if len(parts) > 1 else None for i in range(len(parts))]
        if len(parts) < 2 or min(part.count for part in left) < 2:
            variance = bias = math.nan
            continue
        without = np.array([distance_of_moments(*((one, whole[1]) if side == 0 else (whole[0], one))) for one in left])
        variance += (len(parts) - 1) / len(parts) * np.sum((without - without.mean()) ** 2)
        bias += (len(parts) - 1) * (without.mean() - distance)
    ratio = math.exp(min(Z * math.sqrt(variance) / distance, 700)) if distance > 0 and variance >= 0 else math.nan
    counts = (whole[0].count, whole[1].count, len(whole[0].mean))
    return FrechetDistance(distance, distance / ratio, distance * ratio, float(bias), *counts)


def _factor(covariance: np.ndarray) -> np.ndarray:
    """A matrix F [d, d] with F Fᵀ = `covariance`; eigenvalues that rounding errors may have made are taken for 0."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    smallest = len(values) * np.finfo(np.float64).eps * max(values[-1], 0)
    return vectors * np.sqrt(np.where(values > smallest, values, 0))


def _blocks(count: int, groups: np.ndarray | None, num_blocks: int) -> list[np.ndarray]:
    """Rows of each block: whole groups, in their order, as many in each as can be."""
    names, index = np.unique(np.arange(count) if groups is None else groups, return_inverse=True)
    num_blocks = min(num_blocks, len(names))
    return [np.flatnonzero(index * num_blocks // len(names) == i) for i in range(num_blocks)]
