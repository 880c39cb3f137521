"""Writes small video files."""

import av
import numpy as np

CODECS = {".mp4": "libx264", ".mkv": "libx264", ".webm": "libvpx-vp9", ".avi": "mpeg4", ".gif": "gif"}


def write(path, frames, *, times=None, faststart=False):
    """Writes uint8 frames [time, h, w, 3] at 10 a second, or at times in tenths of a second."""
    with av.open(str(path), "w", options={"movflags": "faststart"} if faststart else {}) as container:
        stream = container.add_stream(CODECS[path.suffix], rate=10)
        pixels = "rgb8" if path.suffix == ".gif" else "yuv420p"
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], pixels
        for t, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format=pixels)
            picture.pts = t if times is None else times[t]
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def rising(length=12, size=(32, 48)):
    """Frames whose gray rises by 20 a frame."""
    return np.stack([np.full((*size, 3), 20 * t % 256, np.uint8) for t in range(length)])
