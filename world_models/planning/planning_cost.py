"""What planning costs: model evaluations, FLOPs and sequential depth by arithmetic, milliseconds by the clock."""

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from world_models.core import flops
from world_models.planning.hierarchy import HierarchicalPlanner
from world_models.planning.options import Search


class PlanningCost(NamedTuple):
    """Costs of planning through one episode.

    Attributes:
      plans: searches of each level.
      rows: model evaluations of each level: one step of one sample.
      depth: evaluations that must follow each other, all levels together; what remains of the time on a machine that
        does all samples at once. Backward passes are not counted in it.
      flops: of all searches, see `plan_flops`; None if no state was given.
    """

    plans: tuple[int, ...]
    rows: tuple[int, ...]
    depth: int
    flops: int | None


def plan_rows(search: Search) -> int:
    """Model evaluations of one search: all samples of all iterations, and the plan itself once more."""
    return search.horizon * (search.samples * search.iterations + 1)


def count(planner: HierarchicalPlanner, num_steps: int, state: Any = None) -> PlanningCost:
    """The planning cost of one episode.

    Horizons that shrink towards a deadline cost as much as whole ones: shapes are static, and late steps weigh 0.

    Args:
      planner: what plans.
      num_steps: environment steps in the episode.
      state: of level 1, or its shapes; without it, FLOPs are not counted.
    """
    levels = planner.levels
    searches = [level.search for level in levels]
    plans = tuple(-(-num_steps // level.replan) for level in levels)
    rows = tuple(number * plan_rows(search) for number, search in zip(plans, searches))
    depth = sum(number * search.horizon * (search.iterations + 1) for number, search in zip(plans, searches))
    if state is None:
        return PlanningCost(plans, rows, depth, None)
    return PlanningCost(
        plans, rows, depth, sum(number * each for number, each in zip(plans, plan_flops(planner, state)))
    )


def plan_flops(planner: HierarchicalPlanner, state: Any) -> tuple[int, ...]:
    """FLOPs of one search of each level, with all that it asks for: model, cost, what the cost lifts, sampling, fits.

    Args:
      planner: what plans.
      state: of level 1, or its shapes.
    """
    plans, lifted = jax.eval_shape(lambda x: (planner.init(x).plans, planner.lift(x)), state)
    found = []
    for i, (before, own) in enumerate(zip(plans, lifted)):
        target = lifted[min(i + 1, len(lifted) - 1)] if planner.levels[i].cost_space == "above" else own
        carry = jax.eval_shape(planner.levels[i].init_carry, own)
        inputs = (before, carry, target, own, jnp.bool_(False), jnp.int32(1), jax.random.key(0))
        found.append(flops.count_flops(lambda *x, i=i: planner.plan_level(i, *x), *inputs, unused=False))
    return tuple(found)


class Timing(NamedTuple):
    """How long a function takes.

    Attributes:
      compile_seconds: tracing and compiling, once.
      milliseconds: of a call afterwards, until its results are there: median of the repeats.
    """

    compile_seconds: float
    milliseconds: float


def measure(function: Callable, *args: Any, repeats: int = 5) -> Timing:
    """Compiles a function that JAX can trace for `args`, and times it apart from that; one call more warms up."""
    begin = time.perf_counter()
    compiled = jax.jit(function).lower(*args).compile()
    compile_seconds = time.perf_counter() - begin
    jax.block_until_ready(compiled(*args))
    taken = []
    for _ in range(repeats):
        begin = time.perf_counter()
        jax.block_until_ready(compiled(*args))
        taken.append(1e3 * (time.perf_counter() - begin))
    return Timing(compile_seconds, statistics.median(taken))
