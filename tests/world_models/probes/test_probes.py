"""Probes against NumPy references in float64, closed forms and planted structure."""

import jax
import numpy as np
import optax
import pytest

from world_models.core.errors import UserError
from world_models.probes import baselines as baselines
from world_models.probes import few_shot, knn, linear, ridge


def blobs(n, seed=0, d=12, classes=3, noise=1.5):
    """Overlapping Gaussian classes: features [n, d], labels [n]."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, d))
    y = rng.integers(0, classes, n).astype(np.int32)
    return (centres[y] + noise * rng.normal(size=(n, d))).astype(np.float32), y


def uneven_blobs(*args, **options):
    """The same on very different scales, away from 0, with one feature constant."""
    x, y = blobs(*args, **options)
    x = x * np.logspace(-3, 3, x.shape[1]) + np.linspace(-5, 5, x.shape[1])
    x[:, 4] = 0.1
    return x.astype(np.float32), y


def ridge_by_least_squares(x, y, test, classes, strength, scale_from):
    """Test scores of the penalised problem written as ordinary least squares with extra rows."""
    mean, deviation = scale_from.astype(np.float64).mean(0), scale_from.astype(np.float64).std(0)
    deviation[deviation < 1e-6 * np.abs(mean)] = np.inf
    rows = np.hstack([(x - mean) / deviation, np.ones((len(x), 1))])
    penalty = np.sqrt(strength * len(x)) * np.eye(rows.shape[1])
    penalty[-1] = 0
    targets = np.vstack([np.eye(classes)[y], np.zeros((rows.shape[1], classes))])
    weights = np.linalg.lstsq(np.vstack([rows, penalty]), targets, rcond=None)[0]
    return np.hstack([(test - mean) / deviation, np.ones((len(test), 1))]) @ weights


@pytest.mark.parametrize("strength", [1e-4, 0.3, 10.0])
def test_ridge_equals_least_squares_on_the_augmented_system(strength, monkeypatch):
    monkeypatch.setattr(ridge, "_ROWS", 64)  # several blocks, the last one short
    (x, y), (test_x, test_y) = uneven_blobs(300), uneven_blobs(200, seed=1)
    scores = ridge_by_least_squares(x, y, test_x, 3, strength, x)
    result = ridge.ridge_probe(x, y, test_x, test_y, 3, strengths=(strength,))
    assert result == (np.mean(scores.argmax(1) == test_y), strength)
    scale = ridge.Standardiser.fit(x)
    weights = ridge._solve(*ridge._moments(x, y, scale, 3), strength)
    np.testing.assert_allclose(ridge._with_one(scale(test_x)) @ weights, scores, atol=1e-9)


@pytest.mark.parametrize("few", [True, False])
def test_ridge_chooses_the_strength_on_held_out_tenths_and_refits_on_all(few, monkeypatch):
    monkeypatch.setattr(ridge, "_FEW", 61 if few else 60)
    (x, y), (test_x, test_y) = uneven_blobs(60, d=40, noise=3), uneven_blobs(500, seed=1, d=40, noise=3)
    strengths = (1e-6, 1e-2, 1.0, 1e3)
    order = np.random.default_rng(0).permutation(60)
    quality = {strength: np.zeros(2) for strength in strengths}
    for start in range(0, 60 if few else 6, 6):
        held, kept = order[start : start + 6], np.delete(order, np.s_[start : start + 6])
        for strength in strengths:
            scores = ridge_by_least_squares(x[kept], y[kept], x[held], 3, strength, x)
            quality[strength] += np.sum(scores.argmax(1) == y[held]), -np.sum((scores - np.eye(3)[y[held]]) ** 2)
    best = max(quality, key=lambda strength: tuple(quality[strength]))
    assert best not in (strengths[0], strengths[-1])  # the choice is a choice
    result = ridge.ridge_probe(x, y, test_x, test_y, 3, strengths=strengths)
    assert result.strength == best
    scores = ridge_by_least_squares(x, y, test_x, 3, best, x)
    assert result.accuracy == np.mean(scores.argmax(1) == test_y)


def test_ridge_of_more_features_than_rows_works_on_as_many_numbers_as_rows(monkeypatch):
    (x, y), (test_x, test_y) = uneven_blobs(60, d=150, noise=5), uneven_blobs(500, seed=1, d=150, noise=5)
    solved = []
    solve = ridge._solve
    monkeypatch.setattr(ridge, "_solve", lambda gram, *rest: (solved.append(gram.shape), solve(gram, *rest))[1])
    for strength in (1e-2, 1.0):
        scores = ridge_by_least_squares(x, y, test_x, 3, strength, x)
        expected = np.mean(scores.argmax(1) == test_y)
        assert 0.4 < expected < 0.99
        assert ridge.ridge_probe(x, y, test_x, test_y, 3, strengths=(strength,)).accuracy == expected
    assert set(solved) == {(60, 60)}  # of 60 rows about their mean 59 directions, and a 1
    rows, others, scale = ridge._rotated(x, test_x, ridge.Standardiser.fit(x))
    scores = ridge_by_least_squares(x, y, test_x, 3, 0.1, x)
    weights = ridge._solve(*ridge._moments(rows, y, scale, 3), 0.1)
    np.testing.assert_allclose(ridge._with_one(others) @ weights, scores, atol=1e-9)


def test_ridge_does_not_change_with_the_units_of_a_feature():
    (x, y), (test_x, test_y) = uneven_blobs(400), uneven_blobs(300, seed=1)
    factors = np.float32(2.0) ** np.arange(-6, 6)
    assert ridge.ridge_probe(x, y, test_x, test_y, 3) == ridge.ridge_probe(x * factors, y, test_x * factors, test_y, 3)


def test_knn_equals_a_brute_force_vote():
    (x, y), (test_x, test_y) = blobs(500), blobs(300, seed=1)  # 300 is no multiple of the block
    unit = [a.astype(np.float64) / np.linalg.norm(a.astype(np.float64), axis=1, keepdims=True) for a in (x, test_x)]
    similarity = unit[1] @ unit[0].T
    for k, temperature in ((1, 0.07), (20, 0.07), (20, 10.0), (500, 0.5)):
        votes = np.zeros((300, 3))
        for i, row in enumerate(similarity):
            for j in np.argsort(-row)[:k]:
                votes[i, y[j]] += np.exp(row[j] / temperature)
        expected = votes.argmax(1)
        got = np.asarray(knn._vote(x, y, test_x, temperature, 3, k))
        assert np.mean(got == expected) >= 0.997  # a tie may fall the other way in float32
        accuracy = knn.knn_probe(x, y, test_x, test_y, 3, k=k, temperature=temperature)
        assert accuracy == pytest.approx(np.mean(expected == test_y), abs=0.004)


def test_knn_survives_a_temperature_near_zero_and_rows_of_zeros():
    x, y = np.eye(4, dtype=np.float32), np.arange(4)
    assert knn.knn_probe(x, y, x, y, 4, k=4, temperature=1e-4) == 1
    assert knn.knn_probe(np.vstack([x, 0 * x]), np.tile(y, 2), x, y, 4, k=8) == 1


def lars_by_hand(key, x, y, classes, batch, epochs, warmup, rate):
    """MAE's linear probe in float64: the reference's optimiser and PyTorch's batch norm, written as loops."""
    x = x.astype(np.float64)
    kernel = 0.01 * np.asarray(jax.random.normal(jax.random.fold_in(key, 0), (x.shape[1], classes)), np.float64)
    bias, mean, variance = np.zeros(classes), np.zeros(x.shape[1]), np.ones(x.shape[1])
    momentum_kernel, momentum_bias = 0.0, 0.0
    steps = len(x) // batch
    for epoch in range(epochs):
        order = np.asarray(jax.random.permutation(jax.random.fold_in(key, epoch + 1), len(x)))
        for i in range(steps):
            chosen = order[i * batch : (i + 1) * batch]
            progress = epoch + i / steps
            if progress < warmup:
                lr = rate * progress / warmup
            else:
                lr = rate * 0.5 * (1 + np.cos(np.pi * (progress - warmup) / (epochs - warmup)))
            rows = (x[chosen] - x[chosen].mean(0)) / np.sqrt(x[chosen].var(0) + 1e-6)
            mean = 0.9 * mean + 0.1 * x[chosen].mean(0)
            variance = 0.9 * variance + 0.1 * x[chosen].var(0, ddof=1)
            logits = rows @ kernel + bias
            p = np.exp(logits - logits.max(1, keepdims=True))
            error = (p / p.sum(1, keepdims=True) - np.eye(classes)[y[chosen]]) / batch
            gradient = rows.T @ error
            gradient *= 0.001 * np.linalg.norm(kernel) / np.linalg.norm(gradient)
            momentum_kernel = 0.9 * momentum_kernel + gradient
            momentum_bias = 0.9 * momentum_bias + error.sum(0)
            kernel, bias = kernel - lr * momentum_kernel, bias - lr * momentum_bias
    return kernel, bias, mean, variance


@pytest.mark.parametrize("warmup", [0, 2])
def test_linear_probe_equals_the_reference_loop(warmup):
    x, y = blobs(70)
    key = jax.random.key(3)
    probe = linear.fit(key, x, y, 2.0, num_classes=3, batch_size=32, epochs=6, warmup_epochs=warmup)
    for got, expected in zip(probe, lars_by_hand(key, x, y, 3, 32, 6, warmup, 2.0)):
        np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-6)


def test_lars_differs_from_optax_only_where_the_rate_changes():
    weights = {"kernel": np.ones((3, 2), np.float32)}
    gradient = {"kernel": np.arange(6, dtype=np.float32).reshape(3, 2)}

    def last(optimiser):
        state = optimiser.init(weights)
        for _ in range(3):
            updates, state = optimiser.update(gradient, state, weights)
        return np.asarray(updates["kernel"])

    np.testing.assert_allclose(last(linear.lars(0.5)), last(optax.lars(0.5)), rtol=1e-6)
    falling = lambda count: 0.5 / (1 + count)
    assert not np.allclose(last(linear.lars(falling)), last(optax.lars(falling)))


def test_linear_probe_learns_and_repeats_by_seed():
    (x, y), (test_x, test_y) = blobs(600), blobs(400, seed=1)
    options = {"batch_size": 64, "epochs": 40, "warmup_epochs": 4, "base_learning_rates": (25.0,)}
    accuracy = linear.linear_probe(x, y, test_x, test_y, 3, **options)
    assert accuracy == linear.linear_probe(x, y, test_x, test_y, 3, **options)
    assert accuracy >= ridge.ridge_probe(x, y, test_x, test_y, 3).accuracy - 0.03 > 0.6
    shuffled = np.random.default_rng(5).permutation(y)
    assert linear.linear_probe(x, shuffled, test_x, test_y, 3, **options) < accuracy - 0.2


def test_of_several_linear_probes_held_out_rows_choose_one_as_it_is(monkeypatch):
    (x, y), (test_x, test_y) = blobs(600), blobs(400, seed=1)
    options = {"batch_size": 64, "epochs": 40, "warmup_epochs": 4}
    learned, fit = [], linear.fit

    def remembering(key, x, y, rate, **sizes):
        learned.append((len(x), fit(key, x, y, rate, **sizes)))
        return learned[-1][1]

    monkeypatch.setattr(linear, "fit", remembering)
    accuracy = lambda probe, labels: np.mean(np.asarray(probe.logits(test_x)).argmax(axis=1) == labels)
    for rates, best in (((1e-3, 25.0), 1), ((25.0, 1e-3), 0)):
        learned.clear()
        found = linear.linear_probe(x, y, test_x, test_y, 3, **options, base_learning_rates=rates)
        assert [rows for rows, _ in learned] == [540, 540]
        assert found == accuracy(learned[best][1], test_y) > accuracy(learned[1 - best][1], test_y) + 0.1
        # The test set has no say: with other labels there, the same probe is taken.
        wrong = (test_y + 1) % 3
        assert linear.linear_probe(x, y, test_x, wrong, 3, **options, base_learning_rates=rates) == accuracy(
            learned[best][1], wrong
        )
    learned.clear()
    linear.linear_probe(x, y, test_x, test_y, 3, **options, base_learning_rates=(25.0,))
    assert [rows for rows, _ in learned] == [600]


@pytest.mark.parametrize("probe", [ridge.ridge_probe, knn.knn_probe, linear.linear_probe])
def test_probes_refuse_arrays_that_cannot_work(probe):
    x, y = blobs(30)
    for arguments, word in (
        ((x[:0], y[:0], x, y, 3), "train_x has shape"),
        ((x, y, x[:0], y[:0], 3), "test_x has shape"),
        ((x, y, x, y, 2), "num_classes=2 allows 0..1"),
        ((x, y - 1, x, y, 3), "train_y holds labels -1"),
        ((x, y, x, y.astype(np.float32), 3), "test_y has type float32"),
        ((x, y[:-1], x, y, 3), "one label for each of the 30 rows"),
        ((x, y, x[:, :5], y, 3), "5 features"),
        ((np.where(np.arange(30)[:, None] == 7, np.nan, x), y, x, y, 3), "in 1 of 30 rows"),
        ((x, y, x, y, 1), "num_classes=1"),
    ):
        with pytest.raises(UserError, match=word):
            probe(*arguments)


def test_options_out_of_range_are_named():
    x, y = blobs(30)
    for call, word in (
        (lambda: knn.knn_probe(x, y, x, y, 3, k=31), "k=31 must be between 1 and the 30 rows"),
        (lambda: knn.knn_probe(x, y, x, y, 3, temperature=0), "temperature=0"),
        (lambda: ridge.ridge_probe(x, y, x, y, 3, strengths=()), "strengths="),
        (lambda: ridge.ridge_probe(x, y, x, y, 3, strengths=(0.0, 1.0)), "strengths="),
        (lambda: ridge.ridge_probe(x[:1], y[:1], x, y, 3), "one row"),
        (lambda: linear.linear_probe(x, y, x, y, 3), "batch_size=16384"),
        (lambda: linear.linear_probe(x, y, x, y, 3, batch_size=8, epochs=5, warmup_epochs=5), "warmup_epochs=5"),
        (lambda: linear.linear_probe(x, y, x, y, 3, batch_size=8, base_learning_rates=()), "base_learning_rates="),
        (lambda: linear.linear_probe(x, y, x, y, 3, batch_size=8, base_learning_rates=(1, 0)), "base_learning_rates="),
        (lambda: linear.linear_probe(x, y, x, y, 3, batch_size=30, base_learning_rates=(1, 2)), "the 27 rows"),
    ):
        with pytest.raises(UserError, match=word):
            call()


def test_balanced_subsets_are_balanced_nested_and_repeatable():
    labels = np.random.default_rng(0).integers(0, 5, 2000)
    small, large = (few_shot.balanced_subset(labels, n, seed=7) for n in (10, 100))
    assert small.dtype == np.int64
    assert np.bincount(labels[small]).tolist() == [10] * 5
    assert np.bincount(labels[large]).tolist() == [100] * 5
    assert len(set(large)) == 500
    assert set(small) < set(large)
    np.testing.assert_array_equal(small, few_shot.balanced_subset(labels, 10, seed=7))
    assert set(small) != set(few_shot.balanced_subset(labels, 10, seed=8))


def test_balanced_subset_names_the_classes_that_are_short():
    with pytest.raises(UserError, match=r"per_class=3 .* class 1 \(0\), 2 \(2\)"):
        few_shot.balanced_subset(np.array([0, 0, 0, 2, 2]), 3, seed=0)
    for labels, per_class in (([], 1), ([-1, 0], 1), ([0, 1], 0)):
        with pytest.raises(UserError):
            few_shot.balanced_subset(np.array(labels, int), per_class, seed=0)


def test_random_features_are_a_relu_of_standardised_pixels():
    rng = np.random.default_rng(0)
    train, test = rng.integers(0, 256, (2, 50, 1, 6, 5, 3), dtype=np.uint8)
    got, got_test = baselines.random_features(train, test, 16, seed=4)
    mean, deviation = train.mean(), train.std()
    weights = np.random.default_rng(4).normal(0, np.sqrt(2 / 90), (90, 16))
    for frames, features in ((train, got), (test, got_test)):
        expected = np.maximum((frames.reshape(50, 90) - mean) / deviation @ weights, 0)
        np.testing.assert_allclose(features, expected, atol=1e-5)
        assert features.dtype == np.float32
    # Brighter or paler frames, standardised alike, give the same features.
    paler = (
        baselines.random_features(train // 2 * 2, test, 16, seed=4),
        baselines.random_features(train // 2, test, 16, seed=4),
    )
    np.testing.assert_allclose(paler[0][0], paler[1][0], atol=1e-4)
    assert not np.allclose(got, baselines.random_features(train, test, 16, seed=5)[0])


def test_raw_pixels_are_flat_and_in_0_to_1():
    frames = np.arange(24, dtype=np.uint8).reshape(2, 1, 3, 4, 1)
    np.testing.assert_allclose(baselines.raw_pixels(frames), np.arange(24).reshape(2, 12) / 255, rtol=1e-6)
    for wrong in (frames.astype(np.float32), frames[:0]):
        with pytest.raises(UserError, match="frames are"):
            baselines.raw_pixels(wrong)
    with pytest.raises(UserError, match="width=0"):
        baselines.random_features(frames, frames, 0, seed=0)
    with pytest.raises(UserError, match="use one size"):
        baselines.random_features(frames, frames[:, :, :2], 4, seed=0)
