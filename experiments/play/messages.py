"""What a page may send, checked field by field; and how frames are packed for it.

A frame message is binary: uint32 (little endian) length of a JSON header, the header, then the images it lists. Images
of up to 128 x 128 pixels travel as raw RGB: at most 48 KiB, exact, and nothing is spent on encoding them; larger ones
as JPEG of quality 90.
"""

import json
import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np

MOST_BYTES = 4096  # of a message of a page
RAW_PIXELS = 128 * 128


class BadMessage(ValueError):
    """A message that closes its socket; the text is the reason."""


def _whole(low: int, high: int) -> Callable[[Any], bool]:
    return lambda x: isinstance(x, int) and not isinstance(x, bool) and low <= x <= high


def _number(low: float, high: float) -> Callable[[Any], bool]:
    return lambda x: (
        isinstance(x, int | float)
        and not isinstance(x, bool)
        and abs(x) < 1e12
        and math.isfinite(x)
        and low <= x <= high
    )


def _flag(x: Any) -> bool:
    return isinstance(x, bool)


def _text(most: int) -> Callable[[Any], bool]:
    return lambda x: isinstance(x, str) and len(x) <= most


FIELDS: dict[str, dict[str, Callable[[Any], bool]]] = {
    "start": {"index": _whole(0, 10_000)},
    "upload": {"name": _text(64)},
    "input": {"seq": _whole(0, 2**53), "action": lambda x: isinstance(x, int | list)},
    "ack": {"tick": _whole(0, 2**53)},
    "play": {"on": _flag},
    "step": {},
    "back": {"count": _whole(1, 10_000)},
    "branch": {},
    "goto": {"branch": _whole(0, 2**31)},
    "futures": {},
    "take": {"index": _whole(0, 7)},
    "resync": {},
    "set": {"name": _text(32), "value": lambda x: isinstance(x, int | float | str | bool)},
    "record": {"on": _flag},
    "plan": {"on": _flag},
    "goal": {"x": _number(0, 1), "y": _number(0, 1)},
    "goal_start": {"index": _whole(0, 10_000)},
}
"""By type of a message, its other fields and what they may hold."""


def read(text: Any) -> dict[str, Any]:
    """A message of a page.

    Raises:
      BadMessage: if it is none of `FIELDS`.
    """
    if not isinstance(text, str):
        raise BadMessage("messages must be text")
    if len(text) > MOST_BYTES:
        raise BadMessage(f"messages must have at most {MOST_BYTES} characters")
    try:
        found = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadMessage("messages must be JSON") from error
    if not isinstance(found, dict) or not isinstance(found.get("type"), str) or found["type"] not in FIELDS:
        raise BadMessage("messages must be objects of a known type")
    fields = FIELDS[found["type"]]
    if set(found) != {"type", *fields}:
        raise BadMessage(f"{found['type']} must have the fields {', '.join(fields) or 'type alone'}")
    for name, valid in fields.items():
        if not valid(found[name]):
            raise BadMessage(f"{name} of {found['type']} is out of range")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def pack(header: dict[str, Any], images: Sequence[tuple[str, np.ndarray]]) -> bytes:
    """A frame message of images uint8 [h, w, 1 or 3] by name."""
    parts, listed = [], []
    for name, image in images:
        kind, data = _encoded(image)
        parts.append(data)
        listed.append(
            {"name": name, "kind": kind, "width": image.shape[1], "height": image.shape[0], "size": len(data)}
        )
    text = json.dumps({**header, "images": listed}, separators=(",", ":")).encode()
    return struct.pack("<I", len(text)) + text + b"".join(parts)


def _encoded(image: np.ndarray) -> tuple[str, bytes]:
    image = np.repeat(image, 3 // image.shape[-1], axis=-1)
    if image.shape[0] * image.shape[1] <= RAW_PIXELS:
        return "raw", np.ascontiguousarray(image).tobytes()
    return "jpeg", jpeg(image)


def jpeg(image: np.ndarray) -> bytes:
    """An image uint8 [h, w, 3] as a JPEG of quality 90."""
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, 90))[1].tobytes()


def png(image: np.ndarray) -> bytes:
    """An image uint8 [h, w, 1 or 3] as a PNG."""
    image = np.repeat(image, 3 // image.shape[-1], axis=-1)
    return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
