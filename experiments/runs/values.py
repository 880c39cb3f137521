"""What evaluators return by name: numbers, and videos to look at."""

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Video:
    """What an evaluator shows instead of a number.

    Attributes:
      frames: uint8 [time, h, w, 1 or 3]; one frame is a picture.
      fps: frames a second.
    """

    frames: np.ndarray
    fps: float = 8.0


def numbers(values: dict[str, Any]) -> dict[str, float]:
    """The values of a step without the videos."""
    return {name: float(value) for name, value in values.items() if not isinstance(value, Video)}
