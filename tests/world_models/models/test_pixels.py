"""Colours and units of frames: a reference in float64, the way back, what gray things become."""

import numpy as np
import pytest

from world_models.models.latent_dynamics.pixels import Pixels

FRAMES = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3)).astype(np.uint8)


@pytest.mark.parametrize("color", ["rgb", "opponent"])
def test_pixels_are_in_standard_deviations_and_come_back(color):
    mean, std = (0.4, 0.1, -0.2), (0.3, 0.04, 0.5)
    pixels = Pixels(mean, std, color)
    red, green, blue = np.moveaxis(FRAMES / 255, -1, 0)
    channels = (red, green, blue)
    if color == "opponent":
        channels = ((red + green + blue) / 3, red - green, green - blue)
    expected = (np.stack(channels, axis=-1) - mean) / np.array(std)
    found = pixels.normalize(FRAMES)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    np.testing.assert_array_equal(pixels.restore(found), FRAMES)
    np.testing.assert_array_equal(pixels.restore(1e4 * np.ones(3, np.float32)).dtype, np.uint8)


def test_gray_is_nothing_in_opponent_colours_and_one_number_is_for_all():
    gray = np.repeat(FRAMES[..., :1], 3, axis=-1)
    np.testing.assert_allclose(Pixels((0.0,), (0.01,), "opponent").normalize(gray)[..., 1:], 0, atol=1e-4)
    np.testing.assert_allclose(Pixels((0.5,), (0.25,)).normalize(FRAMES), (FRAMES / 255 - 0.5) / 0.25, atol=1e-5)
