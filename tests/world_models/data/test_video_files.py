"""Video files as they are found: sizes as a player shows them, ends that are missing, and what names a file."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from world_models.core.errors import UserError
from world_models.data.video_files import decode, shown_size
from world_models.data.videos import VideoSource

LENGTH = 40
ONE = 1 << 16  # of the fixed-point numbers in an mp4 file


def _write(path, codec, rate=10, sound=""):
    """Noise of 32x48 and, on request, silence that goes on longer than the frames."""
    frames = np.random.default_rng(0).integers(0, 256, (LENGTH, 32, 48, 3)).astype(np.uint8)
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=rate)
        video.height, video.width, video.pix_fmt = 32, 48, "yuv420p"
        audio = container.add_stream(sound, rate=48_000) if sound else None
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuv420p")
            container.mux(video.encode(picture))
        container.mux(video.encode())
        if audio is not None:
            _add_silence(container, audio, seconds=1.3 * LENGTH / rate)


def _add_silence(container, audio, seconds):
    size = audio.codec_context.frame_size
    for start in range(0, int(48_000 * seconds), size):
        part = av.AudioFrame(format=audio.codec_context.format.name, layout="stereo", samples=size)
        for plane in part.planes:
            plane.update(bytes(plane.buffer_size))
        part.sample_rate, part.pts, part.time_base = 48_000, start, Fraction(1, 48_000)
        container.mux(audio.encode(part))
    container.mux(audio.encode())


def _source(folder):
    return VideoSource(str(folder), (), image_size=(48, 32), fit="crop", fps=0.0, frame_stride=1, max_episode_steps=0)


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "libx264"), ("a.webm", "libvpx-vp9")])
def test_no_frame_at_the_end_is_lost_without_an_error(tmp_path, name, codec):
    """Wherever in its last tenth a file is cut: all frames, or an error."""
    whole, path = tmp_path / f"whole-{name}", tmp_path / name
    _write(whole, codec)
    data = whole.read_bytes()
    complete, refused = 0, 0
    for end in np.linspace(0.9 * len(data), len(data), 12).astype(int):
        path.write_bytes(data[:end])
        try:
            assert len(list(decode(path))) == LENGTH
            complete += 1
        except UserError as error:
            assert name in str(error)  # noqa: PT017 (either of the two is right)
            refused += 1
    assert complete
    assert refused


@pytest.mark.parametrize(
    ("name", "codec", "sound"),
    [("a.mkv", "libx264", "aac"), ("a.webm", "libvpx-vp9", "libopus"), ("a.mp4", "libx264", "aac")],
)
@pytest.mark.parametrize("rate", [10, 60])
def test_sound_does_not_make_a_whole_file_look_cut(tmp_path, name, codec, sound, rate):
    _write(tmp_path / name, codec, rate, sound)
    assert len(list(decode(tmp_path / name))) == LENGTH


def test_the_size_that_is_said_is_that_of_the_upright_frames(tmp_path):
    path = tmp_path / "phone.mp4"
    _write(path, "libx264")
    assert shown_size(path) == (32, 48)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    data[matrix : matrix + 36] = struct.pack(">9i", 0, ONE, 0, -ONE, 0, 0, 0, 0, 1 << 30)  # a quarter turn
    path.write_bytes(data)
    assert shown_size(path) == (48, 32)
    assert "48x32; kept as they are" in _source(tmp_path).summary


def test_a_change_in_the_middle_of_a_file_changes_its_key(tmp_path):
    """Units are named by content, so that a file that was mended between two sessions is decoded again."""
    path = tmp_path / "a.avi"
    _write(path, "mpeg4")
    path.write_bytes(path.read_bytes() + bytes(1 << 18))
    before = _source(tmp_path).key(0)
    assert _source(tmp_path).key(0) == before
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert _source(tmp_path).key(0) != before
