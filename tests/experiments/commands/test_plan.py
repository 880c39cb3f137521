"""Planning from the folder of a run alone: what is written, its baselines, and invalid configs."""

import dataclasses
import json

import av
import jax
import numpy as np
import pytest
from conftest import set_field
from flax import nnx

import launch
from configs import four_rooms, moving_mae, point_maze
from configs.two_rooms import get_config
from experiments.families.tokenizer.experiment import Experiment as TokenizerExperiment
from experiments.planning.evaluation import success_rates
from experiments.planning.results import measure
from experiments.planning.worlds import WorldPlanning, by_bin, by_distance, describe_world
from experiments.runs.loading import load
from experiments.runs.recording import record
from experiments.training.experiment import make_experiment
from experiments.training.loop import train
from world_models.core.errors import ConfigError, UserError
from world_models.environments import tasks
from world_models.environments.worlds.two_rooms import TwoRooms
from world_models.planning.planner import make_planner

encode = nnx.jit(lambda model, frames: model.encode(frames))


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run of the debug variant of two rooms."""
    folder, config = tmp_path_factory.mktemp("rooms"), get_config("debug")
    config.eval.every = 0
    record(config, folder / "data")
    train(config, folder)
    return folder


def test_plan_counts_shows_and_keeps_what_it_did(workdir, capsys):
    words = [
        f"--workdir={workdir}",
        "--config.eval.plan.pareto=(0.5,)",
        "--config.eval.plan.num_shown=2",
        "--config.eval.plan.repeats=2",
    ]
    assert launch.main(["launch.py", "plan", *words]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == str(workdir / "plan" / "results.json")
    results = json.loads((workdir / "plan" / "results.json").read_text())
    assert (results["episodes"], results["levels"], results["planner"]) == (3, 2, ["icem", "icem"])
    # Three steps: level 1 plans at 0 and 2, level 2 at 0; a search takes horizon x (samples x iterations + 1) rows.
    assert results["plans_by_level"] == [2, 1]
    assert results["model_evaluations_by_level"] == [2 * 2 * 9, 1 * 2 * 9]
    assert results["flops_per_episode"] > 0
    assert len(results["distance_correlation"]) == len(results["distance_correlation_within_tasks"]) == 2
    assert results["ms_per_plan"] > 0
    assert set(results["baselines"]) == {"random", "straight_line"}
    assert [(point["levels"], point["samples"]) for point in results["pareto"]] == [(1, 0.5), (2, 0.5)]
    seeds = results["planner_seeds"]
    assert seeds["success"][0] == results["success"]
    assert (len(seeds["success"]), seeds["lowest"]) == (2, min(seeds["success"]))
    assert results["pareto"][0]["flops"] < results["pareto"][1]["flops"] < results["flops_per_episode"]
    drawn, _ = tasks.load(workdir / "plan" / "tasks.json", TwoRooms((32, 32)))
    each = json.loads((workdir / "plan" / "episodes.json").read_text())
    np.testing.assert_allclose([one["goal"] for one in each], drawn.goal)
    assert np.mean([one["success"] for one in each]) == results["success"]
    with av.open(str(workdir / "plan" / "rollouts.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 4  # the start and three steps
    for name in ("rollouts", "success_by_distance", "pareto"):
        assert (workdir / "plan" / f"{name}.png").stat().st_size > 2000
    # The same tasks from the file, and the same seeds: the same episodes.
    config = load(workdir).config
    config.eval.plan.task_file = str(workdir / "plan" / "tasks.json")
    again = WorldPlanning(load(workdir, config=config))
    assert again.digest == results["tasks_sha256"]
    np.testing.assert_array_equal(again.episodes.positions[:, -1], [one["end"] for one in each])


def test_the_straight_line_baseline_solves_tasks_without_a_wall_between(workdir):
    config = load(workdir).config
    config.eval.plan.update({"num_tasks": 40, "num_steps": 60})
    planning = WorldPlanning(load(workdir, config=config))
    drawn, layout = planning.tasks, planning.tasks.layout
    along = (layout.wall_x - drawn.start[:, 0]) / (drawn.goal[:, 0] - drawn.start[:, 0])
    height = drawn.start[:, 1] + along * (drawn.goal[:, 1] - drawn.start[:, 1])
    gap = np.abs(height - layout.door_y)
    reached = planning.baselines["straight_line"].success_any
    assert reached[gap < 2.5].all()
    assert reached[gap > 8].mean() < 0.2  # noise lets some slide along the wall into the door
    assert (gap < 2.5).any()
    assert (gap > 8).any()


def test_a_level_that_does_not_plan_can_give_its_cost_alone(workdir):
    config = load(workdir).config
    config.eval.plan.update({"num_levels": 1, "cost_level": 2, "num_tasks": 20})
    planning = WorldPlanning(load(workdir, config=config))
    model, world, chosen = planning.run.model, planning.world, planning.tasks
    planner = make_planner(model, planning.settings, 2)
    looks = [np.stack([world.render(world.reset(one)) for one in each(ends)]) for ends in (chosen, swapped(chosen))]
    start, goal = (encode(model, frames[:, None])[:, 0] for frames in looks)
    above = [np.asarray(model.lift(2, z)) for z in (start, goal)]
    expected = ((above[0] - above[1][0]) ** 2).mean(axis=-1)
    np.testing.assert_allclose(planner.to_goal(start, goal[0]), expected, rtol=1e-5)
    # How well distances are ordered is told by the same latents.
    ranks = lambda x: np.argsort(np.argsort(np.asarray(x)))
    found = [((one - other) ** 2).mean(axis=-1) for one, other in ((start, goal), above)]
    expected = [np.corrcoef(ranks(distances), ranks(chosen.distance))[0, 1] for distances in found]
    np.testing.assert_allclose(planning.distance_correlation(), expected, atol=1e-6)


def test_planners_measure_on_the_map_of_a_level_that_has_one(workdir):
    run = load(workdir)
    with run.config.unlocked():
        run.config.model.level.upper.update({"distance": 1.0, "max_distance": 8.0})
    experiment = make_experiment(run.config, run.spec)
    model = nnx.jit(lambda: experiment.init(nnx.Rngs(1)))()
    run = dataclasses.replace(run, experiment=experiment, model=model)
    planning, model = WorldPlanning(run), run.model
    z = jax.random.normal(jax.random.key(0), (5, model.options.levels[1].width))
    planner = make_planner(model, planning.settings)
    expected = ((model.distance_embedding(2, z) - model.distance_embedding(2, z[0])) ** 2).mean(axis=-1)
    np.testing.assert_allclose(planner.to_goal(z, z[0]), expected, rtol=1e-5)
    np.testing.assert_allclose(planner.levels[1].distance(z, z[0]), expected, rtol=1e-5)
    assert not np.allclose(expected, ((z - z[0]) ** 2).mean(axis=-1))
    # Level 1 has no map: latents themselves.
    np.testing.assert_allclose(planner.levels[0].distance(z, z[0]), ((z - z[0]) ** 2).mean(axis=-1), rtol=1e-5)
    # So do distances that are compared with ways.
    looks = [planning.world.render(planning.world.reset(one)) for one in each(planning.tasks)]
    other = [planning.world.render(planning.world.reset(one)) for one in each(swapped(planning.tasks))]
    start, goal = (
        model.distance_embedding(2, model.lift(2, encode(model, np.stack(x)[:, None])[:, 0])) for x in (looks, other)
    )
    np.testing.assert_allclose(planning.distances(planning.tasks)[1], ((start - goal) ** 2).mean(axis=-1), rtol=1e-4)


def test_latent_distances_are_compared_among_places_of_one_task(workdir):
    class Ideal(WorldPlanning):
        """Latent distances at level 1 grow with the way, those of level 2 shrink with it."""

        def distances(self, chosen):
            asked.append(chosen)
            way = self.world.path_length(chosen.start, chosen.goal, chosen.layout)
            return [way**2, -way]

    asked, config = [], load(workdir).config
    config.eval.plan.num_tasks = 30
    planning = Ideal(load(workdir, config=config))
    np.testing.assert_allclose(planning.distance_correlation_within_tasks(), [1, -1])
    (chosen,) = asked
    assert len(chosen.start) == 20 * 60
    for leaf, goal in ((chosen.goal, planning.tasks.goal), (chosen.layout.wall_x, planning.tasks.layout.wall_x)):
        np.testing.assert_array_equal(leaf.reshape(20, 60, *leaf.shape[1:])[:, 0], goal[:20])
    assert len(np.unique(chosen.start, axis=0)) == 60


def test_a_level_below_another_looks_no_further_than_its_tick(workdir):
    config = load(workdir).config
    config.eval.search.bottom.horizon, config.eval.search.upper.horizon = 9, 5
    planning = WorldPlanning(load(workdir, config=config))
    searches = lambda count: [
        level.search.horizon for level in make_planner(planning.run.model, planning.settings[:count]).levels
    ]
    assert (searches(1), searches(2)) == ([9], [2, 5])


def each(chosen):
    """Tasks one by one."""
    return [jax.tree.map(lambda x, i=i: x[i], chosen) for i in range(len(chosen.start))]


def swapped(chosen):
    """Tasks that start at the goal."""
    return chosen._replace(start=chosen.goal)


def test_success_is_counted_with_intervals_and_by_distance():
    class Played:
        success_any = np.array([True, True, True, False, False])
        success_last = np.array([True, False, False, False, False])

    found = success_rates(Played)
    assert (found["success"], found["terminal_success"]) == (0.6, 0.2)
    assert found["success_interval"][0] == pytest.approx(0.2307, abs=1e-3)  # Wilson, worked out by hand
    bins = by_distance(np.array([1.0, 2, 3, 9, 8]), Played)
    assert [one["episodes"] for one in bins] == [2, 1, 1, 1]
    assert [one["success"] for one in bins] == [1, 1, 0, 0]
    assert bins[-1]["from"] == bins[-1]["to"] == 9
    named = by_bin({"near": (1, 2), "far": (3, 8), "none": (10, 20)}, np.array([1.0, 2, 3, 9, 8]), Played)
    assert {name: (one["episodes"], one["success"]) for name, one in named.items()} == {"near": (2, 1), "far": (2, 0.5)}


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("eval.plan.num_levels", 3, "eval.plan.num_levels"),
        ("eval.plan.cost_level", 1, "eval.plan.cost_level"),
        ("eval.plan.num_tasks", 0, "eval.plan"),
        ("eval.plan.batch", 0, "eval.plan.batch"),
        ("eval.plan.repeats", 0, "eval.plan.repeats"),
        ("eval.plan.num_shown", -1, "eval.plan.num_shown"),
        ("eval.plan.repeat", 2, "eval.plan.repeat"),
        ("eval.plan.fps", 0, "eval.plan.fps"),
        ("eval.plan.task_seed", -1, "eval.plan.task_seed"),
        ("eval.plan.pareto", (1.0, 0.0), "eval.plan.pareto"),
        ("eval.plan.tasks", "cross_2", "eval.plan"),
        ("eval.plan.task_file", "nowhere.json", "eval.plan.task_file"),
        ("eval.search.bottom.samples", 0, "eval.search.bottom"),
        ("eval.search.bottom.iterations", 0, "eval.search.bottom"),
        ("eval.search.upper.replan", 3, "eval.search"),
        ("eval.search.bottom.cost_space", "own", "eval.search.bottom.cost_space"),
        ("eval.search.upper.smaples", 3, "eval.search.upper.smaples"),
    ],
)
def test_invalid_plans_raise_an_error_with_the_field(workdir, field, value, named):
    config = load(workdir).config
    config.unlock()
    set_field(config, field, value)
    with pytest.raises(ConfigError) as caught:
        WorldPlanning(load(workdir, config=config))
    assert caught.value.field == f"config.{named}"
    assert field.split(".")[-1] in str(caught.value)


def test_a_recording_that_is_no_world_is_not_planned_in(workdir):
    config = load(workdir).config
    config.record = moving_mae.get_config("debug").record
    with pytest.raises(ConfigError, match="moving_digits") as caught:
        WorldPlanning(load(workdir, config=config))
    assert caught.value.field == "config.record.source"


def test_a_family_that_is_not_planned_in_says_what_it_offers():
    with pytest.raises(UserError, match=r"'plan' does not work with config.experiment=.*tokenizer.*eval, imagine"):
        TokenizerExperiment.capability("plan")


def test_four_levels_plan_in_four_rooms_trained_one_after_the_other(tmp_path):
    config = four_rooms.get_config("debug")
    config.record.num_frames, config.data.clip_length = 40, 32
    config.eval.every = 0
    config.eval.plan.update({"num_tasks": 2, "num_steps": 17})
    record(config, tmp_path / "data")
    config.data.dataset = str(tmp_path / "data")
    levels, found = ("bottom", "middle", "top", "fourth"), []
    for count in (1, 2, 4):
        config.model.levels = levels[:count]
        train(config, tmp_path / str(count))
        run = load(tmp_path / str(count))
        frames = np.random.default_rng(0).integers(0, 255, (1, 32, *run.spec.frame_shape), np.uint8)
        latents = run.model.climb(encode(run.model, frames), np.ones((1, 32, 2), np.float32))
        jax.tree.map(np.testing.assert_array_equal, latents[: len(found)], found)  # lower levels are as they were
        found = latents
        config.init_from.checkpoints = str(tmp_path / str(count) / "checkpoints")
        config.model.encoder.frozen = True
        for name in config.model.levels:
            config.model.level[name].weight = 0.0
    assert run.model.levels[0].seen[...] > 0  # actions, with which planners begin
    results = measure(run)
    assert (results["levels"], len(results["distance_correlation"])) == (4, 4)
    assert results["plans_by_level"] == [9, 5, 3, 2]  # in seventeen steps, every 2, 4, 8 and 16


def test_mazes_are_planned_in_where_their_data_are_from(tmp_path):
    config = point_maze.get_config("debug")
    config.record.update({"maze": "large", "image_size": (40, 48)})
    config.eval.every = 0
    config.eval.plan.update({"tasks": "cells_5_16", "num_steps": 2})
    record(config, tmp_path / "data")
    train(config, tmp_path)
    results = measure(load(tmp_path))
    assert {name: found["episodes"] for name, found in results["bins"].items()} == {
        "cells_5_8": 1,
        "cells_9_12": 1,
        "cells_13_16": 1,
    }
    config.record.maze = "giant"
    with pytest.raises(UserError, match=r"maze='giant', but .* recorded with 'large': add --config.record.maze=large"):
        WorldPlanning(load(tmp_path, config=config))
    config.record.maze = "large"
    drawn = WorldPlanning(load(tmp_path, config=config))
    tasks.save(tmp_path / "tasks.json", drawn.tasks, **describe_world(config))
    config.eval.plan.task_file = str(tmp_path / "tasks.json")
    assert WorldPlanning(load(tmp_path, config=config)).digest == drawn.digest
    tasks.save(tmp_path / "tasks.json", drawn.tasks, **{**describe_world(config), "maze": "medium"})
    with pytest.raises(UserError, match=r"config.eval.plan.task_file: .*holds tasks of maze='medium', not of 'large'"):
        WorldPlanning(load(tmp_path, config=config))
