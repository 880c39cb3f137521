"""Confidence intervals against hand-computed numbers, SciPy and their own promise: coverage."""

import numpy as np
import pytest
from scipy import stats

from world_models.metrics.intervals import bootstrap_interval, wilson_interval


@pytest.mark.parametrize(
    ("successes", "trials", "expected"),
    [
        (5, 10, (0.2366, 0.7634)),  # (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n) by hand, z = 1.96
        (0, 10, (0.0, 0.2775)),  # z² / (n + z²)
        (10, 10, (0.7225, 1.0)),
        (81, 263, (0.2553, 0.3662)),  # Newcombe 1998, table I
        (15, 148, (0.0624, 0.1605)),  # Newcombe 1998, table I
    ],
)
def test_wilson_numbers(successes, trials, expected):
    interval = wilson_interval(successes, trials)
    assert interval.mean == successes / trials
    assert (interval.low, interval.high) == pytest.approx(expected, abs=1e-4)


def test_wilson_agrees_with_scipy_at_other_levels():
    for level in (0.8, 0.99):
        expected = stats.binomtest(7, 50).proportion_ci(level, method="wilson")
        interval = wilson_interval(7, 50, level)
        assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_wilson_edges():
    nothing = wilson_interval(0, 0)
    assert np.isnan(nothing.mean)
    assert nothing[1:] == (0, 1)
    for successes, trials in ((-1, 3), (4, 3)):
        with pytest.raises(ValueError, match=f"successes={successes}"):
            wilson_interval(successes, trials)


def test_bootstrap_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    samples = rng.exponential(1.0, (60, 400))  # 400 experiments of 60 skewed values of mean 1
    for level in (0.8, 0.95):
        interval = bootstrap_interval(samples, level=level, num_resamples=2000)
        covered = np.mean((interval.low < 1) & (interval.high > 1))
        assert level - 0.05 < covered < level + 0.04


def test_bootstrap_agrees_with_scipy():
    values = np.random.default_rng(1).gamma(2, 1, 40)
    interval = bootstrap_interval(values, level=0.9)
    expected = stats.bootstrap((values,), np.mean, confidence_level=0.9, method="percentile", rng=1).confidence_interval
    width = expected.high - expected.low
    assert interval.mean == pytest.approx(values.mean())
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=0.03 * width)


def test_bootstrap_ignores_nan_and_keeps_shapes():
    values = np.random.default_rng(2).normal(size=(30, 2, 3))
    values[::3, 0, 0] = np.nan
    values[:, 1, 1] = np.nan
    values[1:, 1, 2] = np.nan
    interval = bootstrap_interval(values, num_resamples=500)
    assert interval.mean.shape == interval.low.shape == interval.high.shape == (2, 3)
    assert interval.mean[0, 0] == pytest.approx(np.nanmean(values[:, 0, 0]))
    assert interval.low[0, 0] < interval.mean[0, 0] < interval.high[0, 0]
    assert np.isnan([a[1, 1] for a in interval]).all()
    assert interval.mean[1, 2] == values[0, 1, 2]  # one measurement has a mean and no spread
    assert np.isnan([interval.low[1, 2], interval.high[1, 2]]).all()


def test_bootstrap_is_deterministic_in_the_seed():
    values = np.random.default_rng(3).normal(size=50)
    first, again = bootstrap_interval(values), bootstrap_interval(values)
    assert first == again
    assert first != bootstrap_interval(values, seed=1)
    assert isinstance(bootstrap_interval(values).low, float)


def test_bootstrap_of_nothing_and_of_infinities():
    assert np.isnan(bootstrap_interval(np.zeros(0))).all()
    with pytest.raises(ValueError, match="infinities"):
        bootstrap_interval(np.array([1.0, np.inf]))
