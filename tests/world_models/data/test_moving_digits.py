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
    frames, masks, label, motion, _ = scene.draw(index, image, np.array([7]))
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
    found = np.array([scene.draw(i, images, labels)[2:4] for i in range(400)])
    assert np.bincount(found[:, 0], minlength=10).min() > 15
    assert np.bincount(found[:, 1], minlength=8).min() > 25


def test_masks_name_the_topmost_object_and_the_others_bounce():
    scene = moving_digits.Scene((64, 80), 60, 2, 4.0, seed=1)
    bounced = 0
    for index in range(8):
        frames, masks, *_ = scene.draw(index, *BLOCK)
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


def corners_of(masks: np.ndarray) -> np.ndarray:
    """Columns and rows of the first object's top left corner [time, 2]."""
    return np.array([np.argwhere(mask[..., 0] == 1).min(axis=0) for mask in masks])


def test_the_label_of_the_speed_is_the_way_travelled():
    scene = moving_digits.Scene((256, 256), 5, 1, 8.0, seed=0, num_speeds=4)
    assert scene.speeds == (2, 4, 6, 8)
    speeds = set()
    for index in range(40):
        _, masks, _, _, speed = scene.draw(index, *BLOCK)
        steps = np.linalg.norm(np.diff(corners_of(masks), axis=0), axis=1)
        if steps.max() > 20:
            continue  # it went round the frame
        assert steps.mean() == pytest.approx(scene.speeds[speed], abs=0.5)
        speeds.add(speed)
    assert speeds == {0, 1, 2, 3}


def test_friction_slows_objects_down():
    scene = moving_digits.Scene((256, 256), 6, 1, 20.0, seed=0, friction=0.5)
    _, masks, *_ = next(d for i in range(20) if (d := scene.draw(i, *BLOCK)).motion % 2 == 0)  # along an axis
    steps = np.abs(np.diff(corners_of(masks), axis=0)).max(axis=1)
    np.testing.assert_allclose(steps, [20, 10, 5, 2.5, 1.25], atol=1)


def test_with_friction_places_say_nothing_of_time():
    """As often at the end as at the beginning, the first object lies across the border."""
    across = []
    for friction in (0.0, 0.3):
        scene = moving_digits.Scene((32, 32), 4, 1, 5.0, seed=0, friction=friction)
        masks = np.stack([scene.draw(i, *BLOCK).instances[[0, -1], ..., 0] for i in range(300)])
        wraps = (masks[..., 0, :].any(-1) & masks[..., -1, :].any(-1)) | (
            masks[..., 0].any(-1) & masks[..., -1].any(-1)
        )
        across.append(wraps.mean(axis=0))
    (before, after), (start, end) = across
    assert before == 0
    assert after > 0.2
    assert start == pytest.approx(end, abs=0.1)
    assert min(start, end) > 0.4


def test_coloured_objects_cover_what_is_below_and_keep_their_colours():
    scene = moving_digits.Scene((64, 64), 6, 2, 3.0, seed=3, color=True)
    frames, masks, *_ = scene.draw(0, *BLOCK)
    grey = moving_digits.Scene((64, 64), 6, 2, 3.0, seed=3).draw(0, *BLOCK)
    assert frames.shape == (6, 64, 64, 3)
    np.testing.assert_array_equal(masks, grey.instances)
    first = [frame[mask[..., 0] == 1] for frame, mask in zip(frames, masks)]
    for later in first[1:]:  # the same pixels, perhaps round the border in another order
        np.testing.assert_array_equal(np.sort(later, axis=0), np.sort(first[0], axis=0))
    still = (masks == 0).all(axis=0)[..., 0]
    assert still.any()
    assert (frames[:, still] == frames[:1, still]).all()
    assert len(np.unique(frames[0][still], axis=0)) > 50  # smooth colours, not one
