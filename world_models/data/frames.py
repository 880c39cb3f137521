"""Frames of any type and axis order as uint8 RGB or gray images, where what they mean is unambiguous."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from world_models.core.errors import config_error
from world_models.data import images

CHANNELS = (1, 3, 4)
"""Gray, RGB, and RGB with alpha, which is left out."""


@dataclasses.dataclass(frozen=True)
class Frames:
    """How the frames of a data set are stored.

    Attributes:
      feature: of a frame: a TFDS image of 8 bits, or a tensor.
      is_channel_first: whether its axes are (channel, height, width).
      scale: what numbers are multiplied by; 0 where that is not decided yet.
    """

    feature: Any
    is_channel_first: bool = False
    scale: float = 1.0

    @classmethod
    def of(cls, feature: Any, key: str, name: str) -> "Frames":
        """Frames of a feature with three axes, the field `key` of the data set `name`.

        Raises:
          ConfigError: if their type or shape is none that images have.
        """
        dtype, shape = np.dtype(feature.np_dtype), feature.shape
        what = f"and in {name} it is {dtype} of shape {shape}"
        if isinstance(feature, tfds.features.Image):
            if dtype != np.uint8 or (shape[-1] or 3) not in CHANNELS:
                raise config_error("config.data.image_key", key, f"be an image of 8 bits, gray or RGB, {what}")
            return cls(feature)
        first = shape[-1] not in CHANNELS
        if dtype.kind not in "buif" or (first and shape[0] not in CHANNELS):
            valid = (
                f"have numbers of axes (height, width, channel) or (channel, height, width), 1, 3 or 4 channels, {what}"
            )
            raise config_error("config.data.image_key", key, valid)
        return cls(feature, first, {"bool": 255.0, "uint8": 1.0}.get(dtype.name, 0.0))

    @property
    def shape(self) -> tuple[int | None, int | None, int]:
        """(height, width, channel) of a frame; None where frames differ."""
        shape = self.feature.shape
        *size, channels = (*shape[1:], shape[0]) if self.is_channel_first else shape
        return (*size, 1 if channels == 1 else 3)

    @property
    def is_measured(self) -> bool:
        """Whether the numbers in all frames decide what they mean."""
        return not self.scale

    def range_of(self, stored: np.ndarray) -> tuple[float, float, bool]:
        """(smallest, largest, whether all are whole) of the numbers of frames; NaN if there is one."""
        return float(stored.min()), float(stored.max()), bool(np.all(stored == np.floor(stored)))

    def scaled(self, low: float, high: float, whole: bool, name: str) -> "Frames":
        """These frames, of numbers from `low` to `high`: floats in [0, 1], or whole ones in [0, 255], not all below 2.

        Raises:
          ConfigError: if they are neither.
        """
        dtype = np.dtype(self.feature.np_dtype)
        if dtype.kind == "f" and low >= 0 and high <= 1:
            return dataclasses.replace(self, scale=255.0)
        if whole and low >= 0 and 1 < high <= 255:
            return dataclasses.replace(self, scale=1.0)
        valid = f"hold {dtype} numbers in [0, 1] or whole ones in [0, 255], and those of {name} are {low:g} to {high:g}"
        raise config_error("config.data.image_key", str(dtype), f"{valid}: convert them where the data set is made")

    @property
    def note(self) -> str:
        """What is done to the frames, in words; empty for uint8 images without alpha."""
        dtype, channels = np.dtype(self.feature.np_dtype), self.feature.shape[0 if self.is_channel_first else -1]
        notes = ["channel-first frames are transposed"] if self.is_channel_first else []
        notes += ["the alpha channel is left out"] if channels == 4 else []
        notes += [f"{dtype} frames become uint8, times {self.scale:g}"] if dtype != np.uint8 else []
        return "; ".join(notes)

    def decode(self, stored: bytes | np.ndarray) -> np.ndarray:
        """A stored frame as uint8 [height, width, 1 or 3].

        Raises:
          DamagedRecord: if it cannot be decoded.
        """
        channels = self.shape[-1]
        if isinstance(stored, bytes):
            frame = images.decoded(stored, channels)
            return frame if frame.ndim == 3 else frame[..., None]
        frame = np.asarray(stored)
        frame = (np.moveaxis(frame, 0, -1) if self.is_channel_first else frame)[..., :channels]
        if frame.dtype == np.uint8:
            return np.ascontiguousarray(frame)
        return np.rint(frame.astype(np.float64) * self.scale).astype(np.uint8)
