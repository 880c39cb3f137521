"""Recording again: what is kept between two calls, what may change between them, and that files are reproducible."""

import dataclasses
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from ml_collections import ConfigDict
from video_files_for_tests import rising, write

from configs import my_environment
from experiments.runs.recording import record
from world_models.core.errors import UserError
from world_models.core.options import to_dict
from world_models.data.options import RECORDING, GymnasiumRecording, VideosRecording
from world_models.data.stored_episodes import Episodes

ROOT = pathlib.Path(__file__).parents[3]
SPLITS = {"train": 0.5, "validation": 0.5}


def config_of(options):
    """A config with no more than what is to be recorded."""
    return ConfigDict({"record": to_dict(options, RECORDING)})


def toy(**fields):
    """A recording of the toy."""
    options = GymnasiumRecording(
        "Toy-v0", modules=("toy_environment",), observation="observation", image_size=(20, 24), num_episodes=6,
        num_workers=2, splits=SPLITS,
    )  # fmt: skip
    return config_of(dataclasses.replace(options, **fields))


def videos(folder, **fields):
    """A recording of a folder."""
    options = VideosRecording(str(folder), image_size=(16, 24), num_workers=2, splits=SPLITS)
    return config_of(dataclasses.replace(options, **fields))


@pytest.fixture
def folder(tmp_path):
    """Four videos of 1, 2, 3 and 4 frames, of which the first is broken: a, b, c, d."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for i, name in enumerate("bcde", 1):
        write(folder / f"{name}.mkv", rising(i + 1))
    write(folder / "a.mkv", np.random.default_rng(0).integers(0, 256, (40, 32, 48, 3)).astype(np.uint8))
    data = (folder / "a.mkv").read_bytes()
    (folder / "a.mkv").write_bytes(data[: len(data) // 2])
    return folder


def lengths(output):
    """Lengths of the episodes of both splits together, sorted."""
    return sorted(int(n) for split in SPLITS for n in Episodes(str(output), split).lengths)


def names(output):
    """Names of the videos of each split."""
    builder = tfds.builder_from_directory(output)
    text = lambda value: value.decode() if isinstance(value, bytes) else str(value)
    read = lambda split: [text(one["episode_metadata"]["video"]) for one in builder.as_data_source(split)]
    return {split: read(split) for split in SPLITS}


@pytest.mark.parametrize("way", ["removed", "skipped"])
def test_a_broken_video_goes_and_each_other_is_there_once(folder, tmp_path, way):
    output = tmp_path / "data"
    with pytest.raises(UserError, match=r"a.mkv is cut short"):
        record(videos(folder, num_workers=1), output)
    with pytest.raises(UserError, match=r"a.mkv is cut short"):
        record(videos(folder, num_workers=4), output)  # begins all of them
    if way == "removed":
        (folder / "a.mkv").unlink()
        record(videos(folder), output)
    else:
        record(videos(folder, skip=("a.mkv",)), output)
    assert lengths(output) == [2, 3, 4, 5]
    found = names(output)
    assert sorted(found["train"] + found["validation"]) == ["b.mkv", "c.mkv", "d.mkv", "e.mkv"]


def test_a_finished_video_that_was_changed_is_made_again(folder, tmp_path):
    (folder / "a.mkv").rename(folder / "z.mkv")  # the last
    with pytest.raises(UserError, match=r"z.mkv is cut short"):
        record(videos(folder, num_workers=1), tmp_path / "data")
    done = {path.name for path in (tmp_path / "data.partial" / "episodes").iterdir() if path.suffix != ".tmp"}
    assert len(done) == 4
    write(folder / "b.mkv", rising(9))
    record(videos(folder, skip=("z.mkv",)), tmp_path / "data")
    assert lengths(tmp_path / "data") == [3, 4, 5, 9]


def test_what_a_system_leaves_in_an_unfinished_recording_does_not_stop_it(folder, tmp_path):
    output, partial = tmp_path / "data", tmp_path / "data.partial"
    with pytest.raises(UserError, match="cut short"):
        record(videos(folder, num_workers=4), output)
    episodes = partial / "episodes"
    finished = [path for path in episodes.iterdir() if path.is_dir() and path.suffix != ".tmp"]
    for place in (partial, episodes, *finished):
        (place / ".DS_Store").write_bytes(b"\0")
        (place / "._000000").write_bytes(b"\0")
        (place / "old").symlink_to(tmp_path / "gone")
    record(videos(folder, skip=("a.mkv",)), output)
    assert lengths(output) == [2, 3, 4, 5]
    assert not partial.exists()


def test_shares_may_change_while_a_recording_is_unfinished(folder, tmp_path):
    with pytest.raises(UserError, match=r"config.record.splits.validation=0.1"):
        record(videos(folder, splits={"train": 0.9, "validation": 0.1}), tmp_path / "data")
    assert not (tmp_path / "data.partial").exists()
    with pytest.raises(UserError, match="cut short"):
        record(videos(folder, splits={"train": 0.8, "validation": 0.2}), tmp_path / "data")
    record(videos(folder, skip=("a.mkv",)), tmp_path / "data")
    assert [len(Episodes(str(tmp_path / "data"), split).lengths) for split in SPLITS] == [2, 2]


def test_metadata_name_what_was_used_and_nothing_else(folder, tmp_path):
    (folder / "a.mkv").unlink()
    command = [
        sys.executable, "launch.py", "record", "--config=configs/car_unet.py:debug", f"--workdir={tmp_path / 'run'}",
        "--config.record.source=videos", f"--config.record.videos={folder}", "--config.record.num_workers=2",
        "--config.record.splits.train=0.5", "--config.record.splits.validation=0.25",
        "--config.record.splits.test=0.25",
    ]  # fmt: skip
    subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, capture_output=True)
    data = tmp_path / "run" / "data"
    everything = b"".join(path.read_bytes() for path in data.iterdir())
    for foreign in (b"CarRacing", b"configs.car_unet", b"gymnasium", b"Box2D", b"action_repeat"):
        assert foreign not in everything
    metadata = tfds.builder_from_directory(data).info.features["episode_metadata"]
    assert sorted(metadata.keys()) == ["index", "versions", "video"]


def test_recording_twice_in_two_processes_gives_the_same_bytes(tmp_path):
    program = (
        "import sys, pathlib\n"
        "if __name__ == '__main__':\n"
        "    sys.path.insert(0, sys.argv[1])\n"
        "    import test_record_again as t\n"
        "    t.record(t.toy(), pathlib.Path(sys.argv[2]))\n"
    )
    (tmp_path / "program.py").write_text(program)
    path = os.pathsep.join(map(str, [ROOT, pathlib.Path(__file__).parents[2]]))
    for name in "ab":
        words = [tmp_path / "program.py", pathlib.Path(__file__).parent, tmp_path / name]
        subprocess.run([sys.executable, *map(str, words)], env=os.environ | {"PYTHONPATH": path}, check=True)
    one, other = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in "ab")
    assert one == other
    assert len(one) == 5  # two splits, and three files about them


def test_a_simulator_that_exits_or_raises_an_error_of_its_own_is_named(tmp_path):
    config = toy(
        environment="Careless-v0",
        modules=("odd_environments",),
        environment_kwargs={"wrong": "exit"},
        image_size=(8, 8),
    )
    with pytest.raises(UserError, match=r"episode \d+ of Careless-v0 .* failed with SystemExit: 3"):
        record(config, tmp_path / "data")


def test_data_do_not_depend_on_the_number_of_workers_if_resets_forget_nothing(tmp_path):
    fields = {"environment": "Careless-v0", "modules": ("odd_environments",), "image_size": (8, 8)}
    for workers in (1, 3):
        record(toy(num_workers=workers, **fields), tmp_path / str(workers))
    for split in SPLITS:
        one, other = (Episodes(str(tmp_path / str(workers)), split) for workers in (1, 3))
        for i, length in enumerate(one.lengths):
            np.testing.assert_array_equal(
                one.read(i, 0, int(length))["frames"], other.read(i, 0, int(length))["frames"]
            )


def test_the_template_records_once_the_lines_that_are_yours_are_set(tmp_path):
    config = my_environment.get_config("debug")
    config.record.update({"environment": "Toy-v0", "modules": ("toy_environment",), "num_workers": 2})
    output = record(config, tmp_path / "data")
    assert Episodes(str(output), "train").read(0, 0, 2)["frames"].shape == (2, 64, 64, 3)
    with pytest.raises(UserError, match=r"config.record.modules: importing 'my_package' failed"):
        record(my_environment.get_config(), tmp_path / "none")
