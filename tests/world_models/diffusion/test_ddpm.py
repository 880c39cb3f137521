"""DDPM and DDIM against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from world_models.diffusion.ddpm import DDPM


def test_published_anchors():
    alphas = DDPM().alphas
    np.testing.assert_allclose(
        alphas[[0, 14, 250, 500, 750, 999]], [0.9999, 0.996414, 0.521423, 0.0777967, 0.00330, 4.04e-5], rtol=3e-3
    )


def test_levels_lie_inside_the_schedule_and_one_step_starts_in_the_middle():
    assert DDPM(num_steps=1).levels.tolist() == [500]
    assert DDPM(num_steps=3).levels.tolist() == [750, 500, 250]


def test_noise_has_the_stated_size_and_is_what_the_network_is_trained_towards():
    process = DDPM(data_std=0.2, offset_noise=0.3)
    rng = np.random.default_rng(0)
    clean = 0.2 * rng.standard_normal((512, 16, 16, 3)).astype(np.float32)
    noised = jax.jit(process.add_noise)(clean, jax.random.split(jax.random.key(0), 512))
    levels = np.asarray(noised.level)
    assert levels.min() >= 0
    assert levels.max() <= 999
    assert levels.mean() == pytest.approx(499.5, abs=40)
    assert np.var(noised.target) == pytest.approx(1.09, abs=0.02)
    alpha = process.alphas[levels][:, None, None, None]
    np.testing.assert_allclose(
        noised.noisy, np.sqrt(alpha) * clean / 0.2 + np.sqrt(1 - alpha) * np.asarray(noised.target), atol=1e-4
    )


def test_the_right_output_gives_the_clean_target():
    process = DDPM(num_levels=100)
    clean = np.random.default_rng(0).standard_normal((64, 4, 4, 1)).astype(np.float32)
    noised = process.add_noise(clean, jax.random.split(jax.random.key(1), 64))
    np.testing.assert_allclose(process.denoised(noised.noisy, noised.target, noised.level), clean, atol=2e-3)
    scaled, shown = process.network_input(noised.noisy, noised.level)
    np.testing.assert_array_equal(scaled, noised.noisy)
    np.testing.assert_allclose(shown, (np.asarray(noised.level) + 1) / 100, rtol=1e-6)


@pytest.mark.parametrize("num_steps", [1, 4])
def test_data_of_one_point_are_sampled_exactly(num_steps):
    point = jnp.full((5, 2, 2, 1), 0.3)
    samples = DDPM(num_steps=num_steps).sample(lambda x, level: point, jax.random.key(0), point.shape)
    np.testing.assert_allclose(samples, point, atol=1e-6)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_many_steps_recover_a_gaussian(eta):
    """The best denoiser of N(0.1, 0.25²) data is linear; the sampler must bring their mean and spread back."""
    process = DDPM(data_std=0.5, num_steps=250, eta=eta)
    alphas = jnp.asarray(process.alphas, jnp.float32)
    mean, variance = 0.1 / 0.5, (0.25 / 0.5) ** 2

    def denoise(x, level):
        alpha = alphas[level]
        gain = jnp.sqrt(alpha) * variance / (alpha * variance + 1 - alpha)
        return 0.5 * (mean + gain * (x - jnp.sqrt(alpha) * mean))

    x = np.asarray(process.sample(denoise, jax.random.key(0), (20_000, 1, 1, 1)))
    assert x.mean() == pytest.approx(0.1, abs=0.01)
    assert x.std() == pytest.approx(0.25, rel=0.03)


@pytest.mark.parametrize(
    ("schedule", "anchors"),
    [
        ("linear", (0.9999, 0.996414, 0.521423, 0.0777967, 0.00330, 4.04e-5)),
        ("cosine", (0.999959, 0.998871, 0.845888, 0.492285, 0.143179, 2.4e-9)),
        ("sigmoid", (0.9997, 0.995321, 0.849863, 0.498343, 0.14816, 3.0e-7)),
    ],
)
def test_published_schedules(schedule, anchors):
    found = DDPM(schedule=schedule).alphas[[0, 14, 250, 500, 750, 999]]
    np.testing.assert_allclose(found, anchors, rtol=2e-2, atol=1e-10)
    np.testing.assert_allclose(found[:4], anchors[:4], rtol=2e-5)
