"""Diffusion maths against closed forms and float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from world_models.diffusion import edm

SIGMAS = [0.002, 0.05, 0.3, 0.5, 1.0, 5.0, 20.0]


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize(("sigma_data", "offset"), [(0.5, 0.0), (0.5, 0.3), (0.2, 0.1)])
def test_network_sees_unit_variance_and_must_output_unit_variance(sigma, sigma_data, offset):
    rng = np.random.default_rng(0)
    x = sigma_data * rng.standard_normal(400_000)
    noisy = x + offset * rng.standard_normal(x.shape) + sigma * rng.standard_normal(x.shape)
    c = jax.tree.map(float, edm.preconditioning(jnp.float32(sigma), sigma_data, offset))
    assert np.var(c.c_in * noisy) == pytest.approx(1, abs=0.01)
    # c_out is what makes the target's variance one; where it is tiny, float32's 1 − c_skip has few digits left.
    tolerance = 0.01 if sigma > 0.01 else 0.05
    assert np.var((x - c.c_skip * noisy) / c.c_out) == pytest.approx(1, abs=tolerance)
    assert c.c_noise == pytest.approx(np.log(np.sqrt(sigma**2 + offset**2)) / 4, rel=1e-5)


def test_published_anchors():
    np.testing.assert_allclose(edm.sigma_schedule(3, 2e-3, 5.0), [5, 0.28308, 0.002, 0], rtol=1e-4)
    np.testing.assert_allclose(edm.sigma_schedule(5, 2e-3, 5.0), [5, 1.37703, 0.28308, 0.03655, 0.002, 0], rtol=1e-4)
    np.testing.assert_allclose(edm.sigma_schedule(1, 2e-3, 5.0), [5, 0])
    c = edm.preconditioning(jnp.float32(0.5), 0.5, 0.3)
    np.testing.assert_allclose([c.c_in, c.c_skip, c.c_out, c.c_noise], [1.301889, 0.423729, 0.379563, -0.134851], 1e-5)


MEAN = np.array([0.3, -0.2])
COVARIANCE = np.array([[0.25, 0.12], [0.12, 0.16]])


def _optimal(x, sigma):
    """The posterior mean of Gaussian data: the denoiser a perfect network would be."""
    gain = jnp.asarray(COVARIANCE) @ jnp.linalg.inv(jnp.asarray(COVARIANCE) + sigma**2 * jnp.eye(2))
    return MEAN + (x - MEAN) @ gain.T


def _samples(num_steps, order, start=5.0, count=20_000):
    noise = start * jax.random.normal(jax.random.key(0), (count, 2))
    return np.asarray(edm.sample(_optimal, noise, edm.sigma_schedule(num_steps, 2e-3, 5.0), order), np.float64)


def test_sampler_recovers_mean_and_covariance_of_a_gaussian():
    x = _samples(50, 2)
    np.testing.assert_allclose(x.mean(axis=0), MEAN, atol=0.03)  # σ_max = 5 forgets the mean only to 1/100
    np.testing.assert_allclose(np.cov(x.T), COVARIANCE, rtol=0.04, atol=0.004)


def test_euler_has_order_one_and_heun_two():
    def error(num_steps, order):
        noise = jnp.array([[3.0, -4.0], [1.0, 5.0]])
        end = edm.sample(_optimal, noise, edm.sigma_schedule(num_steps, 2e-3, 5.0), order)
        exact = _exact(np.asarray(noise, np.float64))
        return np.abs(np.asarray(end) - exact).max()

    assert error(20, 1) / error(40, 1) == pytest.approx(2, rel=0.25)
    assert error(10, 2) / error(20, 2) > 3
    assert error(20, 2) < error(40, 1)


def _exact(noise, sigma_max=5.0):
    """Solution of the ODE: along each eigenvector x − mean shrinks by √(λ / (λ + σ_max²))."""
    values, vectors = np.linalg.eigh(COVARIANCE)
    shrink = vectors @ np.diag(np.sqrt(values / (values + sigma_max**2))) @ vectors.T
    return MEAN + (noise - MEAN) @ shrink.T


def test_starting_from_unit_noise_leaves_too_little_spread():
    spread = _samples(50, 2, start=1.0).std(axis=0)
    assert (spread < 0.25 * np.sqrt(np.diag(COVARIANCE))).all()


def test_heun_calls_the_denoiser_twice_a_step_but_once_at_the_end():
    calls = []

    def count(x, sigma):
        jax.debug.callback(lambda s: calls.append(float(s)), sigma)
        return jnp.zeros_like(x)

    sigmas = edm.sigma_schedule(4, 2e-3, 5.0)
    for order, expected in ((1, 4), (2, 7)):
        calls.clear()
        jax.block_until_ready(edm.sample(count, jnp.ones((1, 2)), sigmas, order))
        jax.effects_barrier()
        assert len(calls) == expected
        assert min(calls) > 0
