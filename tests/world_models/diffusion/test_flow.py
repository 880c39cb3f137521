"""Flow matching and shortcuts against closed forms and NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from world_models.diffusion.flow import Flow, Shortcut, ramp

STD = 0.5  # of Gaussian data


def _keys(*shape):
    return jax.random.split(jax.random.key(0), shape)


def _clean(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def _best(x, level, *_):
    """E[x0 | z] for x0 ~ N(0, STD²) and z = τ·x0 + (1 − τ)·ε, with data_std=1."""
    return level * STD**2 / (level**2 * STD**2 + (1 - level) ** 2) * x


def _error(process):
    """The largest error of a sample of Gaussian data: the exact flow scales its noise by STD."""
    key, shape = jax.random.key(1), (64, 3)
    found = process.sample(_best, key, shape)
    return float(np.abs(found - STD * jax.random.normal(key, shape)).max())


@pytest.mark.parametrize(("order", "rate"), [(1, 2), (2, 4)])
def test_euler_has_order_one_and_heun_two(order, rate):
    coarse, fine = (_error(Flow(num_steps=n, order=order)) for n in (32, 64))
    assert fine < 0.05
    assert rate * 0.75 < coarse / fine < rate * 1.6


def test_data_of_one_point_are_sampled_exactly_in_any_number_of_steps():
    for process in (Flow(num_steps=1), Flow(num_steps=3, order=2), Shortcut(num_steps=4)):
        found = process.sample(lambda x, *_: jnp.full_like(x, 0.3), jax.random.key(0), (5, 2))
        np.testing.assert_allclose(found, 0.3, atol=1e-6)


def test_temperature_scales_the_noise_that_sampling_starts_from():
    for process in (Flow(num_steps=1, temperature=0.5), Shortcut(num_steps=1, temperature=0.5)):
        start = process.sample(lambda x, *_: x, jax.random.key(0), (2000,))  # one step leads to the estimate
        assert abs(float(start.std()) - 0.5) < 0.03


@pytest.mark.parametrize("prediction", ["clean", "velocity", "noise"])
@pytest.mark.parametrize("loss", ["clean", "velocity"])
def test_errors_are_squared_in_the_space_that_the_loss_names(prediction, loss):
    """Whatever the network predicts, a wrong output costs the squared error of the x or the velocity it means."""
    process = Flow(data_std=2.0, prediction=prediction, loss=loss, weight="uniform")
    clean, keys, rng = 2 * _clean(200, 6), _keys(200), np.random.default_rng(1)
    noised = process.add_noise(clean, keys)
    wrong = noised.target + 0.1 * rng.standard_normal(clean.shape)
    level = np.asarray(noised.level, np.float64)[:, None]
    found = process.denoised(noised.noisy, wrong, noised.level) / 2 - clean / 2
    expected = np.mean((found if loss == "clean" else found / (1 - level)) ** 2, axis=1)
    errors = process.errors(lambda *_: wrong, clean, keys)
    inner = (level[:, 0] > 0.05) & (level[:, 0] < 0.95)  # beyond, divisors are bounded
    np.testing.assert_allclose(errors[inner], expected[inner], rtol=1e-3)
    assert np.isfinite(errors).all()


def test_the_ramp_weighs_levels_from_a_tenth_to_one():
    np.testing.assert_allclose(ramp(np.array([0.0, 0.5, 1.0])), [0.1, 0.55, 1.0])
    clean, keys = _clean(50, 4), _keys(50)
    level = Flow().add_noise(clean, keys).level
    found = [Flow(weight=weight).errors(lambda x, _: 0 * x, clean, keys) for weight in ("ramp", "uniform")]
    np.testing.assert_allclose(found[0] / found[1], 0.9 * level + 0.1, rtol=1e-5)


def test_a_level_per_frame_is_uniform():
    level = np.asarray(Flow().add_noise(_clean(50, 40, 2), _keys(50, 40)).level)
    assert abs(level.mean() - 0.5) < 0.03
    assert abs(level.var() - 1 / 12) < 0.01
    assert abs(np.corrcoef(level[:, 0], level[:, 1])[0, 1]) < 0.5


def _record(process, network, clean, keys):
    """(errors, arguments of all calls of the network), without compilation."""
    calls = []

    def recorded(*inputs):
        calls.append([np.asarray(x, np.float64) for x in inputs[:3]])
        return network(*inputs[:3])

    return process.errors(recorded, clean, keys), calls


def test_shortcuts_of_straight_flows_cost_nothing():
    """All data are one point: every step from anywhere leads straight there."""
    clean = np.full((8, 3, 2), 0.7, np.float32)
    errors, calls = _record(Shortcut(max_steps=8), lambda x, *_: jnp.full_like(x, 0.7), clean, _keys(8, 3))
    np.testing.assert_allclose(errors, 0, atol=1e-9)
    assert [call[0].shape[0] for call in calls] == [2, 2, 8]  # a quarter of the examples makes two half steps


def test_the_target_of_a_shortcut_equals_two_half_steps_in_numpy():
    process, clean, keys = Shortcut(max_steps=16, self_share=0.5), _clean(6, 4, 5), _keys(6, 4)
    network = lambda z, level, size: 0.3 * z * (1 + level)[..., None] + 0.1 * size[..., None]
    errors, calls = _record(process, network, clean, keys)
    noisy, level, size = calls[-1]
    target = clean.astype(np.float64)
    z, t, e = noisy[::2], level[::2], size[::2]
    d = 2.0**-e
    first = (network(z, t, e + 1) - z) / (1 - t)[..., None]
    middle = z + first * d[..., None] / 2
    second = (network(middle, t + d / 2, e + 1) - middle) / (1 - t - d / 2)[..., None]
    target[::2] = z + (1 - t)[..., None] * (first + second) / 2
    expected = (0.9 * level + 0.1) * ((network(noisy, level, size) - target) ** 2).mean(-1)
    np.testing.assert_allclose(errors, expected, rtol=1e-4, atol=1e-6)


def test_levels_lie_on_the_grid_of_their_steps():
    _, calls = _record(Shortcut(max_steps=16), lambda x, *_: x, _clean(400, 3, 1), _keys(400, 3))
    _, level, size = calls[-1]
    own, others = np.arange(400) % 4 == 0, np.arange(400) % 4 > 0
    assert set(size[others].ravel()) == {4}
    assert set(size[own].ravel()) == {0, 1, 2, 3}
    np.testing.assert_array_equal(level * 2**size % 1, 0)
    assert set(np.unique(level[others])) == {i / 16 for i in range(16)}
    assert level.max() < 1


def test_no_gradient_passes_through_the_half_steps():
    clean, keys = _clean(4, 3), _keys(4)
    process = dataclasses.replace(Shortcut(max_steps=8), self_share=1.0)

    def loss(scale, frozen):
        scales = iter([frozen, frozen, scale])
        return process.errors(lambda x, *_: next(scales) * x, clean, keys).sum()

    assert float(jax.grad(loss)(0.5, 0.5)) == float(
        jax.grad(lambda s: process.errors(lambda x, *_: s * x, clean, keys).sum())(0.5)
    )


def test_the_sampler_tells_the_network_the_size_of_its_steps():
    sizes = []
    for steps in (1, 4, 16):
        denoise = lambda x, level, size: jnp.zeros_like(x) + size
        sizes.append(float(Shortcut(max_steps=16, num_steps=steps).sample(denoise, jax.random.key(0), (2,))[0]))
    assert sizes == [0, 2, 4]
