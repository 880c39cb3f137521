"""Planning in a Gymnasium environment from the folder of a run alone: its tasks, its numbers and what is refused."""

import dataclasses
import json

import av
import numpy as np
import pytest
import toy_environment

import launch
from configs.push_t import get_config
from experiments.planning.gymnasium import GymnasiumPlanning
from experiments.planning.results import make_planning
from experiments.runs import loading
from experiments.runs.recording import make_source, record
from experiments.training.loop import train
from world_models.core.errors import ConfigError, UserError
from world_models.environments.replay import ReplayedTask, draw

TRUST = ["--trust=toy_environment"]


def load(workdir, **options):
    """A run whose config names functions of this test."""
    return loading.load(workdir, trusted=["toy_environment"], **options)


def dots(**kwargs):
    """The debug config of PushT, of dots instead."""
    config = get_config("debug")
    config.record.environment_kwargs = kwargs
    config.record.update(
        {
            "environment": "Dot-v0",
            "modules": ("toy_environment",),
            "image_size": (16, 16),
            "policy": "random",
            "num_workers": 1,
        }
    )
    config.eval.plan.update({"reached": "toy_environment:near", "num_tasks": 4})
    config.eval.every = 0
    return config


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run on dots."""
    folder, config = tmp_path_factory.mktemp("dots"), dots()
    record(config, folder / "data")
    train(config, folder)
    return folder


def changed(workdir, **options):
    """The planning of a run under other options of `config.eval.plan`."""
    config = load(workdir).config
    config.eval.plan.update(options)
    return make_planning(load(workdir, config=config))


def test_plan_counts_shows_and_keeps_what_it_did(workdir, capsys):
    assert launch.main(["launch.py", "plan", f"--workdir={workdir}", "--config.eval.plan.num_steps=5", *TRUST]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == str(workdir / "plan" / "results.json")
    assert "random baseline" in out
    results = json.loads((workdir / "plan" / "results.json").read_text())
    assert (results["episodes"], results["offset"], results["steps"], results["levels"]) == (4, 5, 5, 2)
    # Five steps: level 1 plans at 0, 2 and 4, level 2 at 0 and 4; a search takes horizon x (samples x iterations + 1).
    assert results["plans_by_level"] == [3, 2]
    assert results["model_evaluations_by_level"] == [3 * 2 * 9, 2 * 2 * 9]
    assert results["flops_per_episode"] > 0
    assert results["ms_per_plan"] > 0
    each = json.loads((workdir / "plan" / "episodes.json").read_text())
    assert np.mean([one["success"] for one in each]) == results["success"]
    assert all(0 <= one["first_step"] <= 14 for one in each)
    with av.open(str(workdir / "plan" / "rollouts.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 6  # the start and five steps
    assert (workdir / "plan" / "rollouts.png").stat().st_size > 2000


def test_tasks_are_of_episodes_that_were_not_recorded_and_the_policy_solves_them(workdir):
    planning = changed(workdir)
    source, recorded = planning.source, load(workdir).config.record.num_episodes
    assert [task.unit for task in planning.tasks] == sorted({task.unit for task in planning.tasks})
    assert min(task.unit for task in planning.tasks) >= recorded
    assert planning.tasks[-1].unit - recorded + 1 == len(planning.tasks) + planning.left_out
    environment = source.make()
    for task in planning.tasks:
        # What the policy did in that episode, by the recorder itself: it came from the start to the goal.
        [episode] = source.episodes(task.unit)
        first = len(task.actions)
        np.testing.assert_array_equal(np.reshape(task.actions, (first, 2)), episode.actions[:first])
        world = ReplayedTask(source, environment, task, toy_environment.near)
        observed, _ = world.reset()
        np.testing.assert_array_equal(observed, task.start.observed)
        assert not toy_environment.near(observed, task.goal.observed)
        for action in episode.actions[first : first + 5]:
            observed, _, _, _, info = world.step(action)
            assert info["place"] == pytest.approx(observed)
        np.testing.assert_array_equal(observed, task.goal.observed)
        np.testing.assert_array_equal(world.frame(observed), task.goal.frame)
        assert info["reached"]


def test_episodes_begin_at_their_tasks_and_depend_on_seeds_alone(workdir):
    planning = changed(workdir, num_steps=4)
    for task, played in zip(planning.tasks, planning.episodes):
        np.testing.assert_array_equal(played.frames[0], task.start.frame)
        assert len(played.actions) == 4
        expected = task.start.observed
        for action in played.actions:
            expected = np.clip(expected + 0.2 * np.clip(action, -1, 1), 0, 4)
        np.testing.assert_allclose(played.infos[-1]["place"], expected, atol=1e-5)
    other = changed(workdir, num_steps=4, seed=1)
    assert other.digest == planning.digest
    assert any((a.actions != b.actions).any() for a, b in zip(planning.episodes, other.episodes))
    assert changed(workdir, task_seed=1).digest != planning.digest


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"offset": 0}, "config.eval.plan.offset=0 must be at least 1"),
        ({"offset": 20}, "config.eval.plan: offset=20 must be from 1 to 19, the steps of an episode"),
        (
            {"reached": "toy_environment:far"},
            "config.eval.plan.reached='toy_environment:far' must be a 'package.module",
        ),
        ({"reached": "toy_environment:never"}, r"config.eval.plan: reached\(goal, goal\)"),
        ({"cost_level": 3}, "config.eval.plan.cost_level=3 must be from 2"),
    ],
)
def test_plans_that_cannot_work_are_refused(workdir, options, message):
    with pytest.raises(UserError, match=message):
        changed(workdir, **options)


def test_tasks_come_from_what_the_data_were_recorded_with_whatever_the_config_says(workdir):
    config, expected = load(workdir).config, changed(workdir)
    config.record.update({"action_repeat": 2, "num_episodes": 1, "policy": "sticky", "seed": 5})
    found = GymnasiumPlanning(load(workdir, config=config))
    assert found.digest == expected.digest
    assert [task.unit for task in found.tasks] == [task.unit for task in expected.tasks]
    np.testing.assert_array_equal(found.tasks[0].goal.frame, expected.tasks[0].goal.frame)
    run = load(workdir, config=config)
    run.spec.record["source"] = "two_rooms"
    with pytest.raises(UserError, match=r"source='gymnasium', but this model's data were recorded from 'two_rooms'"):
        GymnasiumPlanning(run)
    run = load(workdir, config=config)
    run.spec.record["environment_kwargs"] = {"buttons": True}
    with pytest.raises(UserError, match=r"Dot-v0 has actions of space MultiBinary\(2\); planners here search"):
        GymnasiumPlanning(run)
    with config.unlocked():
        config.eval.plan.ofset = 5
    with pytest.raises(ConfigError, match="did you mean 'offset'") as caught:
        GymnasiumPlanning(load(workdir, config=config))
    assert caught.value.field == "config.eval.plan.ofset"


def test_frames_are_those_that_the_model_was_trained_on(workdir):
    run = load(workdir)
    assert run.spec.frame_shape == (16, 16, 3)
    smaller = dataclasses.replace(run, spec=dataclasses.replace(run.spec, frame_shape=(8, 8, 3)))
    assert GymnasiumPlanning(smaller).tasks[0].goal.frame.shape == (8, 8, 3)  # config.data.image_size


@pytest.mark.parametrize("kwargs", [{"forgetful": True}, {"noise": 1e-3}])
def test_an_environment_that_does_not_repeat_itself_is_named(kwargs):
    source = make_source(dots(**kwargs).record)
    [task], _ = draw(source, toy_environment.near, 1, 5, 5, 1)
    assert task.actions
    with pytest.raises(UserError, match=r"episode \d+ of Dot-v0 \(seed \d+\) is not deterministic"):
        ReplayedTask(source, source.make(), task, toy_environment.near).reset()


def test_worlds_that_draw_from_numpys_global_generator_repeat_themselves():
    source = make_source(dots(shared=True).record)
    tasks, _ = draw(source, toy_environment.near, 3, 5, 5, 1)
    for task in reversed(tasks):
        ReplayedTask(source, source.make(), task, toy_environment.near).reset()
    assert len({tuple(task.start.observed) for task in tasks}) == 3


def test_episodes_that_are_too_short_or_begin_at_their_goal_give_no_task():
    source = make_source(dots(length=9).record)
    tasks, left_out = draw(source, toy_environment.near, 5, 8, 8, 0)
    assert all(len(task.actions) <= 1 for task in tasks)  # 20 steps were asked for; 9 is all there are
    assert left_out > 0
    with pytest.raises(UserError, match="only 0 of 40 episodes last long enough"):
        draw(source, toy_environment.near, 2, 12, 8, 0)
    with pytest.raises(UserError, match="only 0 of 40 episodes"):
        draw(source, lambda observed, goal: True, 2, 5, 5, 0)


def test_the_time_that_an_environment_gives_is_left_for_an_attempt():
    config = dots(max_episode_steps=30)
    config.record.max_episode_steps = 31
    tasks, _ = draw(make_source(config.record), toy_environment.near, 20, 5, 20, 0)
    assert max(len(task.actions) for task in tasks) == 10
    with pytest.raises(UserError, match=r"num_steps=31: Dot-v0 ends each episode after 30 of its steps"):
        draw(make_source(config.record), toy_environment.near, 1, 5, 31, 0)
