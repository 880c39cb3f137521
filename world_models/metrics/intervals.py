"""Confidence intervals of means that never leave the range of possible values.

Which one for what, with k training seeds that are all evaluated on the same n episodes:

- success rates, of which only the rate of every seed is known: `proportion_interval`, over episodes and seeds;
- one number for every episode: `episode_bootstrap`, over episodes and seeds; `bootstrap_interval` for a single seed;
- one number for every seed: `student_interval`, over seeds.
"""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats

_BATCH = 2**22  # resampled values held at once: 32 MB


class Interval(NamedTuple):
    """A mean between its confidence bounds; floats, or arrays of one shape."""

    mean: float | np.ndarray
    low: float | np.ndarray
    high: float | np.ndarray


def bootstrap_interval(
    values: np.ndarray, *, level: float = 0.95, num_resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Percentile bootstrap of the mean over the first axis (Efron 1979), by `scipy.stats.bootstrap`.

    Args:
      values: [n, ...], independent along the first axis; NaN where there is no measurement.
      level: confidence level in (0, 1).
      num_resamples: how often the values are resampled.
      seed: the same seed gives the same interval.

    Returns:
      Mean and bounds of shape [...] (floats where `values` is [n]). The mean is NaN without a measurement; the bounds
      are NaN with fewer than two, since one number says nothing about spread.

    Raises:
      ValueError: `values` is a scalar or holds infinities, or `level` or `num_resamples` is out of range.
    """
    values = np.asarray(values, np.float64)
    if values.ndim == 0 or np.isinf(values).any():
        raise ValueError("values must have a first axis to resample and hold no infinities")
    if not 0 < level < 1 or num_resamples < 1:
        raise ValueError(f"level={level} must be in (0, 1) and num_resamples={num_resamples} at least 1")

    def of_column(column: np.ndarray) -> np.ndarray:
        known = column[~np.isnan(column)]
        if len(known) < 2:
            return np.array([known.mean() if len(known) else np.nan, np.nan, np.nan])
        found = scipy.stats.bootstrap(
            (known,),
            np.mean,
            n_resamples=num_resamples,
            batch=max(1, _BATCH // len(known)),
            confidence_level=level,
            method="percentile",
            rng=seed,
        ).confidence_interval
        return np.array([known.mean(), found.low, found.high])

    if values.shape[0] == 0:
        values = np.full((1, *values.shape[1:]), np.nan)
    columns = np.apply_along_axis(of_column, 0, values)
    return Interval(*(map(float, columns) if values.ndim == 1 else columns))


def episode_bootstrap(
    values: np.ndarray, *, level: float = 0.95, num_resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Bootstrap over seeds and episodes: resamples the seeds and, for all of them together, the episodes (Owen 2007).

    Of k seeds, k - 1 are drawn, so that their spread has the right variance even where they are few (Rao and Wu 1988);
    with fewer than ten seeds of much spread the interval is still too narrow. A bound is a mean of possible values,
    hence possible itself.

    Args:
      values: [seeds, episodes], finite; all seeds on the same episodes.
      level, num_resamples, seed: as in `bootstrap_interval`.

    Returns:
      The mean and its bounds; NaN bounds for a single value.

    Raises:
      ValueError: `values` is empty, of another rank or not finite.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise ValueError(f"values of shape {values.shape} must be finite and of shape [seeds, episodes], both above 0")
    mean = float(values.mean())
    if values.size < 2:
        return Interval(mean, math.nan, math.nan)
    rng = np.random.default_rng(seed)
    (k, n), drawn = values.shape, max(1, len(values) - 1)
    means = np.empty(num_resamples)
    for part in np.array_split(means, math.ceil(num_resamples * n / _BATCH)):
        seeds = rng.multinomial(drawn, np.full(k, 1 / k), size=len(part)) / drawn
        episodes = rng.multinomial(n, np.full(n, 1 / n), size=len(part)) / n
        part[:] = np.sum(seeds @ values * episodes, axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    clipped = np.clip([low, high], values.min(), values.max())  # only rounding errors are outside
    return Interval(mean, float(clipped[0]), float(clipped[1]))


def student_interval(
    values: Sequence[float], possible: tuple[float, float] = (-math.inf, math.inf), level: float = 0.95
) -> Interval:
    """Student's interval of the mean of a few independent values, within the range of possible ones.

    Where the range has a bound, the interval is symmetric on the scale of the logarithm (one bound) or the logit (two)
    around the mean, with the standard error carried there by the delta method, as is usual for proportions in surveys.

    Args:
      values: at least one finite number.
      possible: the least and the greatest value that there can be; infinite where there is no bound.
      level: confidence level in (0, 1).

    Returns:
      Mean and bounds; the bounds are NaN for a single value.

    Raises:
      ValueError: a value is outside `possible`.
    """
    least, greatest = possible
    if not least <= min(values) <= max(values) <= greatest:
        raise ValueError(f"values={list(values)} must be within possible={possible}")
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Interval(mean, math.nan, math.nan)
    half = float(scipy.stats.t.ppf((1 + level) / 2, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    below, above = mean - least, greatest - mean
    if half == 0 or below <= 0 or above <= 0:
        return Interval(mean, mean, mean)
    if math.isinf(below) and math.isinf(above):
        return Interval(mean, mean - half, mean + half)
    if math.isinf(above):
        bounds = [least + below * _exp(sign * half / below) for sign in (-1, 1)]
    elif math.isinf(below):
        bounds = [greatest - above * _exp(-sign * half / above) for sign in (-1, 1)]
    else:
        shift = half * (1 / below + 1 / above)
        bounds = [least + (greatest - least) / (1 + above / below * _exp(-sign * shift)) for sign in (-1, 1)]
    low, high = np.clip(bounds, least, greatest)  # only rounding errors are outside
    return Interval(mean, min(mean, float(low)), max(mean, float(high)))


def wilson_interval(successes: float, trials: float, level: float = 0.95) -> Interval:
    """Wilson's score interval of a success rate (Wilson 1927): sensible for few trials and rates near 0 and 1.

    The closed form, since `scipy.stats.binomtest` takes whole numbers only and an effective number of trials is none.

    Args:
      successes, trials: counts or effective counts, 0 <= successes <= trials.
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


def proportion_interval(rates: Sequence[float], episodes: int, level: float = 0.95) -> Interval:
    """Interval of a success rate over seeds and episodes: Wilson's, with an effective number of episodes.

    The effective number is the one of surveys of clusters (Korn and Graubard 1998): that for which p (1 - p) / n is the
    variance between seeds, s² / k, times the squared ratio of Student's quantile to the normal one, since seeds are
    few; but at most `episodes`, since all seeds are evaluated on the same episodes, which therefore count once. For one
    seed it is Wilson's interval of its episodes, which says nothing about other seeds.

    In simulations with 2 to 10 seeds, 25 to 500 episodes and rates of 0.5 to 0.9, it covers the true rate in 91 % of
    cases or more where the standard deviation of the seeds' logits is at most 1; in 82 % at worst where that is 2 and
    the rate is near 1, so that a rare seed fails where the others do not.

    Args:
      rates: success rate of every seed in 0..1; at least one.
      episodes: of every seed, at least 1.
      level: confidence level in (0, 1).

    Raises:
      ValueError: an argument is out of range.
    """
    if episodes < 1 or not 0 <= min(rates) <= max(rates) <= 1:
        raise ValueError(f"rates={list(rates)} must be within 0..1 and episodes={episodes} at least 1")
    mean, effective = statistics.fmean(rates), float(episodes)
    if len(rates) > 1 and max(rates) > min(rates):
        ratio = scipy.stats.t.ppf((1 + level) / 2, len(rates) - 1) / scipy.stats.norm.ppf((1 + level) / 2)
        between = float(ratio) ** 2 * statistics.variance(rates) / len(rates)
        effective = min(effective, mean * (1 - mean) / between)
    found = wilson_interval(min(mean * effective, effective), effective, level)
    return Interval(mean, min(mean, found.low), max(mean, found.high))


def _exp(x: float) -> float:
    """The exponential, infinite where it does not fit."""
    return math.exp(x) if x < 700 else math.inf
