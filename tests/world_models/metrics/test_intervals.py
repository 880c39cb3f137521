"""Confidence intervals against closed forms, SciPy and their own promise: coverage, within the possible range."""

import math

import numpy as np
import pytest
from scipy import stats

from world_models.metrics.intervals import (
    bootstrap_interval,
    episode_bootstrap,
    proportion_interval,
    student_interval,
    wilson_interval,
)


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


def test_wilson_bounds_are_the_rates_that_a_score_test_just_accepts():
    for successes, trials in ((3, 10), (1, 50), (499, 500), (7.5, 12.25)):
        z2, rate = stats.norm.ppf(0.975) ** 2, successes / trials
        # (rate - p)² = z² p (1 - p) / n, as a polynomial in p.
        roots = np.sort(np.roots([1 + z2 / trials, -2 * rate - z2 / trials, rate**2]))
        assert wilson_interval(successes, trials)[1:] == pytest.approx(roots, rel=1e-9)


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


def test_bootstraps_agree_with_plain_resampling():
    rng = np.random.default_rng(7)
    values = rng.gamma(2, 1, (4, 30))
    means, both = np.empty(20_000), np.empty(20_000)
    for i in range(20_000):
        episodes = rng.integers(30, size=30)
        means[i] = values[0, episodes].mean()
        both[i] = values[np.ix_(rng.integers(4, size=3), episodes)].mean()
    for found, expected in ((bootstrap_interval(values[0]), means), (episode_bootstrap(values), both)):
        low, high = np.quantile(expected, [0.025, 0.975])
        assert (found.low, found.high) == pytest.approx((low, high), abs=0.04 * (high - low))


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


def test_student_agrees_with_scipy_where_nothing_is_bounded():
    values = [3.0, 5.0, 10.0]
    interval = student_interval(values, level=0.9)
    expected = stats.t.interval(0.9, 2, np.mean(values), stats.sem(values))
    assert (interval.low, interval.high) == pytest.approx(expected)
    assert np.isnan(student_interval([2.0])[1:]).all()
    assert student_interval([2.0, 2.0]) == (2, 2, 2)
    with pytest.raises(ValueError, match="possible"):
        student_interval([-1.0, 2.0], (0, math.inf))


def test_student_within_a_range_is_symmetric_on_its_scale_and_plain_far_from_bounds():
    values = np.array([0.2, 0.3, 0.4])
    half = stats.t.ppf(0.975, 2) * stats.sem(values)
    logit = lambda p: np.log(p / (1 - p))
    low, high = logit(np.array(student_interval(values, (0, 1))[1:]))
    assert (low, high) == pytest.approx(logit(0.3) + np.array([-1, 1]) * half / (0.3 * 0.7))
    low, high = np.log(student_interval(values, (0, math.inf))[1:])
    assert (low, high) == pytest.approx(np.log(0.3) + np.array([-1, 1]) * half / 0.3)
    mirrored = student_interval(-values, (-math.inf, 0))
    assert (-mirrored.high, -mirrored.low) == pytest.approx(student_interval(values, (0, math.inf))[1:])
    assert student_interval(values, (-1e6, 1e6)) == pytest.approx(student_interval(values), rel=1e-4)


def test_a_proportion_of_seeds_that_agree_is_wilson_of_the_episodes_that_they_share():
    for rate, seeds in ((0.36, 1), (0.36, 3), (1.0, 3), (0.0, 2)):
        expected = stats.binomtest(round(rate * 50), 50).proportion_ci(method="wilson")
        found = proportion_interval([rate] * seeds, 50)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_the_effective_episodes_of_a_proportion_carry_the_spread_between_seeds():
    rates, episodes = [0.4, 0.6, 0.8], 1000
    ratio = stats.t.ppf(0.975, 2) / stats.norm.ppf(0.975)
    n = 0.6 * 0.4 / (ratio**2 * 0.04 / 3)  # about 3 of 1,000
    z = stats.norm.ppf(0.975)
    center, half = 0.6 + z**2 / (2 * n), z * np.sqrt(0.6 * 0.4 / n + z**2 / (4 * n**2))
    found = proportion_interval(rates, episodes)
    assert (found.low, found.high) == pytest.approx(np.array([center - half, center + half]) / (1 + z**2 / n))
    for rates, episodes in (([0.5, 1.1], 10), ([0.5], 0)):
        with pytest.raises(ValueError, match="episodes"):
            proportion_interval(rates, episodes)


def _success_rates(rng, seeds, episodes, spread, shared):
    """Successes [seeds, episodes]: logits vary by seed and, for all seeds together, by episode."""
    logits = 1.5 + spread * rng.normal(size=(seeds, 1)) + shared * rng.normal(size=episodes)
    return (rng.random((seeds, episodes)) < 1 / (1 + np.exp(-logits))).astype(float)


@pytest.mark.parametrize(
    ("seeds", "spread", "shared", "interval"),
    [
        (3, 0.0, 0.0, "proportion"),
        (3, 0.7, 0.0, "proportion"),
        (3, 0.7, 3.0, "proportion"),
        (10, 0.7, 3.0, "proportion"),
        (10, 0.7, 0.0, "bootstrap"),
        (10, 0.7, 3.0, "bootstrap"),
    ],
)
def test_intervals_over_seeds_and_episodes_cover_the_success_rate(seeds, spread, shared, interval):
    rng = np.random.default_rng(0)
    truth = np.mean([_success_rates(rng, 400, 100, spread, shared) for _ in range(40)])
    covered = 0
    for i in range(300):
        values = _success_rates(rng, seeds, 50, spread, shared)
        if interval == "proportion":
            found = proportion_interval(values.mean(axis=1), 50)
        else:
            found = episode_bootstrap(values, num_resamples=400, seed=i)
        covered += found.low <= truth <= found.high
    assert covered / 300 > 0.91


def test_the_episode_bootstrap_of_independent_values_has_their_standard_error():
    values = np.random.default_rng(4).gamma(2, 1, (1, 200))
    one = episode_bootstrap(values)
    plain = bootstrap_interval(values[0])
    width = plain.high - plain.low
    assert (one.low, one.high) == pytest.approx((plain.low, plain.high), abs=0.05 * width)
    seeds = np.repeat(np.random.default_rng(5).normal(size=(30, 1)), 7, axis=1)  # nothing varies within a seed
    found = episode_bootstrap(seeds)
    assert found.high - found.low == pytest.approx(2 * 1.96 * stats.sem(seeds[:, 0]), rel=0.1)
    assert np.isnan(episode_bootstrap(np.ones((1, 1)))[1:]).all()
    for values in (np.zeros((0, 3)), np.zeros(3), np.array([[np.nan, 1]])):
        with pytest.raises(ValueError, match="shape"):
            episode_bootstrap(values)


def test_no_interval_leaves_the_possible_range_or_its_mean():
    rng = np.random.default_rng(6)
    for case in range(400):
        k, n = rng.integers(1, 6), int(rng.integers(1, 40))
        hits = rng.random((k, n)) < rng.choice([0, 1e-9, rng.random(), 1])
        rates = rng.choice([hits.mean(axis=1), rng.random(k)]) if case % 2 else hits.mean(axis=1)
        wide = 10.0 ** rng.integers(-12, 12, k) * rng.random(k)
        found = {
            "proportion": (proportion_interval(rates, n), 0, 1),
            "bootstrap": (episode_bootstrap(hits * 1.0, num_resamples=50), 0, 1),
            "share": (student_interval(rates, (0, 1)), 0, 1),
            "correlation": (student_interval(2 * rates - 1, (-1, 1)), -1, 1),
            "positive": (student_interval(wide, (0, math.inf)), 0, math.inf),
        }
        for name, (interval, least, greatest) in found.items():
            if not math.isnan(interval.low):
                assert least <= interval.low <= interval.mean <= interval.high <= greatest, (name, case)
