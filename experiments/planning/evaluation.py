"""What evaluations of planning share in any world: the planner, its cost, success rates, and what is written."""

import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.planning.options import PLAN
from experiments.planning.planners import make_settings
from world_models.core.errors import ConfigError, UserError, config_error
from world_models.core.options import from_dict
from world_models.core.types import Array
from world_models.metrics.intervals import wilson_interval
from world_models.planning import planning_cost
from world_models.planning.hierarchy import PlanInfo
from world_models.planning.model import PlanningModel
from world_models.planning.options import PlannerLevel
from world_models.planning.planner import encode_frame, make_planner

if TYPE_CHECKING:
    from experiments.runs.loading import LoadedRun


class PlanOutline(NamedTuple):
    """The states of a `PlanInfo` that a video shows.

    Attributes:
      subgoals: what each level plans towards.
      ends: the last state of each level's plan.
    """

    subgoals: tuple[Any, ...]
    ends: tuple[Any, ...]


class Reached(NamedTuple):
    """Whether goals were reached at any step, and at the final step: bool [tasks]."""

    success_any: Array
    success_last: Array


def plan_outline(plan_info: PlanInfo) -> PlanOutline:
    """Subgoals and ends of the plans."""
    ends = tuple(jax.tree.map(lambda x: x[-1], plan.states) for plan in plan_info.plans)
    return PlanOutline(plan_info.subgoals, ends)


class PlanningEvaluation:
    """A run and its planner, from `config.eval.plan` and `config.eval.search`, in any world.

    Subclasses play the tasks: they set `steps`, have `episodes` and `baselines`, and define the methods that raise
    NotImplementedError here.
    """

    MINIMUM: Mapping[str, int]
    """Least values of fields of config.eval.plan."""

    KIND: str
    """Of `config.eval.plan`."""

    steps: int
    """Environment steps of an episode."""

    def __init__(self, run: "LoadedRun"):
        """Checks `config.eval.plan` and `config.eval.search` against a run whose model is a `PlanningModel`."""
        options = run.config.eval.plan
        if options.kind != self.KIND:
            source = run.config.record.source if run.config.record else None
            raise config_error("config.eval.plan.kind", options.kind, f"be {self.KIND!r} for {source!r}")
        self.run, self.options = run, from_dict(PLAN, options.to_dict(), "config.eval.plan")
        for name, least in self.MINIMUM.items():
            if getattr(self.options, name) < least:
                raise config_error(f"config.eval.plan.{name}", getattr(self.options, name), f"be at least {least}")
        self.settings = make_settings(run.config, run.model)
        self.cost_level = self.options.cost_level
        highest = len(run.model.planning_levels)
        if self.cost_level and not len(self.settings) <= self.cost_level <= highest:
            raise config_error(
                "config.eval.plan.cost_level",
                self.cost_level,
                f"be from {len(self.settings)}, the highest level that plans, to {highest}, the levels of this model, "
                "or 0 for the former",
            )
        if self.cost_level == len(self.settings):
            self.cost_level = 0  # their own, also where fewer of them plan for `pareto`
        try:
            make_planner(run.model, self.settings)
        except UserError as error:
            named = ", ".join(f"{i} is {name}" for i, name in enumerate(run.config.model.levels, start=1))
            raise ConfigError("config.eval.search", f"config.eval.search ({named}): {error}") from error

    def results(self) -> dict[str, Any]:
        """The content of plan/results.json."""
        raise NotImplementedError

    def episode_results(self) -> list[dict[str, Any]]:
        """The content of plan/episodes.json: an entry for every episode."""
        raise NotImplementedError

    def draw(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(video uint8 [time, h, w, 3], still uint8 [h, w, 3]) of the episodes of some tasks."""
        raise NotImplementedError

    def write_details(self, folder: pathlib.Path, results: dict[str, Any]) -> None:
        """Writes files that only this kind of world has."""

    def planning_cost(self, settings: tuple[PlannerLevel, ...]) -> planning_cost.PlanningCost:
        """What planning one episode costs under some settings."""
        planner = make_planner(self.run.model, settings, self.cost_level)
        return planning_cost.count(planner, self.steps, self._latent())

    def planner_results(self) -> dict[str, Any]:
        """The planner and its cost, for results.json."""
        spent = self.planning_cost(self.settings)
        return {
            "model_evaluations_per_episode": sum(spent.rows),
            "model_evaluations_by_level": list(spent.rows),
            "plans_by_level": list(spent.plans),
            "flops_per_episode": spent.flops,
            "sequential_depth": spent.depth,
            "planner": [setting.search.method for setting in self.settings],
            "levels": len(self.settings),
            "cost_level": self.cost_level or len(self.settings),
            "steps": self.steps,
            "seed": self.options.seed,
        }

    def timing(self) -> dict[str, float]:
        """Milliseconds of a step at which every level plans, for one episode, and the seconds of compiling that."""

        def act(model: PlanningModel, z: Array, goal: Array, key: Array) -> Array:
            planner = make_planner(model, self.settings, self.cost_level)
            return planner.act(planner.init(z), z, goal, 0, self.steps, key)[0]

        z = jnp.zeros(self._latent().shape)
        taken = planning_cost.measure(act, self.run.model, z, z + 1, jax.random.key(0))
        return {"ms_per_plan": taken.milliseconds, "plan_compile_seconds": taken.compile_seconds}

    def _latent(self) -> jax.ShapeDtypeStruct:
        """The shape of a latent of level 1."""
        frame = jax.ShapeDtypeStruct(self.run.spec.frame_shape, jnp.uint8)
        return jax.eval_shape(encode_frame, self.run.model, frame)


def success_rates(played: Any, rows: Any = slice(None)) -> dict[str, Any]:
    """Shares of episodes with the goal reached, each with Wilson's 95 % interval.

    Returns:
      "success", at any step, and "terminal_success", at the final step, with "success_interval" and
      "terminal_success_interval".
    """
    whenever, last = played.success_any[rows], played.success_last[rows]
    found = {}
    for name, hits in (("success", whenever), ("terminal_success", last)):
        interval = wilson_interval(int(np.sum(hits)), len(hits))
        found |= {name: interval.mean, f"{name}_interval": [interval.low, interval.high]}
    return found
