"""Masks that follow objects without anything learned: what propagated masks are measured beside. On the host."""

import itertools

import cv2
import numpy as np
from scipy import spatial

from world_models.core.types import Array

_FARTHER = 1e-3
"""Weight of a pixel's distance against one of 255 levels of a colour: it decides between equal colours alone."""


def identity(frames: Array, mask: Array) -> np.ndarray:
    """The mask of the first frame for all frames, as if nothing moved.

    Args:
      frames: uint8 [time, height, width, channel].
      mask: integers [height, width], of the first frame.

    Returns:
      uint8 [time, height, width].
    """
    return np.repeat(np.asarray(mask, np.uint8)[None], len(frames), axis=0)


def optical_flow(frames: Array, mask: Array) -> np.ndarray:
    """Every mask is the one before, moved by the dense optical flow between both frames.

    The flow is DIS of OpenCV (Kroeger et al. 2016, arXiv 1603.03590), preset medium, on grey frames, from every frame
    to the one before; the nearest pixel is taken over. Arguments and result are those of `identity`.
    """
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) if f.shape[-1] == 3 else f[..., 0] for f in np.asarray(frames)]
    found = [np.asarray(mask, np.uint8)]
    places = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in grey[0].shape[::-1])), axis=-1)
    for before, now in itertools.pairwise(grey):
        source = places + flow.calc(np.ascontiguousarray(now), np.ascontiguousarray(before), None)
        found.append(cv2.remap(found[-1], source, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE))
    return np.stack(found)


def nearest_color(frames: Array, mask: Array) -> np.ndarray:
    """Every pixel has the label of the pixel of the first frame that has the most similar colour.

    Of pixels with equal colours the nearest counts. Arguments and result are those of `identity`.
    """
    frames, mask = np.asarray(frames), np.asarray(mask, np.uint8)
    rows, columns = np.indices(mask.shape)
    described = lambda frame: np.concatenate(
        [frame.reshape(mask.size, -1), _FARTHER * np.stack([rows.ravel(), columns.ravel()], axis=1)], axis=1
    )
    tree = spatial.cKDTree(described(frames[0]))
    found = [mask.ravel()[tree.query(described(frame))[1]].reshape(mask.shape) for frame in frames[1:]]
    return np.stack([mask, *found])


BASELINES = {"identity": identity, "optical_flow": optical_flow, "nearest_color": nearest_color}
