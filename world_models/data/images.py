"""Images of records as arrays."""

import cv2
import numpy as np
import tensorflow_datasets as tfds

from world_models.data.records import DamagedRecord

cv2.setNumThreads(1)  # parallelism comes from the pipeline's own threads


def decoded(image: bytes | np.ndarray, channels: int | None) -> np.ndarray:
    """An encoded image as uint8 [height, width] if it has one channel, else [height, width, 3]; arrays as they are.

    Raises:
      DamagedRecord: if it cannot be decoded.
    """
    if not isinstance(image, bytes):
        return np.asarray(image)
    flag = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR
    try:
        pixels = cv2.imdecode(np.frombuffer(image, np.uint8), flag)
    except cv2.error as error:
        raise DamagedRecord(f"a frame cannot be decoded: {str(error)[:120]}") from error
    if pixels is None:
        raise DamagedRecord("a frame cannot be decoded")
    return pixels if channels == 1 else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def as_declared(image: bytes | np.ndarray, feature: tfds.features.Image) -> np.ndarray:
    """An encoded image with the channels and the type that its feature declares; arrays as they are.

    Raises:
      DamagedRecord: if it cannot be decoded.
    """
    channels = feature.shape[-1]
    if (feature.np_dtype == np.uint8 and channels in (1, 3)) or not isinstance(image, bytes):
        return decoded(image, channels)
    try:
        return feature.decode_example_np(image)
    except Exception as error:
        raise DamagedRecord(f"an image cannot be decoded: {str(error)[:120]}") from error


def shrunk(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image at `size` = (height, width), by averaging over areas."""
    return image if image.shape[:2] == size else cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
