"""The pixel adapter: a reference in float64, the inverse, patches, gray pixels, and quantization."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from world_models.nn.options import PixelOptions
from world_models.nn.patches import patchify
from world_models.nn.pixels import Pixels

FRAMES = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3)).astype(np.uint8)
STATISTICS = (0.4, 0.1, -0.2), (0.3, 0.04, 0.5)
COLORS = pytest.mark.parametrize("color", ["rgb", "opponent"])


@COLORS
def test_normalized_frames_equal_float64_and_are_restored(color):
    mean, std = STATISTICS
    pixels = Pixels(PixelOptions(mean, std, color))
    red, green, blue = np.moveaxis(FRAMES / 255, -1, 0)
    channels = (red, green, blue)
    if color == "opponent":
        channels = ((red + green + blue) / 3, red - green, green - blue)
    expected = (np.stack(channels, axis=-1) - mean) / np.array(std)
    found = pixels.normalize(FRAMES)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    np.testing.assert_allclose(pixels.intensities(found), FRAMES / 255, atol=1e-6)
    np.testing.assert_array_equal(pixels.restore(found), FRAMES)
    outside = pixels.restore(1e4 * np.ones(3, np.float32))
    assert outside.dtype == np.uint8


@COLORS
def test_patches_are_normalized_as_frames_are(color):
    pixels = Pixels(PixelOptions(*STATISTICS, color))
    patches = patchify(FRAMES[:, None], 2)
    normalized = pixels.normalize(patches)
    np.testing.assert_array_equal(normalized, patchify(pixels.normalize(FRAMES)[:, None], 2))
    np.testing.assert_array_equal(pixels.restore(normalized), patches)


def test_the_default_maps_bytes_to_plus_and_minus_one():
    levels, pixels = np.arange(256, dtype=np.uint8)[:, None], Pixels()
    np.testing.assert_allclose(pixels.normalize(levels), np.float32(levels) / np.float32(127.5) - 1, atol=2e-7)
    np.testing.assert_array_equal(pixels.restore(pixels.normalize(levels)), levels)


def test_gray_is_zero_in_opponent_colours_and_one_number_is_for_all_channels():
    gray = np.repeat(FRAMES[..., :1], 3, axis=-1)
    opponent = Pixels(PixelOptions((0.0,), (0.01,), "opponent"))
    np.testing.assert_array_equal(opponent.normalize(gray)[..., 1:], 0)
    single = Pixels(PixelOptions((0.5,), (0.25,)))
    np.testing.assert_allclose(single.normalize(FRAMES), (FRAMES / 255 - 0.5) / 0.25, atol=1e-5)


@COLORS
def test_quantized_floats_are_the_nearest_of_256_levels_and_pass_no_gradient(color):
    pixels = Pixels(PixelOptions(*STATISTICS, color))
    exact = pixels.normalize(FRAMES)
    np.testing.assert_array_equal(pixels.quantize(exact), exact)
    near = pixels.normalize(FRAMES + np.random.default_rng(1).uniform(-0.45, 0.45, FRAMES.shape))
    np.testing.assert_array_equal(pixels.quantize(near), exact)
    gradient = jax.grad(lambda x: jnp.sum(pixels.quantize(x)))(exact)
    assert not np.any(gradient)
