"""Folders of videos: proportions, which way is up, files that are cut short, rates, and tables of actions."""

import struct

import cv2
import numpy as np
import pytest
from video_files_for_tests import rising, write

from experiments.runs.recording import make_source
from world_models.core.errors import ConfigError, UserError

TURNS = {  # display matrices (a, b, c, d) of a track, and what they do to an image
    "as it is": ((1, 0, 0, 1), lambda image: image),
    "clockwise": ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
    "half": ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
    "counterclockwise": ((0, -1, 1, 0), np.rot90),
    "mirrored": ((-1, 0, 0, 1), np.fliplr),
}


def noise(length=100):
    """Frames that no codec makes small."""
    return np.random.default_rng(0).integers(0, 256, (length, 32, 48, 3)).astype(np.uint8)


def source(folder, **fields):
    """The source of a folder."""
    return make_source({"source": "videos", "videos": str(folder), "image_size": (16, 24)} | fields)


def episodes(folder, **fields):
    """Frames [time, h, w, 3] and actions of all episodes of a folder."""
    made = source(folder, **fields)
    found = [episode for unit in range(made.num_units) for episode in made.episodes(unit)]
    decode = lambda png: cv2.imdecode(np.frombuffer(png, np.uint8), 1)[..., ::-1]
    return [(np.stack([decode(png) for png in episode.images]), episode.actions) for episode in found]


def left_and_right(size):
    """Frames that are red in their left half, blue in their right one, with a white bottom."""
    frames = np.zeros((3, *size, 3), np.uint8)
    frames[:, :, : size[1] // 2, 0] = frames[:, :, size[1] // 2 :, 2] = 255
    frames[:, size[0] * 3 // 4 :] = 255
    return frames


def test_videos_of_any_proportions_are_cropped_padded_or_stretched(tmp_path):
    wide, tall = left_and_right((32, 96)), left_and_right((96, 32))
    write(tmp_path / "wide.mp4", wide)
    write(tmp_path / "tall.mp4", tall)
    summary = source(tmp_path, image_size=(16, 16)).summary
    assert "96x32, 32x96; cropped and resized to 16x16" in summary
    (tall_crop, _), (wide_crop, _) = episodes(tmp_path, image_size=(16, 16))
    np.testing.assert_allclose(wide_crop[0], cv2.resize(wide[0, :, 32:64], (16, 16), None, 0, 0, 3), atol=30)
    assert (tall_crop[0, :, :6, 0] > 200).all()  # nothing of the white bottom is left
    (tall_pad, _), (wide_pad, _) = episodes(tmp_path, image_size=(18, 18), fit="pad")
    assert not wide_pad[0, :6].any()
    assert not wide_pad[0, 12:].any()
    assert not tall_pad[0, :, :6].any()
    assert (wide_pad[0, 7, 1] > [200, 0, 0]).any()
    _, (stretched, _) = episodes(tmp_path, image_size=(16, 16), fit="stretch")
    np.testing.assert_allclose(stretched[0], cv2.resize(wide[0], (16, 16), None, 0, 0, 3), atol=30)


@pytest.mark.parametrize("turn", TURNS)
def test_videos_lie_as_a_player_shows_them(tmp_path, turn):
    (a, b, c, d), turned = TURNS[turn]
    frames = left_and_right((32, 32))
    path = tmp_path / "phone.mp4"
    write(path, frames)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40  # version and flags, times, track, duration, layer, volume
    assert struct.unpack(">9i", data[matrix : matrix + 36])[:2] == (1 << 16, 0)
    one = 1 << 16
    data[matrix : matrix + 36] = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    ((found, _),) = episodes(tmp_path, image_size=(32, 32))
    np.testing.assert_allclose(found[0].astype(int), turned(frames[0]).astype(int), atol=60)


@pytest.mark.parametrize("name", ["a.mkv", "a.webm", "a.avi", "a.gif", "a.mp4"])
def test_files_that_are_cut_short_are_named(tmp_path, name):
    path = tmp_path / name
    write(path, noise(), faststart=True)
    assert len(episodes(tmp_path)[0][0]) == 100
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.raises(UserError, match=rf"{name} (is cut short|cannot be read).*config.record.skip"):
        episodes(tmp_path)
    write(tmp_path / "b.mp4", rising())
    assert len(episodes(tmp_path, skip=(name,))) == 1


def test_a_variable_rate_needs_frames_a_second(tmp_path):
    write(tmp_path / "a.mkv", rising(6), times=[0, 1, 2, 6, 7, 8])
    with pytest.raises(UserError, match=r"a.mkv has a variable frame rate .*config.record.fps, to 10 "):
        episodes(tmp_path)
    np.save(tmp_path / "a.npy", np.arange(6)[:, None])
    ((found, actions),) = episodes(tmp_path, fps=10.0)
    assert actions.tolist() == [0, 1, 2, 2, 2, 2, 3, 4, 5]
    np.testing.assert_allclose(found.mean(axis=(1, 2, 3)), 20 * actions, atol=4)
    ((_, actions),) = episodes(tmp_path, fps=5.0)
    assert actions.tolist() == [0, 2, 2, 3, 5]
    with pytest.raises(ConfigError) as error:
        source(tmp_path, fps=-1.0)
    assert error.value.field == "config.record.fps"


@pytest.mark.parametrize("name", ["a.mp4.npy", "A.npy", "a_actions.csv", "a.NPY", "drive_l.npy"])
def test_tables_with_a_similar_name_are_not_ignored(tmp_path, name):
    write(tmp_path / "a.mp4", rising())
    write(tmp_path / "drive_1.mp4", rising())
    (tmp_path / name).write_text("0\n")
    with pytest.raises(UserError, match=rf"{name} belongs to no video: is it (a|drive_1).npy"):
        source(tmp_path)


def test_tables_of_something_else_are_said_to_be_unused(tmp_path):
    write(tmp_path / "a.mp4", rising())
    (tmp_path / "weather.csv").write_text("0\n")
    assert "Not used: weather.csv" in source(tmp_path).summary


def test_ambiguous_or_infinite_actions_raise_an_error(tmp_path):
    write(tmp_path / "clip.mp4", rising())
    np.save(tmp_path / "clip.npy", np.array([[0.0]] * 7 + [[np.inf]] + [[0.0]] * 4))
    with pytest.raises(UserError, match=r"clip.npy holds an action that is not finite, in row 7"):
        source(tmp_path)
    (tmp_path / "clip.csv").write_text("0\n" * 12)
    with pytest.raises(UserError, match=r"clip.mp4 has two action files"):
        source(tmp_path)
    (tmp_path / "clip.npy").unlink()
    write(tmp_path / "clip.mkv", rising())
    with pytest.raises(UserError, match=r"clip.csv belongs to more than one video"):
        source(tmp_path)


def test_files_that_a_system_hides_are_none_of_the_videos(tmp_path):
    write(tmp_path / "a.mp4", rising())
    (tmp_path / ".DS_Store").write_bytes(b"\0")
    (tmp_path / "._a.mp4").write_bytes(b"\0")
    (tmp_path / "._a.npy").write_bytes(b"\0")
    (tmp_path / "folder.mp4").mkdir()
    assert source(tmp_path).num_units == 1
    (tmp_path / "b.mp4").symlink_to(tmp_path / "gone.mp4")
    with pytest.raises(ConfigError, match=r"b.mp4 is a link to nothing") as error:
        source(tmp_path)
    assert error.value.field == "config.record.videos"


def test_names_to_skip_must_be_there(tmp_path):
    write(tmp_path / "a.mp4", rising())
    for skip in (("b.mp4",), ("a.mp4",)):
        with pytest.raises(ConfigError) as error:
            source(tmp_path, skip=skip)
        assert error.value.field == "config.record.skip"


def test_the_key_of_a_video_says_what_it_is_made_of(tmp_path):
    for name in "ab":
        write(tmp_path / f"{name}.mp4", rising())
    first, second = (source(tmp_path).key(unit) for unit in (0, 1))
    assert first != second
    assert source(tmp_path, skip=("a.mp4",)).key(0) == second
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", np.zeros(12, np.int64))
    assert source(tmp_path).key(0) != first
