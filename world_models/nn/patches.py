"""Images and videos as sequences of patches, and back."""

from collections.abc import Sequence

import numpy as np

from world_models.core.types import Array

Grid = tuple[int, int, int]


def grid_of(frames_shape: Sequence[int], patch: int, tubelet: int) -> Grid:
    """How many patches a clip [time, height, width, ...] has along each axis; the remainder is cropped."""
    time, height, width = frames_shape[:3]
    return time // tubelet, height // patch, width // patch


def patchify(frames: Array, patch: int, tubelet: int = 1) -> Array:
    """Cuts clips into patches of tubelet x patch x patch pixels.

    Args:
      frames: [batch, time, height, width, channel]; time divides by `tubelet`, height and width by `patch`.
      patch, tubelet: size of a patch in space and in time.

    Returns:
      [batch, tokens, tubelet·patch·patch·channel]: tokens are in the order of time, row, column, and so are the pixels
      of a patch, with the channel last (He et al. 2021, MAE; Tong et al. 2022, VideoMAE).
    """
    batch, *_, channels = frames.shape
    time, rows, columns = grid_of(frames.shape[1:], patch, tubelet)
    cut = frames.reshape(batch, time, tubelet, rows, patch, columns, patch, channels)
    return cut.transpose(0, 1, 3, 5, 2, 4, 6, 7).reshape(batch, time * rows * columns, -1)


def unpatchify(patches: Array, grid: Grid, patch: int, tubelet: int = 1) -> Array:
    """The inverse of `patchify`: [batch, tokens, pixels] -> [batch, time, height, width, channel]."""
    batch, (time, rows, columns) = len(patches), grid
    cut = patches.reshape(batch, time, rows, columns, tubelet, patch, patch, -1)
    return cut.transpose(0, 1, 4, 2, 5, 3, 6, 7).reshape(batch, time * tubelet, rows * patch, columns * patch, -1)


def line_positions(tokens: int, channels: int) -> np.ndarray:
    """Fixed sine-cosine positions along one line, float32 [tokens, channels], sines and cosines alternating.

    Those of VideoMAE (Tong et al. 2022, released code), which numbers the patches of a clip from first to last.
    """
    pairs = np.arange(channels) // 2
    angle = np.arange(tokens)[:, None] / 10_000.0 ** (2 * pairs / channels)
    return np.where(np.arange(channels) % 2, np.cos(angle), np.sin(angle)).astype(np.float32)
