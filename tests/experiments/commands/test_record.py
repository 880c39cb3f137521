"""Recording: what is written, what survives interruptions, and what is refused."""

import dataclasses
import errno
import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import av
import numpy as np
import pytest
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from configs.car_unet import get_config
from experiments.runs import recording
from experiments.runs.recording import record
from world_models.core.errors import UserError
from world_models.core.options import to_dict
from world_models.data import rlds
from world_models.data.options import RECORDING, VideosRecording
from world_models.data.stored_episodes import Episodes


@pytest.fixture
def config():
    config = get_config("debug")
    config.record.update(
        {
            "environment": "Toy-v0",
            "modules": ("toy_environment",),
            "image_size": (20, 24),
            "action_repeat": 1,
            "policy": "random",
            "num_episodes": 10,
            "max_episode_steps": 50,
            "skip_steps": 0,
            "num_workers": 2,
        }
    )
    config.record.environment_kwargs = {"length": 7}
    return config


def changed(config, **fields):
    config.record.unlock()
    config.record.update(fields)
    return config


def contents(output):
    """Everything in a data set, by split."""
    splits = {}
    for split in ("train", "validation", "test"):
        episodes = Episodes(str(output), split)
        splits[split] = [episodes.read(i, 0, int(n)) for i, n in enumerate(episodes.lengths)]
    return splits


def assert_same(a, b):
    for split, episodes in contents(a).items():
        for one, other in zip(episodes, contents(b)[split], strict=True):
            for name in one:
                np.testing.assert_array_equal(one[name], other[name])


def test_actions_rewards_and_frames_are_aligned_as_in_rlds(config, tmp_path):
    output = record(config, tmp_path / "data")
    splits = contents(output)
    assert {name: len(episodes) for name, episodes in splits.items()} == {"train": 5, "validation": 2, "test": 3}
    assert not (tmp_path / "data.partial").exists()
    seeds = set()
    for episode in itertools.chain(*splits.values()):
        pixels, actions = episode["frames"][:, 0, 0].astype(int), episode["actions"]
        np.testing.assert_array_equal(pixels[:, 0], np.arange(8))
        # The frame after step t shows the action stored at t (which counts from 0, the environment's from 1).
        np.testing.assert_array_equal(pixels[1:, 1], actions[:-1] + 1)
        np.testing.assert_array_equal(episode["rewards"][:-1], 10 * np.arange(1, 8) + actions[:-1] + 1)
        assert actions[-1] == episode["rewards"][-1] == 0
        assert episode["is_terminal"].tolist() == [False] * 7 + [True]
        seeds.add(pixels[0, 2])
    assert len(seeds) > 5
    assert len(set(np.concatenate([e["actions"] for e in splits["train"]]))) == 5


def test_the_data_set_opens_with_tfds_and_describes_itself(config, tmp_path):
    builder = tfds.builder_from_directory(record(config, tmp_path / "data"))
    assert "tensorflow" not in sys.modules
    example = builder.as_data_source("train")[0]
    metadata = example["episode_metadata"]
    assert metadata["environment"] == b"Toy-v0" or metadata["environment"] == "Toy-v0"
    assert "gymnasium" in json.loads(metadata["versions"])
    steps = list(example["steps"])
    assert [bool(s["is_first"]) for s in steps] == [True] + [False] * 7
    assert [float(s["discount"]) for s in steps] == [1.0] * 7 + [0.0]
    assert dict(builder.info.metadata)["action"]["size"] == 5


def test_cut_episodes_are_not_terminal_and_repeats_sum_rewards(config, tmp_path):
    config.record.environment_kwargs = {"length": 100}
    output = record(
        changed(config, max_episode_steps=6, action_repeat=3, policy="sticky", repeat_probability=0.5),
        tmp_path / "data",
    )
    for episode in itertools.chain(*contents(output).values()):
        pixels, actions = episode["frames"][:, 0, 0].astype(int), episode["actions"]
        np.testing.assert_array_equal(pixels[:, 0], 3 * np.arange(6))
        steps = 3 * np.arange(5)[:, None] + np.arange(1, 4)
        np.testing.assert_array_equal(episode["rewards"][:-1], 10 * steps.sum(axis=1) + 3 * (actions[:-1] + 1))
        assert not episode["is_terminal"].any()


def test_recording_begins_after_the_skipped_steps(config, tmp_path):
    output = record(changed(config, skip_steps=3), tmp_path / "data")
    for episode in itertools.chain(*contents(output).values()):
        pixels, actions = episode["frames"][:, 0, 0].astype(int), episode["actions"]
        np.testing.assert_array_equal(pixels[:, 0], np.arange(3, 8))
        np.testing.assert_array_equal(pixels[1:, 1], actions[:-1] + 1)
        np.testing.assert_array_equal(episode["rewards"][:-1], 10 * np.arange(4, 8) + actions[:-1] + 1)
    with pytest.raises(UserError, match=r"it ended within config.record.skip_steps=7"):
        record(changed(config, skip_steps=7), tmp_path / "none")


def test_options_are_given_to_every_reset(config, tmp_path):
    config.record.reset_options = {"begin": 2}
    for episode in itertools.chain(*contents(record(config, tmp_path / "data")).values()):
        np.testing.assert_array_equal(episode["frames"][:, 0, 0, 0], np.arange(2, 8))


def test_frames_are_rendered_on_request(config, tmp_path):
    output = record(changed(config, observation="render"), tmp_path / "data")
    first = Episodes(str(output), "train").read(0, 0, 3)["frames"][:, 0, 0]
    assert first[:, 0].tolist() == [255, 254, 253]


def test_continuous_actions_keep_their_bounds(config, tmp_path):
    config.record.environment_kwargs = {"space": "box"}
    spec = Episodes(str(record(config, tmp_path / "a")), "train").spec.actions
    assert (spec.kind, spec.low, spec.high) == ("continuous", (-1.0, 0.0), (1.0, 2.0))
    config.record.environment_kwargs = {"space": "unbounded"}
    spec = Episodes(str(record(config, tmp_path / "b")), "train").spec.actions
    assert np.isfinite(spec.low).all()


def test_number_of_workers_does_not_matter(config, tmp_path):
    record(changed(config, num_workers=1), tmp_path / "one")
    record(changed(config, num_workers=3), tmp_path / "three")
    assert_same(tmp_path / "one", tmp_path / "three")


def _command(config, tmp_path):
    fields = {
        "environment": "Toy-v0", "image_size": "(20,24)", "action_repeat": 1, "policy": "random",
        "num_episodes": 10, "max_episode_steps": 50, "skip_steps": 0, "num_workers": 2, 
        "modules": "('toy_environment',)",
    }  # fmt: skip
    command = [sys.executable, "launch.py", "record", "--config=configs/car_unet.py:debug", f"--workdir={tmp_path}"]
    return command + [f"--config.record.{name}={value}" for name, value in fields.items()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_interrupted_recording_goes_on_to_the_same_data(config, tmp_path, number):
    # The toy ignores CarRacing's keyword, which the config variant brings along.
    module = "import toy_environment as t\n"
    module += "class S(t.Toy):\n    def __init__(self, continuous=False, **k): super().__init__(slow={slow}, **k)\n"
    module += "t.gymnasium.register('Slow-v0', S)\n"
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "slow_environment.py").write_text(module.format(slow=0.05))
    environment = os.environ | {"PYTHONPATH": f"{folder}:{pathlib.Path(__file__).resolve().parents[2]}"}
    command = [
        w.replace("Toy-v0", "Slow-v0").replace("toy_env", "slow_env") for w in _command(config, tmp_path / "run")
    ]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    episodes, deadline = tmp_path / "run" / "data.partial" / "episodes", time.monotonic() + 60
    while time.monotonic() < deadline and len([p for p in episodes.glob("*") if p.name.isdigit()]) < 3:
        time.sleep(0.02)
    process.send_signal(number)
    _, error = process.communicate(timeout=30)
    assert process.returncode == {signal.SIGKILL: -9}.get(number, 130)
    assert not (tmp_path / "run" / "data").exists()
    with pytest.raises(UserError, match="unfinished recording is in"):
        Episodes(str(tmp_path / "run" / "data"), "train")
    if number != signal.SIGKILL:
        assert "the same command goes on from there" in error
    kept = {p.name: p.stat().st_mtime_ns for p in episodes.glob("*") if p.name.isdigit()}
    assert 3 <= len(kept) < 10
    (folder / "slow_environment.py").write_text(module.format(slow=0.0))
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)
    config.record.environment_kwargs = {"length": 7}
    record(config, tmp_path / "straight")
    assert_same(tmp_path / "run" / "data", tmp_path / "straight")


def test_no_worker_outlives_a_killed_recording(config, tmp_path):
    module = "import toy_environment as t\n"
    module += "class S(t.Toy):\n    def __init__(self, continuous=False, **k): super().__init__(slow=0.5, **k)\n"
    module += "t.gymnasium.register('Slow-v0', S)\n"
    (tmp_path / "slow_environment.py").write_text(module)
    marker = f"MARK={tmp_path}"
    environment = os.environ | {
        "PYTHONPATH": f"{tmp_path}:{pathlib.Path(__file__).resolve().parents[2]}",
        "MARK": str(tmp_path),
    }
    command = [
        w.replace("Toy-v0", "Slow-v0").replace("toy_env", "slow_env") for w in _command(config, tmp_path / "run")
    ]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def alive():
        found = []
        for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
            try:
                if (
                    marker in path.read_text(errors="replace")
                    and "Z" not in (path.parent / "stat").read_text().split()[2]
                ):
                    found.append(path.parent.name)
            except OSError:
                continue
        return found

    deadline = time.monotonic() + 60
    while len(alive()) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(2)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 15
    while alive() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert alive() == []


def test_recording_twice_returns_what_is_there_and_another_config_raises_an_error(config, tmp_path):
    output = record(config, tmp_path / "data")
    before = {p.name: p.stat().st_mtime_ns for p in output.iterdir()}
    assert record(changed(config, num_workers=1), output) == output
    with pytest.raises(UserError, match=r"holds another recording \(config.record.num_episodes is 11, there it is 10"):
        record(changed(config, num_episodes=11), output)
    assert {p.name: p.stat().st_mtime_ns for p in output.iterdir()} == before


def test_failing_and_dying_simulators_are_named_and_cost_no_finished_episode(config, tmp_path):
    config.record.environment_kwargs = {"fail_at": 1}
    with pytest.raises(
        UserError, match=r"episode \d+ of Toy-v0 \(seed \d+\) failed with CrashError: the wheels came off"
    ):
        record(config, tmp_path / "failing")
    config.record.environment_kwargs = {"die_at": 1}
    with pytest.raises(UserError, match=r"A worker process died while making episode \d+"):
        record(config, tmp_path / "dying")
    assert (tmp_path / "dying.partial" / "episodes").exists()
    with pytest.raises(UserError, match=r"was begun with another config .*delete"):
        record(changed(config, seed=9), tmp_path / "dying")


def test_full_disk_keeps_what_is_finished(config, tmp_path, monkeypatch):
    write = rlds.write

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(rlds, "write", full)
    with pytest.raises(
        UserError, match=r"No space left on the disk of .*data.partial: 10 finished recordings are kept"
    ):
        record(config, tmp_path / "data")
    assert not (tmp_path / "data").exists()
    monkeypatch.setattr(rlds, "write", write)
    monkeypatch.setattr(recording, "_make_unit", None)  # nothing is made again
    record(config, tmp_path / "data")


def test_a_data_set_that_cannot_be_read_back_never_appears(config, tmp_path, monkeypatch):
    monkeypatch.setattr(rlds.Recording, "_generate_examples", lambda self, files: iter(()))
    with pytest.raises(Exception):  # noqa: B017, PT011 (TFDS or our own check, whichever sees it first)
        record(config, tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"environment": "CarRacig-v3"}, r"config.record.environment='CarRacig-v3' is unknown; near it: CarRacing-v3"),
        ({"environment": "Nonsense-v0", "modules": ("no_such",)}, r"config.record.modules: importing 'no_such' failed"),
        ({"environment": "MiniGrid-Empty-8x8-v0"}, r"needs 'minigrid': pip install -e '.\[minigrid\]'"),
        ({"environment": "Blind-v0"}, r"observation='observation' of 'Blind-v0' is no image: try 'render'"),
        ({"environment_kwargs": {"space": "dict"}}, r"actions of space Dict.* Discrete, Box and MultiBinary work"),
        ({"environment_kwargs": {"wheels": 3}}, r"config.record.environment_kwargs=.*do not suit 'Toy-v0'"),
        ({"policy": "nowhere:act"}, r"config.record.policy='nowhere:act' is neither"),
        ({"policy": "sticky", "repeat_probability": 1.0}, r"config.record.repeat_probability=1.0 must be"),
        ({"image_size": (0, 8)}, r"config.record.image_size=\(0, 8\)"),
        ({"action_repeat": 0}, r"config.record.action_repeat=0"),
        ({"num_episodes": 0}, r"config.record.num_episodes=0"),
        ({"source": "camera"}, r"config.record.source='camera' must be"),
        ({"frame_stride": 2}, r"config.record has no field 'frame_stride'"),
        ({"observation": "pixels"}, r"config.record.observation='pixels' must be"),
        ({"splits": {"train": 0.5, "validation": 0.2, "test": 0.2}}, r"config.record.splits="),
        (
            {"num_episodes": 3, "splits": {"train": 0.9, "validation": 0.05, "test": 0.05}},
            r"config.record.splits.\w+=0.05",
        ),
    ],
)
def test_bad_input_raises_one_sentence(config, tmp_path, fields, message):
    if "environment_kwargs" in fields:
        config.record.environment_kwargs = fields.pop("environment_kwargs")
    elif fields.get("environment") in ("CarRacig-v3", "MiniGrid-Empty-8x8-v0"):
        config.record.environment_kwargs = {}
    if "splits" in fields:
        config.record.splits.update(fields.pop("splits"))
    with pytest.raises(UserError, match=message):
        record(changed(config, **fields), tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_real_simulator_moves_under_its_actions(config, tmp_path):
    demo = get_config("debug")
    demo.record.num_workers = 2
    output = record(demo, tmp_path / "data")
    episodes = Episodes(str(output), "train")
    frames = episodes.read(0, 0, 20)["frames"]
    assert frames.shape == (20, 32, 32, 3)
    assert (frames[1:] != frames[:-1]).any(axis=(1, 2, 3)).all()
    assert episodes.spec.actions.size == 5


def _write_video(path, frames, codec, pixels):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], pixels
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format=pixels)))
        container.mux(stream.encode())


@pytest.fixture
def videos(tmp_path):
    """Three files of 12 frames, gray rising by 20 a frame."""
    folder = tmp_path / "videos"
    folder.mkdir()
    frames = np.stack([np.full((32, 48, 3), 20 * t, np.uint8) for t in range(12)])
    _write_video(folder / "a.mp4", frames, "libx264", "yuv420p")
    _write_video(folder / "b.webm", frames, "libvpx-vp9", "yuv420p")
    _write_video(folder / "c.gif", frames, "gif", "rgb8")
    return folder


def _video_config(config, folder, **fields):
    options = VideosRecording(str(folder), image_size=(16, 24), splits={"train": 1.0})
    config.record = ConfigDict(to_dict(dataclasses.replace(options, **fields), RECORDING))
    return config


def test_folders_of_videos_become_episodes(config, videos, tmp_path):
    episodes = Episodes(str(record(_video_config(config, videos), tmp_path / "data")), "train")
    assert episodes.lengths.tolist() == [12, 12, 12]
    for i in range(3):
        levels = episodes.read(i, 0, 12)["frames"].mean(axis=(1, 2, 3))
        np.testing.assert_allclose(levels, 20 * np.arange(12), atol=20 if i == 2 else 4)
    assert episodes.spec.actions.size == 1


def test_videos_are_strided_cut_and_matched_with_their_actions(config, videos, tmp_path):
    for name in "abc":
        np.save(videos / f"{name}.npy", np.arange(12, dtype=np.float32)[:, None] * [1, 10])
    config = _video_config(config, videos, frame_stride=2, max_episode_steps=4)
    episodes = Episodes(str(record(config, tmp_path / "data")), "train")
    assert episodes.lengths.tolist() == [4, 2] * 3
    second = episodes.read(1, 0, 2)
    np.testing.assert_array_equal(second["actions"], [[8, 80], [10, 100]])
    np.testing.assert_allclose(second["frames"].mean(axis=(1, 2, 3)), [160, 200], atol=4)


def test_bad_videos_raise_an_error_with_their_name(config, videos, tmp_path):
    with pytest.raises(UserError, match=r"config.record.videos='/nowhere'"):
        record(_video_config(config, "/nowhere"), tmp_path / "none")
    (videos / "d.mp4").write_bytes(b"no video")
    with pytest.raises(UserError, match=r"d.mp4 cannot be read as a video"):
        record(_video_config(config, videos), tmp_path / "a")
    (videos / "d.mp4").unlink()
    (videos / "a.csv").write_text("1\n2\n3\n")
    with pytest.raises(UserError, match=r"b.webm has no action file"):
        record(_video_config(config, videos), tmp_path / "b")
    for name in "bc":
        (videos / f"{name}.csv").write_text("0\n" * 12)
    with pytest.raises(UserError, match=r"The actions of .*a.mp4 have 3 rows for 12 frames"):
        record(_video_config(config, videos), tmp_path / "c")
    (videos / "a.csv").write_text("left\n")
    with pytest.raises(UserError, match=r"a.csv is no table of actions"):
        record(_video_config(config, videos), tmp_path / "d")
