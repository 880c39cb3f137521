"""How well masks follow objects through a video: J and F of DAVIS (Perazzi et al. 2016, section 5). On the host."""

import dataclasses
import math

import numpy as np
from scipy import ndimage

from world_models.core.errors import UserError
from world_models.core.types import Array

TOLERANCE = 0.008
"""How far a boundary may be off, as a share of the image's diagonal."""


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """Scores of the masks of a video, all in 0..1 and higher is better.

    Attributes:
      j: mean intersection over union, "region similarity".
      f: mean boundary F-measure, "contour accuracy".
      j_and_f: their mean.
    """

    j: float
    f: float

    @property
    def j_and_f(self) -> float:
        """The mean of `j` and `f`."""
        return (self.j + self.f) / 2


def jaccard(prediction: Array, truth: Array) -> float:
    """Intersection over union of two masks, bool [height, width]; 1 if both are empty."""
    prediction, truth = np.asarray(prediction, bool), np.asarray(truth, bool)
    union = np.count_nonzero(prediction | truth)
    return np.count_nonzero(prediction & truth) / union if union else 1.0


def boundary(mask: Array) -> np.ndarray:
    """The pixels of a mask [height, width] that differ from the one on the right, below, or on the right below.

    The boundary is one pixel thick; the border of the image is none.
    """
    mask = np.asarray(mask, bool)
    wide = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    return (mask != wide[:-1, 1:]) | (mask != wide[1:, :-1]) | (mask != wide[1:, 1:])


def boundary_f(prediction: Array, truth: Array, tolerance: float = TOLERANCE) -> float:
    """F-measure of a mask's boundary: the harmonic mean of its precision and recall.

    A boundary pixel counts as found where one of the other boundary is within `ceil(tolerance * diagonal)` pixels, by
    Euclidean distance. A mask without a boundary has precision 1 and recall 0 against one that has some, and the
    other way round: F is 0; where neither has any, it is 1.

    Args:
      prediction, truth: bool [height, width].
      tolerance: a share of the image's diagonal.
    """
    found, wanted = boundary(prediction), boundary(truth)
    if not (found.any() and wanted.any()):
        return float(found.any() == wanted.any())
    radius = math.ceil(tolerance * math.hypot(*found.shape))
    near = lambda pixels: ndimage.distance_transform_edt(~pixels) <= radius  # dilation by a disk
    precision = np.count_nonzero(found & near(wanted)) / np.count_nonzero(found)
    recall = np.count_nonzero(wanted & near(found)) / np.count_nonzero(wanted)
    total = precision + recall
    return 2 * precision * recall / total if total else 0.0


def objects_in(instances: Array) -> list[int]:
    """The numbers of the objects in masks of any shape; 0 is the background."""
    return [int(number) for number in np.unique(np.asarray(instances)) if number]


def segmentation(prediction: Array, truth: Array, tolerance: float = TOLERANCE) -> Segmentation:
    """J and F of the masks of a video whose first frame is given.

    For each object of the first frame the mean over all later frames; then the mean over objects. Objects that appear
    later count as background. (DAVIS leaves out the last frame too.)

    Args:
      prediction, truth: integers [time, height, width], the number of every pixel's object, 0 for the background.
      tolerance: see `boundary_f`.

    Raises:
      UserError: if the shapes differ, there is no second frame, or no object in the first.
    """
    prediction, truth = np.asarray(prediction), np.asarray(truth)
    if prediction.shape != truth.shape or truth.ndim != 3 or len(truth) < 2:
        raise UserError(
            f"masks must be [time, height, width] of one shape and at least 2 frames, not {prediction.shape} and "
            f"{truth.shape}"
        )
    objects = objects_in(truth[0])
    if not objects:
        raise UserError("the first frame has no object to follow: its mask is all 0")
    pairs = [(frame == number, own == number) for number in objects for frame, own in zip(prediction[1:], truth[1:])]
    return Segmentation(
        float(np.mean([jaccard(*pair) for pair in pairs])),
        float(np.mean([boundary_f(*pair, tolerance) for pair in pairs])),
    )
