"""Decoding of video files: upright frames with their times, and whether a file is whole. No JAX here."""

import pathlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import av
import numpy as np

from world_models.core.errors import UserError

REMEDY = "mend it, move it away, or leave it out with config.record.skip"


class Frame(NamedTuple):
    """A frame of a file.

    Attributes:
      index: its number in the file.
      time: seconds at which it is shown.
      image: uint8 [h, w, 3], the way up that a player shows it.
    """

    index: int
    time: float
    image: np.ndarray


def shown_size(path: pathlib.Path) -> tuple[int, int]:
    """(height, width) of the first frame of a file, the way up that a player shows it.

    Raises:
      UserError: if it is no video.
    """
    return next(decode(path)).image.shape[:2]


def decode(path: pathlib.Path) -> Iterator[Frame]:
    """The frames of a file.

    Raises:
      UserError: if it cannot be read, or, after the last frame, if it is cut short or holds damaged frames.
    """
    count, end, damaged = 0, 0.0, 0
    try:
        with av.open(str(path)) as container:
            video = container.streams.video[0]
            for packet in container.demux():
                if packet.pts is not None:
                    end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                damaged += packet.is_corrupt
                if packet.stream_index != video.index:
                    continue
                for frame in packet.decode():
                    damaged += frame.is_corrupt
                    yield Frame(count, _time(frame, video, count), _upright(frame))
                    count += 1
            says = (container.duration or 0) / av.time_base
            end -= min((container.start_time or 0) / av.time_base, 0)
            slack = 0.5 / float(video.average_rate) if video.average_rate else 0.0
            if len(container.streams) > 1:  # the stated length may count the padding of the last packets of sound
                slack = max(4 * slack, 0.05)
    except (av.error.FFmpegError, IndexError, OSError) as error:
        raise UserError(f"{path} cannot be read as a video ({error}): {REMEDY}.") from error
    if count == 0:
        raise UserError(f"{path} holds no frame that can be decoded: {REMEDY}.")
    if damaged:
        raise UserError(f"{path} holds {damaged} damaged frames or packets: {REMEDY}.")
    if end < says - slack or _gif_is_cut(path):
        raise UserError(f"{path} is cut short after {count} frames ({end:.2f} of {says:.2f} s): {REMEDY}.")


def _gif_is_cut(path: pathlib.Path) -> bool:
    """Whether the byte that ends a GIF file is missing; nothing else in it says how long it is."""
    if path.suffix.lower() != ".gif":
        return False
    with open(path, "rb") as file:
        file.seek(-min(path.stat().st_size, 64), 2)
        return not file.read().rstrip(b"\0\r\n").endswith(b";")


def _time(frame: av.VideoFrame, video: av.VideoStream, count: int) -> float:
    if frame.time is not None:
        return float(frame.time)
    return count / float(video.average_rate or 1)


def _upright(frame: av.VideoFrame) -> np.ndarray:
    """The image of a frame as its display matrix says: turned by a multiple of 90 degrees, or mirrored."""
    image = frame.to_ndarray(format="rgb24")
    found = frame.side_data.get("DISPLAYMATRIX")  # what iterating gives depends on the version of PyAV
    if found is None:
        return image
    # A point (x right, y down) is shown at (a x + c y, b x + d y).
    a, b, _, c, d = np.sign(np.frombuffer(bytes(found), np.int32)[:5])
    if a == d == 0:
        image, a, d = image.transpose(1, 0, 2), c, b
    return image[:: 1 if d >= 0 else -1, :: 1 if a >= 0 else -1]


def constant(frames: Iterable[Frame], path: pathlib.Path) -> Iterator[Frame]:
    """The frames as they come.

    Raises:
      UserError: after the last, if they are not at a constant rate.
    """
    times = []
    for frame in frames:
        times.append(frame.time)
        yield frame
    gaps = np.diff(times)
    if len(gaps) and not (np.abs(gaps - np.median(gaps)) <= 0.5 * np.median(gaps)).all():
        raise UserError(
            f"{path} has a variable frame rate (frames last from {max(0, gaps.min()):.3f} to {gaps.max():.3f} s): set "
            f"config.record.fps, to {1 / max(np.median(gaps), 1e-3):.3g} for example, or leave the file out with "
            "config.record.skip."
        )


def at_rate(frames: Iterable[Frame], fps: float) -> Iterator[Frame]:
    """The frame that is shown at each of the times 0, 1 / fps, ... after the first, until the last appears."""
    last, start, count = None, 0.0, 0
    for frame in frames:
        if last is None:
            start = frame.time
        while last is not None and start + count / fps < frame.time - 1e-6:
            yield last
            count += 1
        last = frame
    if last is not None and start + count / fps <= last.time + 1e-6:
        yield last
