"""PSNR, SSIM and the changing pixels against closed forms and a brute-force float64 reference."""

import jax
import numpy as np
import pytest
from scipy import ndimage

from world_models.metrics import image


def ssim_map(x, y):
    """SSIM at every valid window of one channel by explicit loops in float64, two-pass covariances."""
    axis = np.arange(11) - 5
    window = np.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    height, width = x.shape[0] - 10, x.shape[1] - 10
    result = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            a, b = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
            cov = (window * (a - mean_a) * (b - mean_b)).sum()
            result[i, j] = (2 * mean_a * mean_b + 0.01**2) * (2 * cov + 0.03**2)
            result[i, j] /= (mean_a**2 + mean_b**2 + 0.01**2) * (var_a + var_b + 0.03**2)
    return result


@pytest.fixture
def pair():
    """Two related uint8 videos [3, 17, 14, 3]: smooth, noisy, and nearly alike."""
    rng = np.random.default_rng(0)
    truth = ndimage.gaussian_filter(rng.uniform(0, 255, (3, 17, 14, 3)), (0, 2, 2, 0)).astype(np.uint8)
    noise = rng.normal(0, 1, truth.shape) * np.array([40, 10, 1])[:, None, None, None]
    return np.clip(truth + noise, 0, 255).astype(np.uint8), truth


def test_ssim_equals_brute_force(pair):
    prediction, truth = (x / 255 for x in pair)
    expected = [
        np.mean([ssim_map(p[..., c], t[..., c]) for c in range(3)]) for p, t in zip(prediction, truth, strict=True)
    ]
    np.testing.assert_allclose(jax.jit(image.ssim)(*pair), expected, atol=2e-5)
    np.testing.assert_allclose(image.ssim(prediction.astype(np.float32), pair[1]), expected, atol=2e-5)


def test_masked_ssim_is_the_mean_of_the_reflected_map_over_the_mask(pair):
    mask = np.random.default_rng(1).random((3, 17, 14)) < 0.3
    pad = lambda x: np.pad(x / 255, ((5, 5), (5, 5), (0, 0)), mode="reflect")
    expected = []
    for p, t, m in zip(*pair, mask, strict=True):
        p, t = pad(p), pad(t)
        full = np.mean([ssim_map(p[..., c], t[..., c]) for c in range(3)], axis=0)
        expected.append(full[m].mean())
    np.testing.assert_allclose(image.ssim(*pair, mask), expected, atol=2e-5)


def test_ssim_of_known_pairs(pair):
    _, truth = pair
    np.testing.assert_allclose(image.ssim(truth, truth), 1, atol=1e-6)
    np.testing.assert_allclose(image.ssim(truth, truth, np.ones(truth.shape[:3], bool)), 1, atol=1e-6)
    a, b = np.full((12, 12, 1), 0.25, np.float32), np.full((12, 12, 1), 0.75, np.float32)  # only luminance differs
    expected = (2 * 0.25 * 0.75 + 1e-4) / (0.25**2 + 0.75**2 + 1e-4)
    np.testing.assert_allclose(image.ssim(a, b), expected, atol=1e-3)
    with pytest.raises(ValueError, match="11x11"):
        image.ssim(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8))


def test_psnr_closed_forms():
    truth = np.full((2, 5, 6, 3), 100, np.uint8)
    prediction = truth.copy()
    prediction[0] += 10
    prediction[1, 0, 0] += 51  # one of 30 pixels is off by a fifth of the range
    expected = [20 * np.log10(255 / 10), 10 * np.log10(30 * 25)]
    np.testing.assert_allclose(image.psnr(prediction, truth), expected, rtol=1e-5)
    as_float = (prediction / 255).astype(np.float32)
    np.testing.assert_allclose(image.psnr(as_float, truth), expected, rtol=1e-5)
    np.testing.assert_allclose(image.mse(prediction, truth), 10 ** (-np.array(expected) / 10), rtol=1e-5)


def test_psnr_of_identical_frames_is_the_stated_cap():
    frames = np.random.default_rng(0).integers(0, 256, (4, 7, 7, 1), np.uint8)
    np.testing.assert_allclose(image.psnr(frames, frames), 58.92, atol=0.01)
    assert abs(image.MAX_PSNR - 58.92) < 0.01


@pytest.mark.parametrize("metric", [image.mse, image.psnr, image.ssim])
def test_masks_select_pixels_and_leading_axes_are_kept(metric):
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 256, (2, 3, 12, 13, 3), np.uint8)
    prediction = rng.integers(0, 256, truth.shape, np.uint8)
    mask = rng.random(truth.shape[:4]) < 0.5
    mask[1, 2] = False
    result = np.asarray(jax.jit(metric)(prediction, truth, mask))
    assert result.shape == (2, 3)
    assert np.isnan(result[1, 2])
    assert np.isfinite(result).sum() == 5
    if metric is not image.ssim:  # one pixel alone decides
        one = np.zeros((12, 13), bool)
        one[4, 7] = True
        pixel = np.mean((prediction[:, :, 4, 7] / 255 - truth[:, :, 4, 7] / 255) ** 2, axis=-1)
        np.testing.assert_allclose(image.mse(prediction, truth, one), pixel, rtol=1e-5)


def test_metrics_refuse_integers_of_unknown_range():
    with pytest.raises(TypeError, match="int32"):
        image.psnr(np.zeros((4, 4, 3), np.int32), np.zeros((4, 4, 3), np.uint8))


def test_changed_pixels_accumulates_steps_above_the_threshold():
    frames = np.full((2, 5, 4, 4, 3), 128, np.uint8)
    frames[0, 2:, 1, 1, 2] = 128 + 9  # a step at time 2, in one channel, stays
    frames[0, 3, 2, 2, 0] = 128 - 9  # a flash at time 3, downwards
    frames[0, 1:, 3, 3] = 128 + 8  # not above the threshold
    frames[1, :, 0, 0, 1] = [0, 5, 10, 15, 20]  # drifts, never by more than 8 in one step
    expected = np.zeros((2, 4, 4, 4), bool)
    expected[0, 1:, 1, 1] = True
    expected[0, 2:, 2, 2] = True
    changed = jax.jit(image.changed_pixels, static_argnums=1)(frames, 8)
    np.testing.assert_array_equal(changed, expected)
    assert changed.dtype == bool
    wrap = np.array([250, 2], np.uint8).reshape(2, 1, 1, 1)  # uint8 arithmetic would call this a difference of 8
    assert np.asarray(image.changed_pixels(wrap, 8)).all()
