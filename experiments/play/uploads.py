"""Images and short videos that players upload: decoded in a process of its own with limits, at the model's size.

Run as a module it is that process: it reads a file from its standard input and writes a NumPy array of frames, or a
sentence that says what is wrong, to its standard output.
"""

import io
import os
import pathlib
import resource
import subprocess
import sys
import tempfile

import numpy as np

MOST_BYTES = 16 << 20
MOST_PIXELS = 16_000_000  # of a frame
MOST_SECONDS, MOST_FRAMES = 30.0, 1_000
PATIENCE = 20.0  # seconds for decoding
_MEMORY, _PROCESSOR_SECONDS = 2 << 30, 15
_BAD = 3  # exit status: the file is bad, the reason is on standard output
ROOT = pathlib.Path(__file__).parents[2]


class BadUpload(ValueError):
    """A file that cannot be played from; the text is one sentence."""


def decode(data: bytes, size: tuple[int, int], count: int) -> np.ndarray:
    """The last frames of an image or video; waits for the process that decodes it.

    Args:
      data: the file.
      size: (height, width) to crop and resize to.
      count: at most so many frames.

    Returns:
      uint8 [frames, height, width, 3].

    Raises:
      BadUpload: if it is too large, or no image or video.
    """
    if len(data) > MOST_BYTES:
        raise BadUpload(f"The file has {len(data)} bytes: at most {MOST_BYTES} are read.")
    words = [sys.executable, "-m", "experiments.play.uploads", *map(str, (*size, count))]
    environment = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(words, input=data, cwd=ROOT, env=environment, capture_output=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise BadUpload(f"Decoding the file takes longer than {PATIENCE:g} s.") from None
    if done.returncode == _BAD:
        raise BadUpload(done.stdout.decode(errors="replace")[:300])
    if done.returncode:
        raise BadUpload("The file cannot be decoded within the limits of memory and time.")
    return np.load(io.BytesIO(done.stdout), allow_pickle=False)


def _image(data: bytes) -> np.ndarray | None:
    """uint8 [1, h, w, 3], or None if it is no still image."""
    from PIL import Image, UnidentifiedImageError

    Image.MAX_IMAGE_PIXELS = MOST_PIXELS
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MOST_PIXELS:
                raise BadUpload(f"The image has {image.width} x {image.height} pixels: at most {MOST_PIXELS} are read.")
            if image.format == "GIF" and image.n_frames > 1:
                return None
            return np.array(image.convert("RGB"))[None]
    except UnidentifiedImageError:
        return None
    except Image.DecompressionBombError as error:
        raise BadUpload(f"The image has too many pixels: at most {MOST_PIXELS} are read.") from error
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, BadUpload):
            raise
        raise BadUpload("The image is damaged.") from error


def _video(data: bytes, size: tuple[int, int], count: int) -> np.ndarray:
    """The last frames, uint8 [frames, height, width, 3]."""
    from world_models.core.errors import UserError
    from world_models.data import video_files
    from world_models.data.episodes import fitted

    frames = []
    with tempfile.NamedTemporaryFile(suffix=".video") as file:
        file.write(data)
        file.flush()
        try:
            for frame in video_files.decode(pathlib.Path(file.name)):
                if frame.image.shape[0] * frame.image.shape[1] > MOST_PIXELS:
                    raise BadUpload(f"The video's frames have more than {MOST_PIXELS} pixels.")
                if frame.time > MOST_SECONDS or frame.index >= MOST_FRAMES:
                    raise BadUpload(f"The video is longer than {MOST_SECONDS:g} s or {MOST_FRAMES} frames.")
                frames = (
                    [*frames[-(count - 1) :], fitted(frame.image, size, "crop")]
                    if count > 1
                    else [fitted(frame.image, size, "crop")]
                )
        except UserError as error:
            raise BadUpload("The file is no image and no whole video.") from error
    return np.stack(frames)


def main(words: list[str]) -> int:
    """Decodes standard input to standard output; returns the exit status."""
    resource.setrlimit(resource.RLIMIT_CPU, (_PROCESSOR_SECONDS, _PROCESSOR_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MOST_BYTES, 2 * MOST_BYTES))
    height, width, count = map(int, words)
    data = sys.stdin.buffer.read(MOST_BYTES + 1)
    try:
        found = _image(data)
        if found is None:
            found = _video(data, (height, width), count)
        else:
            from world_models.data.episodes import fitted

            found = fitted(found[0], (height, width), "crop")[None]
    except BadUpload as error:
        sys.stdout.write(str(error))
        return _BAD
    result = io.BytesIO()  # np.save writes to no pipe
    np.save(result, found)
    sys.stdout.buffer.write(result.getvalue())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
