"""What planning needs and tells in any world: a run, how its levels plan, what that costs and how often it succeeds."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.planning.options import PLAN
from experiments.planning.planners import make_planner, make_settings
from experiments.runs.loading import LoadedRun
from world_models.core.errors import UserError, config_error
from world_models.core.options import from_dict
from world_models.core.types import Array
from world_models.metrics.intervals import wilson_interval
from world_models.models.latent_dynamics.model import MultiLevelDynamics
from world_models.planning import planning_cost
from world_models.planning.hierarchy import PlanInfo
from world_models.planning.options import PlannerLevel


class PlanOutline(NamedTuple):
    """What a video shows of a step's plan_info: states to be decoded, and of which level each is.

    Attributes:
      subgoals: what each level plans towards.
      ends: the last state of each level's plan.
    """

    subgoals: tuple[Any, ...]
    ends: tuple[Any, ...]


class Reached(NamedTuple):
    """Whether a goal was reached at any time, and whether at the end: bool [tasks]."""

    success_any: Array
    success_last: Array


def plan_outline(plan_info: PlanInfo) -> PlanOutline:
    """What a video shows of it."""
    return PlanOutline(
        plan_info.subgoals, tuple(jax.tree.map(lambda x: x[-1], plan.states) for plan in plan_info.plans)
    )


class PlanningEvaluation:
    """A run and how its levels plan, of `config.eval.plan` and `config.eval.search`, whatever the world."""

    LEAST: Mapping[str, int]
    """Fields of config.eval.plan with the least that each may be."""

    KIND: str
    """Of `config.eval.plan`."""

    steps: int
    """Of an episode."""

    def __init__(self, run: LoadedRun):
        """Checks `config.eval.plan` and `config.eval.search`."""
        if not isinstance(run.model, MultiLevelDynamics):
            raise UserError(f"{run.workdir} holds no model of latent dynamics, which plan needs.")
        options = run.config.eval.plan
        if options.kind != self.KIND:
            raise config_error(
                "config.eval.plan.kind", options.kind, f"be {self.KIND!r} for {run.config.record.source!r}"
            )
        self.run, self.options = run, from_dict(PLAN, options.to_dict(), "config.eval.plan")
        for name, least in self.LEAST.items():
            if getattr(self.options, name) < least:
                raise config_error(f"config.eval.plan.{name}", getattr(self.options, name), f"be at least {least}")
        self.settings = make_settings(run.config, run.model)
        self.cost_level = self.options.cost_level
        highest = len(run.model.options.levels)
        if self.cost_level and not len(self.settings) <= self.cost_level <= highest:
            valid = f"be from {len(self.settings)}, the highest level that plans, to {highest}, or 0 for the former"
            raise config_error("config.eval.plan.cost_level", self.cost_level, valid)
        if self.cost_level == len(self.settings):
            self.cost_level = 0  # their own, also where fewer of them plan for `pareto`
        try:
            make_planner(run.model, self.settings)
        except UserError as error:
            named = ", ".join(f"{i} is {name}" for i, name in enumerate(run.config.model.levels, start=1))
            raise UserError(f"config.eval.search ({named}): {error}") from error

    def planning_cost(self, settings: tuple[PlannerLevel, ...]) -> planning_cost.PlanningCost:
        """What one episode costs under some settings."""
        planner = make_planner(self.run.model, settings, self.cost_level)
        state = jax.ShapeDtypeStruct((self.run.model.options.levels[0].width,), jnp.float32)
        return planning_cost.count(planner, self.steps, state)

    def spent(self) -> dict[str, Any]:
        """The planner and its planning cost, for results.json."""
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
        planner = make_planner(self.run.model, self.settings, self.cost_level)
        z = jnp.zeros(self.run.model.options.levels[0].width)
        taken = planning_cost.measure(
            lambda z, goal, key: planner.act(planner.init(z), z, goal, 0, self.steps, key)[0],
            z, z + 1, jax.random.key(0),
        )  # fmt: skip
        return {"ms_per_plan": taken.milliseconds, "plan_compile_seconds": taken.compile_seconds}


def successes(played: Any, rows: Any = slice(None)) -> dict[str, Any]:
    """Shares of episodes that were at the goal at any time, and at their end, with Wilson's 95 % intervals."""
    whenever, last = played.success_any[rows], played.success_last[rows]
    found = {}
    for name, hits in (("success", whenever), ("terminal_success", last)):
        interval = wilson_interval(int(np.sum(hits)), len(hits))
        found |= {name: interval.mean, f"{name}_interval": [interval.low, interval.high]}
    return found
