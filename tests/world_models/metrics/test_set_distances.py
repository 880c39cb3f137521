"""Fréchet and kernel distances beside scipy, closed forms and sums written out in NumPy."""

import math

import numpy as np
import pytest
import scipy.linalg

from world_models.metrics.frechet import Moments, distance_of_moments, frechet_distance, merge_all, moments
from world_models.metrics.kernel import kernel_distance


def correlated(rng, count, dimension=6):
    return rng.normal(size=(count, dimension)) @ rng.normal(size=(dimension, dimension)) + rng.normal(size=dimension)


def test_frechet_distance_is_scipys():
    rng = np.random.default_rng(0)
    x, y = correlated(rng, 300), correlated(rng, 200)
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(a @ b).real
    expected = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(a + b - 2 * root)
    found = frechet_distance(x, y)
    assert found.distance == pytest.approx(expected, rel=1e-9)
    assert (found.count, found.reference_count, found.dimension) == (300, 200, 6)
    assert found.low < found.distance < found.high


def test_frechet_distance_of_gaussians_that_commute():
    """Diagonal covariances: the sum of squared differences of means and of standard deviations."""
    gaussian = lambda mean, std: Moments(11, np.array(mean, float), 10 * np.diag(np.square(np.array(std, float))))
    assert distance_of_moments(gaussian([0, 1], [1, 2]), gaussian([3, 1], [1, 5])) == pytest.approx(9 + 9, rel=1e-12)
    singular = gaussian([0, 0], [0, 2])
    assert distance_of_moments(singular, singular) == pytest.approx(0, abs=1e-12)


def test_singular_and_badly_scaled_covariances_give_no_nan():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(5, 40)) * np.logspace(-8, 4, 40)  # fewer samples than dimensions
    found = frechet_distance(x, x + 1)
    assert found.distance == pytest.approx(40, rel=1e-6)
    assert np.isfinite(found).all()


def test_streamed_moments_are_those_of_all_samples_far_from_zero():
    x = 1e6 + np.random.default_rng(2).normal(size=(1000, 4))
    streamed = merge_all([moments(part.astype(np.float64)) for part in np.array_split(x, 13)])
    np.testing.assert_allclose(streamed.mean, x.mean(0), rtol=1e-14)
    np.testing.assert_allclose(streamed.covariance, np.cov(x, rowvar=False), rtol=1e-8, atol=1e-9)


def test_bias_falls_with_samples_and_the_jackknife_finds_it():
    rng = np.random.default_rng(3)
    draw = lambda n: rng.normal(size=(n, 8))
    small, large = ([frechet_distance(draw(n), draw(n)) for _ in range(10)] for n in (60, 600))
    mean = lambda found: np.mean([one.distance for one in found])
    assert mean(small) > 5 * mean(large) > 0
    corrected = np.mean([one.distance - one.bias for one in small])
    assert abs(corrected) < 0.35 * mean(small)


def test_intervals_are_wider_where_rows_depend_on_each_other():
    rng = np.random.default_rng(4)
    groups = rng.permutation(np.repeat(np.arange(20), 10))
    x = rng.normal(size=(20, 3))[groups] + 0.1 * rng.normal(size=(200, 3))
    y = rng.normal(size=(200, 3)) + 0.5
    for measure in (frechet_distance, kernel_distance):
        alone, together = measure(x, y), measure(x, y, groups)
        assert together.high - together.low > 1.5 * (alone.high - alone.low)


def by_hand(x, y, groups=None):
    groups = np.arange(len(x)) if groups is None else groups
    kernel = lambda a, b: (float(np.dot(a, b)) / len(a) + 1) ** 3
    within = lambda z, g: np.mean([kernel(a, b) for a, i in zip(z, g) for b, j in zip(z, g) if i != j])
    return within(x, groups) + within(y, np.arange(len(y))) - 2 * np.mean([kernel(a, b) for a in x for b in y])


def test_kernel_distance_by_hand_whole_and_in_blocks():
    rng = np.random.default_rng(5)
    x, y = correlated(rng, 9, 3), correlated(rng, 13, 3)
    assert kernel_distance(x, y).distance == pytest.approx(by_hand(x, y), rel=1e-10)
    x, y = correlated(rng, 22, 3), correlated(rng, 27, 3)
    blocks = [by_hand(x[4 * i : 4 * i + 4], y[4 * i : 4 * i + 4]) for i in range(5)]
    found = kernel_distance(x, y, block_size=4)
    assert found.distance == pytest.approx(np.mean(blocks), rel=1e-10)
    assert found.error == pytest.approx(np.std(blocks, ddof=1) / math.sqrt(5), rel=1e-10)
    assert (found.count, found.reference_count) == (20, 20)


def test_jackknife_of_the_kernel_distance_by_hand():
    rng = np.random.default_rng(9)
    x, y = correlated(rng, 8, 3), correlated(rng, 6, 3)
    groups = np.array([2, 0, 0, 5, 2, 1, 1, 2])
    left = [by_hand(x[groups != one], y, groups[groups != one]) for one in np.unique(groups)]
    variance = 3 / 4 * np.sum(np.square(left - np.mean(left)))
    left = [by_hand(x, np.delete(y, i, axis=0), groups) for i in range(6)]
    variance += 5 / 6 * np.sum(np.square(left - np.mean(left)))
    found = kernel_distance(x, y, groups)
    assert found.distance == pytest.approx(by_hand(x, y, groups), rel=1e-10)
    assert found.error == pytest.approx(math.sqrt(variance), rel=1e-9)


def test_kernel_distance_of_rows_that_depend_on_each_other_is_unbiased():
    rng = np.random.default_rng(10)
    groups = np.repeat(np.arange(8), 5)
    draw = lambda: rng.normal(size=(8, 3))[groups] + 0.1 * rng.normal(size=(40, 3))
    pairs = [(draw(), rng.normal(size=(60, 3)) * 1.005) for _ in range(300)]
    right, wrong = (np.array([kernel_distance(x, y, g).distance for x, y in pairs]) for g in (groups, None))
    assert abs(right.mean()) < 3 * right.std() / 300**0.5
    assert wrong.mean() > 5 * wrong.std() / 300**0.5


def test_kernel_distance_is_unbiased_and_its_interval_covers():
    rng = np.random.default_rng(6)
    same = [kernel_distance(rng.normal(size=(12, 4)), rng.normal(size=(80, 4))) for _ in range(400)]
    values = np.array([one.distance for one in same])
    assert abs(values.mean()) < 3 * values.std() / 20
    assert values.min() < 0
    assert np.mean([one.low <= 0 <= one.high for one in same]) > 0.85
    apart = kernel_distance(rng.normal(size=(12, 4)) + 2, rng.normal(size=(80, 4)))
    assert apart.low > 0


@pytest.mark.parametrize("measure", [frechet_distance, kernel_distance])
def test_bad_features_raise(measure):
    good = np.random.default_rng(7).normal(size=(10, 3))
    for bad in (good[:, :2], good[:1], good[0], np.where(good > 1, np.nan, good), good[:0]):
        with pytest.raises(ValueError, match=r"shape|samples"):
            measure(bad, good)


def test_too_few_groups_leave_the_interval_open():
    x = np.random.default_rng(8).normal(size=(10, 3))
    assert math.isfinite(frechet_distance(x, x + 1, np.zeros(10, int)).distance)
    for measure, groups in ((frechet_distance, np.zeros(10, int)), (kernel_distance, np.arange(10) % 2)):
        assert math.isnan(measure(x, x + 1, groups).low)
