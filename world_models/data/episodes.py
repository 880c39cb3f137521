"""One finished episode: what every source of experience makes, in memory and as a file.

Imported by worker processes, so it stays light: NumPy and OpenCV, no JAX, no TFDS.
"""

import collections
import dataclasses
import os
import pathlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Protocol

import cv2
import numpy as np

from world_models.core.errors import config_error

FITS = ("crop", "pad", "stretch")
"""What to do with an image whose proportions are not those asked for; see `fitted`."""
# Level 1 without row filters: the fastest PNG for the flat graphics of simulators (28-58 µs at 64x64, a third of the
# encoder's default at level 1), and the quickest to decode.
_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE)


@dataclasses.dataclass(frozen=True)
class Episode:
    """An episode of T steps in the RLDS alignment; the last step is the final observation.

    Attributes:
      images: T PNG files, RGB, all of one size.
      actions: int64 [T] or float32 [T, D]; `actions[t]` was done after seeing `images[t]`; the last is zero.
      rewards: float32 [T]; what `actions[t]` led to; the last is zero.
      terminal: whether the environment ended the episode (false when it was cut).
      instances: T PNG files of one channel, the number of every pixel's object, 0 for none; empty without masks.
    """

    images: list[bytes]
    actions: np.ndarray
    rewards: np.ndarray
    terminal: bool
    instances: Sequence[bytes] = ()

    def save(self, path: pathlib.Path) -> None:
        """Writes the episode so that `path` either holds all of it or does not exist."""
        temporary = path.with_name(path.name + ".tmp")
        with open(temporary, "wb") as file:
            np.save(file, np.array(self.terminal))
            np.save(file, np.array([len(image) for image in (*self.images, *self.instances)], np.int64))
            np.save(file, np.asarray(self.actions))
            np.save(file, np.asarray(self.rewards, np.float32))
            file.write(b"".join((*self.images, *self.instances)))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)

    @classmethod
    def load(cls, path: pathlib.Path) -> "Episode":
        """Reads what `save` wrote."""
        with open(path, "rb") as file:
            terminal, lengths, actions, rewards = (np.load(file) for _ in range(4))
            images = [file.read(int(n)) for n in lengths]
        return cls(images[: len(actions)], actions, rewards, bool(terminal), images[len(actions) :])


class Source(Protocol):
    """Where episodes come from, in units that are made apart and stay in one split: a rollout, or a video file.

    A source is pickled into every worker process before its first unit.

    Attributes:
      action: `{"kind": "discrete" | "continuous", "size": n, "low": [...], "high": [...]}`.
      num_units: how many there are.
      summary: a sentence about the frames: the sizes that were found, and what is done to them.
    """

    action: dict
    num_units: int
    summary: str

    def key(self, unit: int) -> str:
        """Name of a unit's files, the same in each session as long as what the unit is made of is the same."""

    def metadata(self, unit: int) -> dict[str, Any]:
        """What is stored with each episode of a unit: integers and texts, of the same names for all units."""

    def describe(self, unit: int) -> str:
        """What to call a unit in an error message."""

    def episodes(self, unit: int) -> Iterator[Episode]:
        """Makes the episodes of a unit; a function of the source and the unit alone."""


def resized(image: np.ndarray, size: tuple[int, int], nearest: bool = False) -> np.ndarray:
    """A uint8 image [height, width, channels] at `size` = (height, width); `nearest` makes no new values."""
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    shrinks = image.shape[0] >= height and image.shape[1] >= width
    smooth = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_NEAREST_EXACT if nearest else smooth)


def cropped(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The largest part [h, w, channel] round the centre of an image that has the proportions of `size`."""
    height, width = image.shape[:2]
    scale = min(height / size[0], width / size[1])
    h, w = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    top, left = (height - h) // 2, (width - w) // 2
    return np.ascontiguousarray(image[top : top + h, left : left + w])


def _padded(image: np.ndarray, size: tuple[int, int], nearest: bool) -> np.ndarray:
    """The whole image inside one of `size`, black beside it."""
    scale = min(size[0] / image.shape[0], size[1] / image.shape[1])
    h, w = (max(1, round(side * scale)) for side in image.shape[:2])
    whole = np.zeros((*size, *image.shape[2:]), image.dtype)
    top, left = (size[0] - h) // 2, (size[1] - w) // 2
    whole[top : top + h, left : left + w] = resized(image, (h, w), nearest).reshape(h, w, *image.shape[2:])
    return whole


def fitted(image: np.ndarray, size: tuple[int, int], fit: str, nearest: bool = False) -> np.ndarray:
    """A uint8 image [height, width, channels] at `size` = (height, width).

    Args:
      image: the image.
      size: (height, width).
      fit: what to do where the proportions differ: "crop" cuts off the sides, "pad" adds black ones, "stretch"
        distorts; see `FITS`.
      nearest: whether the nearest pixel is taken, as masks need it.
    """
    if fit == "pad":
        return _padded(image, size, nearest)
    return resized(cropped(image, size) if fit == "crop" else image, size, nearest)


def check_fit(fit: str) -> None:
    """Raises ConfigError if `config.record.fit` is none of `FITS`."""
    if fit not in FITS:
        raise config_error("config.record.fit", fit, f"be one of {', '.join(map(repr, FITS))}")


def describe_fit(found: Collection[tuple[int, int]], size: tuple[int, int], fit: str) -> str:
    """A sentence about source frames of the sizes `found`, each (height, width), and how they become `size`."""
    different = [f"{h}x{w}" for (h, w), _ in collections.Counter(found).most_common()]
    listed = ", ".join(different[:5]) + (f" and {len(different) - 5} other sizes" if len(different) > 5 else "")
    same_shape = all(h * size[1] == w * size[0] for h, w in found)
    how = "resized" if same_shape else {"crop": "cropped and resized", "pad": "resized and padded with black"}.get(fit)
    how = how or "stretched"
    done = "kept as they are" if set(found) == {tuple(size)} else f"{how} to {size[0]}x{size[1]}"
    return f"Source frames (height x width): {listed}; {done} (config.record.fit={fit!r})."


def encode(image: np.ndarray, size: tuple[int, int], fit: str = "stretch", nearest: bool = False) -> bytes:
    """A uint8 image [height, width, 3 (RGB) or 1 (gray)] as a PNG file of `size` = (height, width); see `fitted`."""
    image = fitted(image, size, fit, nearest)
    if image.ndim == 3 and image.shape[2] == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", image, _PNG)[1].tobytes()
