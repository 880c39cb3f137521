"""Features of windows of frames: of short clips, and of long rollouts against time."""

from collections.abc import Sequence

import numpy as np

from world_models.metrics.kernel import KernelDistance, kernel_distance


def clip_features(features: np.ndarray) -> np.ndarray:
    """One vector a clip from those of its frames: their mean, and the mean size of the change from one to the next.

    Args:
      features: [n, time, d].

    Returns:
      float64 [n, 2 d]; [n, d] for clips of one frame.
    """
    x = np.asarray(features, np.float64)
    mean = x.mean(axis=1)
    return np.concatenate([mean, np.abs(np.diff(x, axis=1)).mean(axis=1)], axis=1) if x.shape[1] > 1 else mean


def cut(frames: np.ndarray, window: int) -> np.ndarray:
    """[n, time, ...] in windows that follow each other: [n, time // window, window, ...]; a rest is left out."""
    count = frames.shape[1] // window
    return frames[:, : count * window].reshape(len(frames), count, window, *frames.shape[2:])


def motion(frames: np.ndarray, threshold: float) -> np.ndarray:
    """The share of pixels that change from each frame to the next.

    Args:
      frames: uint8 [n, time, h, w, c].
      threshold: a pixel changes where some channel differs by more than this (of 255).

    Returns:
      float64 [n, time − 1] in 0..1.
    """
    found = np.empty((len(frames), frames.shape[1] - 1))
    for shares, clip in zip(found, frames):  # one by one: clips may be long
        apart = np.maximum(clip[1:], clip[:-1]) - np.minimum(clip[1:], clip[:-1])
        shares[:] = (apart.max(axis=-1) > threshold).mean(axis=(1, 2))
    return found


def drift(windows: np.ndarray, reference: np.ndarray) -> list[KernelDistance]:
    """How far the windows of rollouts are from real ones, against time: a kernel distance for every window.

    Args:
      windows: features [rollouts, windows, d] by time, at least two rollouts.
      reference: features of real windows, [m, d].
    """
    return [kernel_distance(now, reference, block_size=len(reference) + 1) for now in np.moveaxis(windows, 1, 0)]


def pairwise_distance(features: np.ndarray) -> np.ndarray:
    """Mean Euclidean distance of the pairs of each set, [k], of features [k, samples, d], at least two samples."""
    x = np.asarray(features, np.float64)
    i, j = np.triu_indices(x.shape[1], 1)
    return np.linalg.norm(x[:, i] - x[:, j], axis=-1).mean(axis=1)


def shuffled_pixels(frames: np.ndarray, seed: int = 0) -> np.ndarray:
    """Frames [..., h, w, c] with one fixed permutation of their pixels: every distance should find them far off."""
    *batch, height, width, channels = frames.shape
    order = np.random.default_rng(seed).permutation(height * width)
    return frames.reshape(*batch, height * width, channels)[..., order, :].reshape(frames.shape)


def noise_like(frames: np.ndarray, seed: int = 0) -> np.ndarray:
    """Uniform noise, uint8, in the shape of some frames."""
    return np.random.default_rng(seed).integers(0, 256, frames.shape, np.uint8)


def masked_error(prediction: np.ndarray, truth: np.ndarray, mask: np.ndarray, spans: Sequence[slice]) -> np.ndarray:
    """Mean squared error of [0, 1] frames over the masked pixels of parts of a future.

    Args:
      prediction, truth: uint8 [n, time, h, w, c].
      mask: bool [n, time, h, w].
      spans: parts of the time axis.

    Returns:
      float64 [n, spans]; NaN where nothing is masked.
    """
    found = np.full((len(truth), len(spans)), np.nan)
    for i, (row, true, kept) in enumerate(zip(prediction, truth, mask)):  # one by one: futures may be long
        squared = np.square((row.astype(np.float32) - true.astype(np.float32)) / 255).mean(axis=-1) * kept
        for j, span in enumerate(spans):
            if kept[span].any():
                found[i, j] = squared[span].sum(dtype=np.float64) / kept[span].sum()
    return found
