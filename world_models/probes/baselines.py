"""Features that need no learning, which a trained encoder has to beat."""

import numpy as np

from world_models.core.errors import UserError
from world_models.core.types import Array


def raw_pixels(frames: Array) -> np.ndarray:
    """The pixels themselves: float32 [n, d] in 0..1 from uint8 frames [n, ..., h, w, c].

    Raises:
      UserError: frames are not uint8 or have nothing in them.
    """
    frames = np.asarray(frames)
    if frames.dtype != np.uint8 or frames.ndim < 2 or frames.size == 0:
        raise UserError(
            f"frames are {frames.dtype} {frames.shape} and must be uint8 [examples, ...], with at least one"
        )
    return frames.reshape(len(frames), -1).astype(np.float32) / 255


def random_features(train_frames: Array, test_frames: Array, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """ReLU of a random projection of the pixels: what `width` features give without any training.

    Pixels are standardised by one mean and one deviation of the training set, as an encoder's input is; weights are
    N(0, 2 / d), as He et al. 2015 initialise a ReLU layer, and biases 0.

    Args:
      train_frames, test_frames: uint8 [n, ..., h, w, c], 0..255.
      width: number of features; that of the encoder beside which they stand.
      seed: of the projection.

    Returns:
      float32 [n, width] for training and for testing.

    Raises:
      UserError: frames are not uint8, are empty or differ in size; width is not positive.
    """
    if width < 1:
        raise UserError(f"width={width} must be at least 1")
    train, test = raw_pixels(train_frames), raw_pixels(test_frames)
    if train.shape[1] != test.shape[1]:
        raise UserError(
            f"test_frames have {test.shape[1]} pixel values and train_frames {train.shape[1]}: use one size"
        )
    mean, deviation = np.mean(train, dtype=np.float64), max(np.std(train, dtype=np.float64), 1e-6)
    weights = np.random.default_rng(seed).normal(0, np.sqrt(2 / train.shape[1]), (train.shape[1], width))
    weights = (weights / deviation).astype(np.float32)
    bias = np.float32(-mean) * weights.sum(axis=0)
    return np.maximum(train @ weights + bias, 0), np.maximum(test @ weights + bias, 0)
