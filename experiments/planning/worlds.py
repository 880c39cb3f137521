"""Planning in a trained model, measured over whole episodes of a world written in JAX, and what the planning costs."""

import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import scipy.stats
from flax import nnx

from experiments.planning.evaluation import PlanningEvaluation, Reached, plan_outline, successes
from experiments.planning.gymnasium import GymnasiumPlanning
from experiments.planning.planners import make_planner, with_samples
from experiments.runs.loading import LoadedRun
from experiments.runs.metrics import finite_or_none
from experiments.runs.progress import Progress
from experiments.training.state import merge_model
from world_models.core.errors import UserError
from world_models.core.types import Array
from world_models.environments import tasks
from world_models.environments.world import Task, World
from world_models.environments.worlds import registry
from world_models.planning import costs
from world_models.planning.episodes import Episode, costs_only, run
from world_models.planning.options import PlannerLevel

BINS = 4  # of the shortest path's length, with as many tasks each
MAPS, PLACES = 20, 100  # tasks, and places of each, whose distances to the goal are compared


def make_world(run: LoadedRun) -> World:
    """The world that a run's data come from, drawn at the size of its frames.

    Raises:
      UserError: if it is none of the JAX-native ones, or not the one that its data were recorded in.
    """
    record = run.config.get("record", {})
    if record.get("source") not in registry.WORLDS:
        raise UserError(
            f"config.record.source={record.get('source')!r} is no world to plan in: it must be one of "
            f"{', '.join((*registry.WORLDS, 'gymnasium'))}."
        )
    for name in ("source", *registry.OPTIONS):
        ours, theirs = record.get(name), run.spec.record.get(name)
        if theirs is not None and ours != theirs:
            raise UserError(
                f"config.record.{name}={ours!r}, but this model's data were recorded with {theirs!r}: add "
                f"--config.record.{name}={theirs}."
            )
    return registry.of_record(record.to_dict() | {"image_size": run.spec.frame_shape[:2]})


def where(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """The world of a config in words: its name and options."""
    record = config.record
    return {"world": record.source, **{name: record[name] for name in registry.OPTIONS if name in record}}


def make_tasks(config: ml_collections.ConfigDict, world: World) -> tuple[Task, str]:
    """The tasks of `config.eval.plan`, from its file or drawn, and the SHA-256 of what they are, wherever they come from."""
    options = config.eval.plan
    try:
        if options.task_file:
            found, _ = tasks.load(pathlib.Path(options.task_file), world, where(config))
        else:
            found = tasks.make(world, options.tasks, options.task_seed, options.num_tasks)
    except UserError as error:
        raise UserError(f"config.eval.plan: {error}") from error
    return found, tasks.digest({"tasks": tasks.content(found)})


class WorldPlanning(PlanningEvaluation):
    """Tasks of a JAX-native world, a planner and what came of them; nothing runs before it is asked for."""

    LEAST = {"batch": 1, "num_steps": 0, "repeats": 1, "num_shown": 0, "task_seed": 0, "fps": 1}  # noqa: RUF012
    KIND = "world"

    def __init__(self, run: LoadedRun):
        """Checks `config.eval.plan` and `config.eval.search`."""
        super().__init__(run)
        self.world = make_world(run)
        self.tasks, self.digest = make_tasks(run.config, self.world)
        self.steps = self.options.num_steps or self.world.num_steps
        if min(self.options.pareto, default=1) <= 0:
            raise UserError(f"config.eval.plan.pareto={tuple(self.options.pareto)} must be shares above 0.")

    @functools.cached_property
    def episodes(self) -> Episode:
        """All tasks played, NumPy arrays with a leading axis [tasks]; no frames."""
        return self.play(self.settings, "planning")

    def play(self, settings: tuple[PlannerLevel, ...], text: str, repeat: int = 0) -> Episode:
        """Plays all tasks under some settings, a batch at a time; another repeat changes the planner's keys alone."""
        number, parts = len(self.tasks.start), []
        progress = Progress(number)
        for begin in range(0, number, self.options.batch):
            rows = np.arange(begin, begin + self.options.batch)
            found = self.rows(settings, np.minimum(rows, number - 1), repeat=repeat)  # one shape, one compilation
            parts.append(jax.tree.map(lambda x, keep=number - begin: np.asarray(x)[:keep], found))
            reached = np.mean(np.concatenate([part.success_any for part in parts]))
            progress.show(min(begin + len(rows), number), f"{text} | {reached:.0%} of the goals reached")
        progress.close()
        return jax.tree.map(lambda *x: np.concatenate(x), *parts)

    def rows(
        self, settings: tuple[PlannerLevel, ...], rows: np.ndarray, *, repeat: int = 0, shown: bool = False
    ) -> Episode:
        """Plays some tasks at once, with frames and what is `PlanOutline` of plan_infos if asked for."""
        task = jax.tree.map(lambda x: jnp.asarray(x)[rows], self.tasks)
        keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(self.options.seed), i))(rows)
        graphdef, weights = self.run.graphdef, self.run.weights
        return _play(graphdef, settings, self.cost_level, self.world, self.steps, shown, weights, task, keys, repeat)

    def repeats(self) -> dict[str, Any]:
        """How much success depends on the planner's luck alone: that of each of `config.eval.plan.repeats`."""
        every = [self.episodes] + [
            self.play(self.settings, f"planner seed {i}", i) for i in range(1, self.options.repeats)
        ]
        found = [float(played.success_any.mean()) for played in every]
        spread = float(np.std(found, ddof=1)) if len(found) > 1 else None
        return {"success": found, "lowest": min(found), "highest": max(found), "std": spread}

    @functools.cached_property
    def baselines(self) -> dict[str, Reached]:
        """Two policies that need no model: actions at random, and straight on as a crow flies, seeing both places."""
        keys = jax.random.split(jax.random.key(self.options.seed + 1), len(self.tasks.start))
        return {
            name: jax.tree.map(np.asarray, _play_baseline(name, self.world, self.steps, self.tasks, keys))
            for name in BASELINES
        }

    def order(self) -> list[float]:
        """Spearman's rank correlation, by level, of latent distances from start to goal with shortest paths' lengths.

        Such distances are what planners bring down. A hint only: it compares tasks of different goals, see
        `order_within_tasks`. NaN where all distances are the same, as those of a single task are.
        """
        distances = self.distances(self.tasks)
        return [float(scipy.stats.spearmanr(found, self.tasks.distance).statistic) for found in distances]

    def order_within_tasks(self) -> list[float]:
        """The same among places for one goal, which is what a planner compares: means over the first `MAPS` tasks.

        Places are starts and goals of all tasks, `PLACES` of them, without those that a task's layout has a wall at.
        """
        places = np.concatenate([self.tasks.start, self.tasks.goal])
        places = places[np.linspace(0, len(places) - 1, min(PLACES, len(places))).astype(int)]
        number = min(MAPS, len(self.tasks.start))
        every = jax.tree.map(lambda x: np.repeat(np.asarray(x)[:number], len(places), axis=0), self.tasks)
        every = every._replace(start=np.tile(places, (number, 1)))
        layouts = [self.world.Layout(*(leaf[i] for leaf in every.layout)) for i in range(len(every.start))]
        free = np.array([not self.world.blocked(*each) for each in zip(every.start, layouts)]).reshape(number, -1)
        lengths = self.world.path_length(every.start, every.goal, every.layout).reshape(free.shape)
        means = []
        for found in self.distances(every):
            rows = zip(free, found.reshape(free.shape), lengths)
            means.append(float(np.mean([scipy.stats.spearmanr(one[ok], way[ok]).statistic for ok, one, way in rows])))
        return means

    def distances(self, chosen: Task) -> list[np.ndarray]:
        """Latent distances [tasks] from starts to goals, by level, those of the cost included."""
        highest = max(len(self.settings), self.cost_level)
        latents = _ends(self.run.graphdef, highest, self.world, self.run.weights, chosen)
        return [np.asarray(costs.squared_error(start, goal)) for start, goal in latents]

    def results(self) -> dict[str, Any]:
        """The content of plan/results.json."""
        order = self.order()
        bins = by_distance(self.tasks.distance, self.episodes)
        found = {
            "episodes": len(self.tasks.start),
            **successes(self.episodes),
            **self.spent(),
            "tasks": self.options.task_file or self.options.tasks,
            "tasks_sha256": self.digest,
            "not_finite": int(np.sum(self.episodes.plan_infos[1])),
            "distance_rank_correlation": order,
            "cost_rank_correlation": order[-1],  # in the latents in which the goal's distance is measured
            "rank_correlation_within_tasks": self.order_within_tasks(),
            "by_distance": bins,
            "farthest": bins[-1],
            "bins": by_bin(self.world.BINS, self.tasks.distance, self.episodes),
            "planner_seeds": self.repeats(),
            "baselines": {name: successes(played) for name, played in self.baselines.items()},
            "pareto": self.pareto(),
        }
        return (
            found | self.timing() | {"step": self.run.step, "provenance": self.run.provenance(tasks_sha256=self.digest)}
        )

    def pareto(self) -> list[dict[str, Any]]:
        """Success and FLOPs of an episode for every number of levels and every share of the samples."""
        found = []
        for share in self.options.pareto:
            for count in range(1, len(self.settings) + 1):
                settings = tuple(with_samples(setting, share) for setting in self.settings[:count])
                played = self.play(settings, f"{count} level(s), {share:g} of the samples")
                cost = self.planning_cost(settings)
                found.append({"levels": count, "samples": share, "flops": cost.flops, **successes(played)})
        return found


def measure(run: LoadedRun) -> dict[str, Any]:
    """The content of plan/results.json."""
    return finite_or_none(make_planning(run).results())


def make_planning(run: LoadedRun) -> WorldPlanning | GymnasiumPlanning:
    """Planning where the data of a run come from."""
    return (GymnasiumPlanning if run.config.get("record", {}).get("source") == "gymnasium" else WorldPlanning)(run)


def by_distance(distance: np.ndarray, played: Any) -> list[dict[str, Any]]:
    """Success in bins of the shortest path's length, with as many episodes each, the nearest goals first."""
    order = np.argsort(distance, kind="stable")
    return [
        {
            "from": float(distance[rows].min()),
            "to": float(distance[rows].max()),
            "episodes": len(rows),
            **successes(played, rows),
        }
        for rows in np.array_split(order, min(BINS, len(order)))
    ]


def by_bin(bins: Mapping[str, tuple[float, float]], distance: np.ndarray, played: Any) -> dict[str, dict[str, Any]]:
    """Success by a world's own bins of the shortest path's length; those without a task are left out."""
    rows = {name: np.flatnonzero((low <= distance) & (distance <= high)) for name, (low, high) in bins.items()}
    return {name: {"episodes": len(at), **successes(played, at)} for name, at in rows.items() if len(at)}


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4, 5))
def _play(
    graphdef: nnx.GraphDef,
    settings: tuple[PlannerLevel, ...],
    cost_level: int,
    world: World,
    steps: int,
    shown: bool,
    weights: Any,
    task: Task,
    keys: Array,
    repeat: Array | int,
) -> Episode:
    """Episodes of tasks and keys with a leading axis, as one program."""
    model = merge_model(graphdef, *weights)
    planner = make_planner(model, settings, cost_level)
    watch = plan_outline if shown else costs_only
    encode = lambda frame, state: model.encode(frame[None, None])[0, 0]

    def one(task: Task, key: Array) -> Episode:
        world_key, planner_key = jax.random.split(key)
        planner_key = jax.random.fold_in(planner_key, repeat)
        return run(world, encode, planner, task, world_key, planner_key, watch, shown, steps)

    return jax.vmap(one)(task, keys)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _ends(graphdef: nnx.GraphDef, levels: int, world: World, weights: Any, task: Task) -> list[tuple[Array, Array]]:
    """Places of the latents [tasks, width] of the starts and of the goals of tasks, by level."""
    model = merge_model(graphdef, *weights)
    look = lambda task: model.encode(world.render(world.reset(task))[None, None])[0, 0]
    found = [tuple(jax.lax.map(look, ends, batch_size=100) for ends in (task, task._replace(start=task.goal)))]
    for level in range(2, levels + 1):
        found.append(tuple(model.lift(level, z) for z in found[-1]))
    return [tuple(model.distance_embedding(level, z) for z in ends) for level, ends in enumerate(found, start=1)]


def _straight_line(world: World, position: Array, goal: Array, key: Array) -> Array:
    """The longest action that leads towards a goal, or the rest of the way."""
    high = jnp.asarray(world.spec.high)
    way = goal - position
    return way / jnp.maximum(jnp.max(jnp.abs(way) / high), 1.0)


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
