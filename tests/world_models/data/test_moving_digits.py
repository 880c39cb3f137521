"""What moving digits do, against the labels and masks that come with them."""

import numpy as np
import pytest

from world_models.data.sources import moving_digits

BLOCK = (np.full((1, 28, 28, 1), 255, np.uint8), np.array([7]))


@pytest.mark.parametrize("index", range(10))
def test_the_first_digit_moves_as_its_label_says(index):
    """An object that goes round the frame: every frame is the first one, rolled by the way travelled."""
    rng = np.random.default_rng(index)
    image = np.where(rng.random((1, 28, 28, 1)) < 0.5, 255, 0).astype(np.uint8)
    scene = moving_digits.Scene((64, 64), 20, 1, 3.0, seed=5)
    frames, masks, label, motion = scene.draw(index, image, np.array([7]))
    assert label == 7
    down, right = {
        "right": (0, 1),
        "down right": (1, 1),
        "down": (1, 0),
        "down left": (1, -1),
        "left": (0, -1),
        "up left": (-1, -1),
        "up": (-1, 0),
        "up right": (-1, 1),
    }[moving_digits.MOTIONS[motion]]
    step = 3.0 / np.hypot(down, right)
    for t, frame in enumerate(frames):
        near = [  # the way is rounded to whole pixels, from a start between pixels
            np.roll(frames[0], (int(np.floor(t * step * down)) + a, int(np.floor(t * step * right)) + b), (0, 1))
            for a in (0, 1)
            for b in (0, 1)
        ]
        assert any(np.array_equal(frame, n) for n in near)
        np.testing.assert_array_equal(masks[t], frame > 0)


def test_all_directions_and_classes_occur():
    images, labels = np.repeat(BLOCK[0], 10, axis=0), np.arange(10)
    scene = moving_digits.Scene((32, 32), 1, 1, 1.0, seed=0)
    found = np.array([scene.draw(i, images, labels)[2:] for i in range(400)])
    assert np.bincount(found[:, 0], minlength=10).min() > 15
    assert np.bincount(found[:, 1], minlength=8).min() > 25


def test_masks_name_the_topmost_object_and_the_others_bounce():
    scene = moving_digits.Scene((64, 80), 60, 2, 4.0, seed=1)
    bounced = 0
    for index in range(8):
        frames, masks, _, _ = scene.draw(index, *BLOCK)
        assert masks.shape == frames.shape == (60, 64, 80, 1)
        np.testing.assert_array_equal(frames == 255, masks == 1)
        np.testing.assert_array_equal(frames == 153, masks == 2)  # 0.6 of 255
        np.testing.assert_array_equal(frames == 0, masks == 0)
        assert ((masks == 1).sum(axis=(1, 2, 3)) == 28 * 28).all()  # nothing covers the first
        alone = [t for t in range(60) if (masks[t] == 2).sum() == 28 * 28]
        corners = {t: np.argwhere(masks[t, ..., 0] == 2).min(axis=0) for t in alone}
        for t in alone:  # whole, so it went round no border
            rows, columns = np.where(masks[t, ..., 0] == 2)
            assert (np.ptp(rows), np.ptp(columns)) == (27, 27)
        ways = np.array([corners[t + 1] - corners[t] for t in alone if t + 1 in corners])
        assert (np.hypot(*ways.T) < 4 + 1.5).all()
        bounced += (np.abs(np.sign(ways)).sum() > 0) and all(np.ptp(np.sign(ways), axis=0) == 2)
    assert bounced > 4
