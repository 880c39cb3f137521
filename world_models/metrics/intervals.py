"""Confidence intervals for reports and tables: bootstrap and Student for means, Wilson for success rates."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats

_CHUNK = 2**22  # resampled counts held at once: 32 MB


class Interval(NamedTuple):
    """A mean between its confidence bounds; floats, or arrays of one shape."""

    mean: float | np.ndarray
    low: float | np.ndarray
    high: float | np.ndarray


def bootstrap_interval(
    values: np.ndarray, *, level: float = 0.95, num_resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Percentile bootstrap of the mean over the first axis (Efron 1979).

    Whole rows are resampled, so entries of one row stay paired. NaNs count in no mean.

    Args:
      values: [n, ...], independent along the first axis; NaN where there is no measurement.
      level: confidence level in (0, 1).
      num_resamples: resamples drawn.
      seed: the same seed gives the same interval.

    Returns:
      Mean and bounds of shape [...] (floats where `values` is [n]). The mean is NaN without a measurement; the bounds
      are NaN with fewer than two, since one number says nothing about spread.

    Raises:
      ValueError: `values` is a scalar or holds infinities, or `level` or `num_resamples` makes no sense.
    """
    values = np.asarray(values, np.float64)
    if values.ndim == 0 or np.isinf(values).any():
        raise ValueError("values must have a first axis to resample and hold no infinities")
    if not 0 < level < 1 or num_resamples < 1:
        raise ValueError(f"level={level} must lie in (0, 1) and num_resamples={num_resamples} be at least 1")
    flat = values.reshape(len(values), math.prod(values.shape[1:]))
    known = ~np.isnan(flat)
    filled = np.where(known, flat, 0)
    count = known.sum(axis=0)
    with np.errstate(invalid="ignore"):
        mean = filled.sum(axis=0) / count
    low, high = (np.full(mean.shape, np.nan) for _ in range(2))
    enough = count > 1
    if enough.any():
        means = _resampled_means(filled[:, enough], known[:, enough], num_resamples, seed)
        tail = (1 - level) / 2
        low[enough], high[enough] = np.nanquantile(means, [tail, 1 - tail], axis=0)
    return Interval(*(_shaped(a, values.shape[1:]) for a in (mean, low, high)))


def student_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Student's interval for the mean of a few independent, about normal values: a number over seeds.

    Args:
      values: at least one finite number.
      level: confidence level in (0, 1).

    Returns:
      Mean and bounds; the bounds are NaN for a single value, which says nothing about spread.
    """
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Interval(mean, math.nan, math.nan)
    quantile = scipy.stats.t.ppf((1 + level) / 2, len(values) - 1)
    half = float(quantile) * statistics.stdev(values) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def wilson_interval(successes: int, trials: int, level: float = 0.95) -> Interval:
    """Wilson's score interval for a success rate (Wilson 1927): sensible for few trials and rates near 0 and 1.

    Args:
      successes, trials: counts, 0 <= successes <= trials.
      level: confidence level in (0, 1).

    Returns:
      `mean`, the observed rate (NaN for no trials), and bounds within 0..1 (0 and 1 for no trials).

    Raises:
      ValueError: counts or level out of range.
    """
    if not 0 <= successes <= trials or not 0 < level < 1:
        raise ValueError(f"need 0 <= successes={successes} <= trials={trials} and 0 < level={level} < 1")
    if trials == 0:
        return Interval(math.nan, 0.0, 1.0)
    z = statistics.NormalDist().inv_cdf((1 + level) / 2)
    rate = successes / trials
    center = (rate + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * math.sqrt(rate * (1 - rate) / trials + z**2 / (4 * trials**2))
    low = 0.0 if successes == 0 else max(0.0, center - half)
    high = 1.0 if successes == trials else min(1.0, center + half)
    return Interval(rate, low, high)


def _resampled_means(filled: np.ndarray, known: np.ndarray, num_resamples: int, seed: int) -> np.ndarray:
    """Means of resampled rows: [num_resamples, d] from values with zeros for NaN and a mask, both [n, d]."""
    n = len(filled)
    rng = np.random.default_rng(seed)
    chunk = max(1, _CHUNK // n)
    means = []
    for start in range(0, num_resamples, chunk):
        size = min(chunk, num_resamples - start)
        counts = rng.multinomial(n, np.full(n, 1 / n), size=size).astype(np.float64)
        with np.errstate(invalid="ignore"):  # a resample without a measurement is NaN, and nanquantile skips it
            means.append(counts @ filled / (counts @ known))
    return np.concatenate(means)


def _shaped(a: np.ndarray, shape: tuple[int, ...]) -> float | np.ndarray:
    return a.reshape(shape) if shape else float(a[0])
