"""Planning in a trained model, measured over whole episodes of a world written in JAX."""

import functools
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import scipy.stats

from experiments.planning.evaluation import PlanningEvaluation, Reached, plan_outline, success_rates
from experiments.reports import plan_pictures
from experiments.runs.progress import Progress
from world_models.core.errors import ConfigError, UserError, config_error
from world_models.core.types import Array
from world_models.environments import tasks
from world_models.environments.world import Task, World
from world_models.environments.worlds import registry
from world_models.planning import costs
from world_models.planning.episodes import Episode, costs_only, run
from world_models.planning.model import PlanningModel
from world_models.planning.options import PlannerLevel
from world_models.planning.planner import encode_frame, make_planner, with_samples

if TYPE_CHECKING:
    from experiments.runs.loading import LoadedRun

BINS = 4  # of the shortest path's length, with as many tasks each
COMPARED_TASKS, COMPARED_POSITIONS = 20, 100  # of `distance_correlation_within_tasks`


def make_world(run: "LoadedRun") -> World:
    """The world that a run's data come from, drawn at the size of its frames.

    Raises:
      ConfigError: if it is none of the JAX-native ones, or not the one that its data were recorded in.
    """
    record = run.config.get("record") or {}
    if record.get("source") not in registry.WORLDS:
        valid = f"be a world to plan in: one of {', '.join((*registry.WORLDS, 'gymnasium'))}"
        raise config_error("config.record.source", record.get("source"), valid)
    for name in ("source", *registry.OPTIONS):
        ours, theirs = record.get(name), run.spec.record.get(name)
        if theirs is not None and ours != theirs:
            raise ConfigError(
                f"config.record.{name}",
                f"config.record.{name}={ours!r}, but this model's data were recorded with {theirs!r}: add "
                f"--config.record.{name}={theirs}.",
            )
    return registry.of_record(record.to_dict() | {"image_size": run.spec.frame_shape[:2]})


def describe_world(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Name and options of the world of a config."""
    record = config.record
    return {"world": record.source, **{name: record[name] for name in registry.OPTIONS if name in record}}


def make_tasks(config: ml_collections.ConfigDict, world: World) -> tuple[Task, str]:
    """The tasks of `config.eval.plan`, from its file or drawn, and the SHA-256 of their content."""
    options = config.eval.plan
    try:
        if options.task_file:
            found, _ = tasks.load(pathlib.Path(options.task_file), world, describe_world(config))
        else:
            found = tasks.make(world, options.tasks, options.task_seed, options.num_tasks)
    except UserError as error:
        field = "config.eval.plan.task_file" if options.task_file else "config.eval.plan"
        raise ConfigError(field, f"{field}: {error}") from error
    return found, tasks.digest({"tasks": tasks.content(found)})


class WorldPlanning(PlanningEvaluation):
    """Planning in a world written in JAX; nothing is played before it is needed."""

    MINIMUM = {"batch": 1, "num_steps": 0, "repeats": 1, "num_shown": 0, "task_seed": 0, "fps": 1}  # noqa: RUF012
    KIND = "world"

    def __init__(self, run: "LoadedRun"):
        """Checks `config.eval.plan` and `config.eval.search`."""
        super().__init__(run)
        self.world = make_world(run)
        self.tasks, self.digest = make_tasks(run.config, self.world)
        self.steps = self.options.num_steps or self.world.num_steps
        if min(self.options.pareto, default=1) <= 0:
            raise config_error("config.eval.plan.pareto", tuple(self.options.pareto), "be shares above 0")

    @functools.cached_property
    def episodes(self) -> Episode:
        """All tasks played, NumPy arrays with a leading axis [tasks]; no frames."""
        return self.play(self.settings, "planning")

    def play(self, settings: tuple[PlannerLevel, ...], text: str, repeat: int = 0) -> Episode:
        """Plays all tasks under some settings, a batch at a time; another repeat changes the planner's keys alone."""
        number, parts = len(self.tasks.start), []
        progress = Progress(number, unit="episode")
        for begin in range(0, number, self.options.batch):
            rows = np.arange(begin, begin + self.options.batch)
            found = self.rows(settings, np.minimum(rows, number - 1), repeat=repeat)  # one shape, one compilation
            parts.append(jax.tree.map(lambda x, keep=number - begin: np.asarray(x)[:keep], found))
            reached = np.mean(np.concatenate([part.success_any for part in parts]))
            progress.show(min(begin + len(rows), number), f"{text} | success rate {reached:.0%}")
        progress.close()
        return jax.tree.map(lambda *x: np.concatenate(x), *parts)

    def rows(
        self, settings: tuple[PlannerLevel, ...], rows: np.ndarray, *, repeat: int = 0, shown: bool = False
    ) -> Episode:
        """Plays some tasks at once; with frames and a `PlanOutline` of each step if `shown`."""
        task = jax.tree.map(lambda x: jnp.asarray(x)[rows], self.tasks)
        keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(self.options.seed), i))(rows)
        fixed = (settings, self.cost_level, self.world, self.steps, shown)
        return _play(self.run.model, *fixed, task, keys, repeat)

    def planner_seeds(self) -> dict[str, Any]:
        """Success rates under `config.eval.plan.repeats` seeds of the planner alone, and their spread."""
        every = [self.episodes] + [
            self.play(self.settings, f"planner seed {i}", i) for i in range(1, self.options.repeats)
        ]
        found = [float(played.success_any.mean()) for played in every]
        spread = float(np.std(found, ddof=1)) if len(found) > 1 else None
        return {"success": found, "lowest": min(found), "highest": max(found), "std": spread}

    @functools.cached_property
    def baselines(self) -> dict[str, Reached]:
        """Policies that need no model: random actions, and a straight line to the goal's position."""
        keys = jax.random.split(jax.random.key(self.options.seed + 1), len(self.tasks.start))
        return {
            name: jax.tree.map(np.asarray, _play_baseline(name, self.world, self.steps, self.tasks, keys))
            for name in BASELINES
        }

    def distance_correlation(self) -> list[float]:
        """Spearman correlation, by level, of latent distances from start to goal with the shortest paths' lengths.

        Over all tasks, and so of different goals, which no planner compares: see `distance_correlation_within_tasks`.
        NaN where all distances are the same, as that of a single task is.
        """
        return [_spearman(found, self.tasks.distance) for found in self.distances(self.tasks)]

    def distance_correlation_within_tasks(self) -> list[float]:
        """The same over positions for one goal, which is what a planner compares: means over some of the tasks.

        The positions are starts and goals of all tasks without those that are blocked in the task's layout.
        """
        positions = np.concatenate([self.tasks.start, self.tasks.goal])
        count = min(COMPARED_POSITIONS, len(positions))
        positions = positions[np.linspace(0, len(positions) - 1, count).astype(int)]
        number = min(COMPARED_TASKS, len(self.tasks.start))
        every = jax.tree.map(lambda x: np.repeat(np.asarray(x)[:number], len(positions), axis=0), self.tasks)
        every = every._replace(start=np.tile(positions, (number, 1)))
        layouts = [self.world.Layout(*(leaf[i] for leaf in every.layout)) for i in range(len(every.start))]
        free = np.array([not self.world.blocked(*each) for each in zip(every.start, layouts)]).reshape(number, -1)
        lengths = self.world.path_length(every.start, every.goal, every.layout).reshape(free.shape)
        means = []
        for found in self.distances(every):
            rows = zip(free, found.reshape(free.shape), lengths)
            means.append(float(np.mean([_spearman(distance[ok], length[ok]) for ok, distance, length in rows])))
        return means

    def distances(self, chosen: Task) -> list[np.ndarray]:
        """Latent distances [tasks] from starts to goals, by level, up to that of the cost."""
        highest = max(len(self.settings), self.cost_level)
        latents = _embedded_ends(self.run.model, highest, self.world, chosen)
        return [np.asarray(costs.squared_error(start, goal)) for start, goal in latents]

    def results(self) -> dict[str, Any]:
        """The content of plan/results.json."""
        correlation = self.distance_correlation()
        bins = by_distance(self.tasks.distance, self.episodes)
        found = {
            "episodes": len(self.tasks.start),
            **success_rates(self.episodes),
            **self.planner_results(),
            "tasks": self.options.task_file or self.options.tasks,
            "tasks_sha256": self.digest,
            "not_finite": int(np.sum(self.episodes.plan_infos[1])),
            "distance_correlation": correlation,
            "cost_rank_correlation": correlation[-1],  # in the latents in which the goal's distance is measured
            "distance_correlation_within_tasks": self.distance_correlation_within_tasks(),
            "by_distance": bins,
            "farthest": bins[-1],
            "bins": by_bin(self.world.BINS, self.tasks.distance, self.episodes),
            "planner_seeds": self.planner_seeds(),
            "baselines": {name: success_rates(played) for name, played in self.baselines.items()},
            "pareto": self.pareto(),
        }
        return (
            found | self.timing() | {"step": self.run.step, "provenance": self.run.provenance(tasks_sha256=self.digest)}
        )

    def episode_results(self) -> list[dict[str, Any]]:
        """Every episode: its task, where it ended and whether the goal was reached."""
        played, found = self.episodes, []
        steps = np.where(played.success_any, np.argmax(played.reached, axis=1), -1)
        for i, goal in enumerate(self.tasks.goal):
            layout = jax.tree.map(lambda x, i=i: np.asarray(x)[i], self.tasks.layout)
            found.append(
                {
                    "start": self.tasks.start[i],
                    "goal": goal,
                    "layout": layout._asdict(),
                    "distance": float(self.tasks.distance[i]),
                    "end": played.positions[i, -1],
                    "success": bool(played.success_any[i]),
                    "terminal_success": bool(played.success_last[i]),
                    "steps": int(steps[i]),  # until the goal was first reached; -1 if it was not
                }
            )
        return found

    def draw(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(video uint8 [time, h, w, 3], still uint8 [h, w, 3]) of the episodes of some tasks."""
        return plan_pictures.rollouts(self, rows)

    def write_details(self, folder: pathlib.Path, results: dict[str, Any]) -> None:
        """Writes the tasks as a file, and plots of success over distance and over FLOPs."""
        tasks.save(folder / "tasks.json", self.tasks, **describe_world(self.run.config), name=results["tasks"])
        plan_pictures.plot_distance(folder / "success_by_distance.png", results["by_distance"])
        if results["pareto"]:
            plan_pictures.plot_pareto(folder / "pareto.png", results["pareto"])

    def pareto(self) -> list[dict[str, Any]]:
        """Success and FLOPs of an episode for every number of levels and every share of the samples."""
        found = []
        for share in self.options.pareto:
            for count in range(1, len(self.settings) + 1):
                settings = tuple(with_samples(setting, share) for setting in self.settings[:count])
                played = self.play(settings, f"{count} level(s), {share:g} of the samples")
                cost = self.planning_cost(settings)
                found.append({"levels": count, "samples": share, "flops": cost.flops, **success_rates(played)})
        return found


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    return float(scipy.stats.spearmanr(a, b).statistic)


def by_distance(distance: np.ndarray, played: Any) -> list[dict[str, Any]]:
    """Success in bins of the shortest path's length, with as many episodes each, the nearest goals first."""
    order = np.argsort(distance, kind="stable")
    return [
        {
            "from": float(distance[rows].min()),
            "to": float(distance[rows].max()),
            "episodes": len(rows),
            **success_rates(played, rows),
        }
        for rows in np.array_split(order, min(BINS, len(order)))
    ]


def by_bin(bins: Mapping[str, tuple[float, float]], distance: np.ndarray, played: Any) -> dict[str, dict[str, Any]]:
    """Success by a world's own bins of the shortest path's length; those without a task are left out."""
    rows = {name: np.flatnonzero((low <= distance) & (distance <= high)) for name, (low, high) in bins.items()}
    return {name: {"episodes": len(at), **success_rates(played, at)} for name, at in rows.items() if len(at)}


@functools.partial(jax.jit, static_argnames=("settings", "cost_level", "world", "steps", "shown"))
def _play(
    model: PlanningModel,
    settings: tuple[PlannerLevel, ...],
    cost_level: int,
    world: World,
    steps: int,
    shown: bool,
    task: Task,
    keys: Array,
    repeat: Array | int,
) -> Episode:
    """Episodes of tasks and keys with a leading axis, as one program."""
    planner = make_planner(model, settings, cost_level)
    watch = plan_outline if shown else costs_only
    encode = lambda frame, state: encode_frame(model, frame)

    def one(task: Task, key: Array) -> Episode:
        world_key, planner_key = jax.random.split(key)
        planner_key = jax.random.fold_in(planner_key, repeat)
        return run(world, encode, planner, task, world_key, planner_key, watch, shown, steps)

    return jax.vmap(one)(task, keys)


@functools.partial(jax.jit, static_argnames=("levels", "world"))
def _embedded_ends(model: PlanningModel, levels: int, world: World, task: Task) -> list[tuple[Array, Array]]:
    """Distance embeddings [tasks, width] of the starts and of the goals of tasks, by level."""
    encode = lambda task: encode_frame(model, world.render(world.reset(task)))
    found = [tuple(jax.lax.map(encode, ends, batch_size=100) for ends in (task, task._replace(start=task.goal)))]
    for level in range(2, levels + 1):
        found.append(tuple(model.lift(level, z) for z in found[-1]))
    return [tuple(model.distance_embedding(level, z) for z in ends) for level, ends in enumerate(found, start=1)]


def _straight_line(world: World, position: Array, goal: Array, key: Array) -> Array:
    """The longest action in the direction of the goal, or shorter if it would pass it."""
    line = goal - position
    bound = jnp.where(line > 0, jnp.asarray(world.spec.high), jnp.asarray(world.spec.low))
    return line / jnp.maximum(jnp.max(line / bound), 1.0)


def _random(world: World, position: Array, goal: Array, key: Array) -> Array:
    low, high = jnp.asarray(world.spec.low), jnp.asarray(world.spec.high)
    return jax.random.uniform(key, low.shape, minval=low, maxval=high)


BASELINES = {"random": _random, "straight_line": _straight_line}


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _play_baseline(name: str, world: World, steps: int, task: Task, keys: Array) -> Reached:
    """Episodes of a policy that needs no model."""

    def one(task: Task, key: Array) -> Reached:
        def step(state, i):
            for_policy, for_world = jax.random.split(jax.random.fold_in(key, i))
            action = BASELINES[name](world, world.position(state), task.goal, for_policy)
            state = world.step(state, action, for_world)
            return state, world.reached(state, task.goal)

        start = world.reset(task)
        _, after = jax.lax.scan(step, start, jnp.arange(steps))
        reached = jnp.concatenate([world.reached(start, task.goal)[None], after])
        return Reached(jnp.any(reached), reached[-1])

    return jax.vmap(one)(task, keys)
