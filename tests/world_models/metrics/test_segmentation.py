"""J and F of masks against values worked out by hand and against plain loops over pixels."""

import math

import numpy as np
import pytest

from world_models.core.errors import UserError
from world_models.metrics.segmentation import boundary, boundary_f, jaccard, segmentation


def square(top: int, left: int, side: int, size: int = 20) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_jaccard_by_hand():
    assert jaccard(square(2, 2, 4), square(2, 4, 4)) == pytest.approx(8 / 24)  # half of both in common
    assert jaccard(square(2, 2, 4), square(10, 10, 4)) == 0
    assert jaccard(square(0, 0, 0), square(0, 0, 0)) == 1
    assert jaccard(square(0, 0, 0), square(0, 0, 1)) == 0


def test_boundary_by_hand():
    drawn = np.array([[0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]])
    expected = np.array([[1, 1, 1, 1, 0], [1, 0, 0, 1, 0], [1, 0, 0, 1, 0], [1, 1, 1, 1, 0], [0, 0, 0, 0, 0]])
    np.testing.assert_array_equal(boundary(drawn), expected)
    assert not boundary(np.ones((5, 5))).any()  # the border of the image is no boundary


def test_boundary_f_by_hand():
    square_8 = square(4, 4, 8)
    assert boundary_f(square_8, square_8) == 1
    assert boundary_f(square_8, np.roll(square_8, 1, axis=1)) == 1  # within one pixel: ceil(0.008 · 28.3) = 1
    far = boundary_f(square_8, np.roll(square_8, 3, axis=1))
    assert 0 < far < 1  # above and below they still run along each other
    assert boundary_f(square_8, square(0, 0, 0)) == boundary_f(square(0, 0, 0), square_8) == 0
    assert boundary_f(square(0, 0, 0), square(0, 0, 0)) == 1
    assert boundary_f(square(0, 0, 2), square(14, 14, 2)) == 0


def slow_boundary_f(prediction, truth, tolerance):
    """Pixel by pixel."""
    height, width = truth.shape

    def points(mask):
        inside = lambda y, x: mask[min(y, height - 1), min(x, width - 1)]
        differs = lambda y, x: {inside(y, x)} != {inside(y + 1, x), inside(y, x + 1), inside(y + 1, x + 1)}
        return [(y, x) for y in range(height) for x in range(width) if differs(y, x)]

    found, wanted = points(prediction), points(truth)
    if not found and not wanted:
        return 1.0
    radius = math.ceil(tolerance * math.sqrt(height**2 + width**2))
    near = lambda p, others: any(math.dist(p, q) <= radius for q in others)
    share = lambda own, others: sum(near(p, others) for p in own) / len(own) if own else 1
    precision, recall = share(found, wanted), share(wanted, found)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize("seed", range(12))
def test_boundary_f_is_what_loops_over_pixels_find(seed):
    rng = np.random.default_rng(seed)
    shape = (rng.integers(6, 14), rng.integers(6, 14))
    masks = rng.random((2, *shape)) < rng.choice([0.02, 0.3, 0.97])
    tolerance = float(rng.choice([0.008, 0.05, 0.12]))
    assert boundary_f(*masks, tolerance) == pytest.approx(slow_boundary_f(*masks, tolerance))


def test_a_video_is_scored_object_by_object_without_its_first_frame():
    truth = np.stack([square(2, 2, 6) + 2 * square(12, 12, 6)] * 3).astype(np.uint8)
    prediction = np.array(truth)
    prediction[0] = 0  # the first frame is given
    prediction[1][truth[1] == 2] = 0  # the second object is lost in one of two frames
    scores = segmentation(prediction, truth)
    assert (scores.j, scores.f, scores.j_and_f) == (0.75, 0.75, 0.75)
    truth[2, 0, 0] = 3  # appears later: nobody could know
    assert segmentation(prediction, truth) == scores


def test_what_cannot_be_scored():
    video = np.stack([square(2, 2, 6)] * 3).astype(np.uint8)
    for prediction, truth in [(video[:2], video), (video[:1], video[:1]), (video[0], video[0]), (video, 0 * video)]:
        with pytest.raises(UserError):
            segmentation(prediction, truth)
