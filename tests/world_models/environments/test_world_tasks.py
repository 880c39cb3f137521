"""Tasks of worlds as files, what is refused of them, and the recording of worlds as a user would make one."""

import json

import numpy as np
import pytest
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from experiments.runs.recording import record
from world_models.core.errors import UserError
from world_models.data.sources import worlds
from world_models.data.stored_episodes import Episodes
from world_models.environments import tasks
from world_models.environments.worlds import registry


@pytest.mark.parametrize("name", registry.WORLDS)
def test_tasks_are_read_back_as_they_were_written(name, tmp_path):
    world = registry.make(name, (32, 32))
    made = tasks.make(world, world.TASKS[0], 7, 6)
    digest = tasks.save(tmp_path / "tasks.json", made, world=name, seed=7)
    read, same = tasks.load(tmp_path / "tasks.json", world)
    assert digest == same
    assert type(read.layout) is world.Layout
    for wanted, found in zip([*made[:2], *made.layout, made.distance], [*read[:2], *read.layout, read.distance]):
        assert wanted.dtype == found.dtype
        np.testing.assert_array_equal(wanted, found)
    again, other = (tasks.make(world, world.TASKS[0], seed, 6) for seed in (7, 8))
    np.testing.assert_array_equal(again.start, made.start)
    assert (other.start != made.start).all()
    assert tasks.save(tmp_path / "again.json", again, world=name, seed=7) == digest


def test_changed_and_foreign_files_are_refused(tmp_path):
    world, path = registry.make("two_rooms", (65, 65)), tmp_path / "tasks.json"
    tasks.save(path, tasks.make(world, "random_wall", 0, 3), world="two_rooms")
    with pytest.raises(UserError, match="holds tasks of another world: two_rooms"):
        tasks.load(path, registry.make("four_rooms", (65, 65)))
    facts = json.loads(path.read_text())
    facts["tasks"]["goal"][1][0] += 0.5
    path.write_text(json.dumps(facts))
    with pytest.raises(UserError, match=r"tasks.json was changed since it was written \(its SHA-256"):
        tasks.load(path, world)
    path.write_text('{"goal": 3}')
    with pytest.raises(UserError, match="is no file of tasks"):
        tasks.load(path, world)
    with pytest.raises(UserError, match=r"is no file of tasks \(FileNotFoundError"):
        tasks.load(tmp_path / "none.json", world)


@pytest.mark.parametrize(
    ("name", "goal", "message"),
    [
        ("two_rooms", (3.0, 30.0), r"goal of task 1, \(3, 30\), is outside of the rooms"),
        ("two_rooms", "wall", r"goal of task 1, .* is inside the wall at x="),
        ("two_rooms", (np.nan, 30.0), "goal of task 1, .* is no place at all"),
        ("four_rooms", (112.0, 20.0), r"goal of task 1, \(112, 20\), is inside or too near a wall"),
        ("four_rooms", (16.0, 60.0), "goal of task 1, .* is outside of the rooms"),
        ("point_maze", (8.0, 0.0), "goal of task 1, .* is inside or too near a wall of the maze 'medium'"),
        ("point_maze", (80.0, 0.0), "goal of task 1, .* is outside of the maze"),
    ],
)
def test_goals_that_cannot_be_reached_are_refused(name, goal, message, tmp_path):
    world = registry.make(name, (32, 32))
    made = tasks.make(world, world.TASKS[0], 0, 3)
    if goal == "wall":
        goal = (made.layout.wall_x[1], made.layout.door_y[1] + 5)
    made.goal[1] = goal
    with pytest.raises(UserError, match=message):
        tasks.check(world, made)
    tasks.save(tmp_path / "tasks.json", made)
    with pytest.raises(UserError, match=message):
        tasks.load(tmp_path / "tasks.json", world)


def test_tasks_and_worlds_that_there_are_not_are_named():
    world = registry.make("two_rooms", (65, 65))
    with pytest.raises(UserError, match="tasks='any' must be one of random_wall, fixed_wall"):
        tasks.make(world, "any", 0, 3)
    with pytest.raises(UserError, match="num_tasks=0 must be at least 1"):
        tasks.make(world, "fixed_wall", 0, 0)
    with pytest.raises(UserError, match="world='three_rooms' must be one of two_rooms, four_rooms, point_maze"):
        registry.make("three_rooms", (65, 65))
    with pytest.raises(UserError, match="the farthest cells of the maze 'medium' are"):
        tasks.make(registry.make("point_maze", (65, 65)), "cells_13_16", 0, 3)


def options(source="two_rooms", **fields):
    block = {"source": source, "seed": 0, "image_size": (65, 65), "num_episodes": 6, "num_frames": 16}
    block |= {"splits": {"train": 0.5, "test": 0.5}}
    extra = {"two_rooms": {"cross_rate": 0.35, "wall": "random"}, "four_rooms": {"expert_share": 0.5}}
    extra["point_maze"] = {"maze": "medium", "policy": "navigate", "noise": 0.5, "action_repeat": 2}
    return ConfigDict({"record": block | extra[source] | fields})


def test_a_recording_shows_what_its_actions_did(tmp_path):
    output = record(options(), tmp_path / "data")
    builder = tfds.builder_from_directory(output)
    rows, columns = np.mgrid[:65, :65]
    all_positions, numbers = [], []
    for split in ("train", "test"):
        episodes = Episodes(str(output), split)
        assert episodes.spec.actions.size == 2
        assert episodes.spec.actions.high == (2.45, 2.45)
        for index, example in enumerate(builder.as_data_source(split)):
            numbers.append(int(example["episode_metadata"]["index"]))
            positions = np.stack([step["observation"]["position"] for step in example["steps"]])
            episode = episodes.read(index, 0, 16)
            assert episode["frames"].shape == (16, 65, 65, 3)
            for t in range(16):
                x, y = positions[t]
                dot = np.floor(255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 1.3**2)) + 1e-3)
                assert np.abs(episode["frames"][t, ..., 0] - dot).max() <= 1
            moved, actions = np.diff(positions, axis=0), episode["actions"]
            stays = (moved == 0).all(axis=1)
            np.testing.assert_allclose(moved[~stays], actions[:-1][~stays], atol=1e-4)
            assert not actions[-1].any()
            assert actions[:-1].any(axis=1).all()
            all_positions.append(positions)
    assert sorted(numbers) == list(range(6))
    facts = builder.info.metadata["coverage"]
    positions = np.stack(all_positions)
    assert facts["mean_step"] == pytest.approx(np.linalg.norm(np.diff(positions, axis=1), axis=-1).mean(), rel=1e-4)
    cells = [{tuple(c) for c in np.floor((p - 4) / 4).astype(int).tolist()} for p in positions]
    assert facts["cells_visited"] == pytest.approx(len(set.union(*cells)) / 196)
    assert facts["cells_visited_per_episode"] == pytest.approx(np.mean([len(c) for c in cells]) / 196)
    assert facts["cross_rate_requested"] == 0.35
    assert sum(facts["policies"].values()) == pytest.approx(1)
    assert 0 <= facts["crossing_rate"] <= 1
    again = record(options(splits={"train": 1.0}), tmp_path / "again")  # other splits, the same episodes
    same = {int(e["episode_metadata"]["index"]): e for e in tfds.builder_from_directory(again).as_data_source("train")}
    for number, wanted in zip(numbers, positions):
        found = np.stack([step["observation"]["position"] for step in same[number]["steps"]])
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("source", "fields", "message"),
    [
        ("two_rooms", {"cross_rate": 1.5}, "config.record.cross_rate=1.5 must be from 0 to 1"),
        ("two_rooms", {"wall": "left"}, "config.record.wall='left' must be 'random' or 'fixed'"),
        ("two_rooms", {"num_frames": 1}, "config.record.num_frames=1 must be at least 2"),
        ("two_rooms", {"num_episodes": 0}, "config.record.num_episodes=0 must be at least 1"),
        ("four_rooms", {"expert_share": -1.0}, "config.record.expert_share=-1.0 must be from 0 to 1"),
        ("point_maze", {"maze": "tiny"}, "config.record.maze='tiny' must be one of medium, large, giant"),
        ("point_maze", {"policy": "sleep"}, "config.record.policy='sleep' must be 'navigate' or 'stitch'"),
        ("point_maze", {"noise": -0.5}, "config.record.noise=-0.5 must be at least 0"),
        ("point_maze", {"action_repeat": 0}, "config.record.action_repeat=0 must be at least 1"),
    ],
)
def test_recordings_that_cannot_work_are_refused(source, fields, message, tmp_path):
    with pytest.raises(UserError, match=message):
        record(options(source, **fields), tmp_path / "data")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("source", ["four_rooms", "point_maze"])
def test_every_world_is_recorded(source, tmp_path):
    output = record(options(source, image_size=(32, 32)), tmp_path / "data")
    episodes = Episodes(str(output), "train")
    assert episodes.read(0, 0, 16)["frames"].shape == (16, 32, 32, 3)
    world = registry.of_record(tfds.builder_from_directory(output).info.metadata["record"])
    assert world.image_size == (32, 32)
    assert worlds.SOURCES[source].startswith("procedural")
