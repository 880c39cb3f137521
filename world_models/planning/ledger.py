"""What planning costs: model evaluations, FLOPs and sequential depth by arithmetic, milliseconds by the clock."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from world_models import flops
from world_models.errors import UserError
from world_models.planning.hierarchy import HierarchicalPlanner, Level
from world_models.planning.search import Search


class Ledger(NamedTuple):
    """Costs of planning through one episode.

    Attributes:
      plans: searches of each level.
      rows: model evaluations of each level: one step of one sample.
      depth: evaluations that must follow each other, all levels together; what remains of the time on a machine that
        does all samples at once. Backward passes are not counted in it.
      flops: of all evaluations, backward passes included; None if what a row costs was not said.
    """

    plans: tuple[int, ...]
    rows: tuple[int, ...]
    depth: int
    flops: int | None


def plan_rows(search: Search) -> int:
    """Model evaluations of one search: all samples of all iterations, and the plan itself once more."""
    return search.horizon * (search.samples * search.iterations + 1)


def count(planner: HierarchicalPlanner, num_steps: int, row_flops: Sequence[int] | None = None) -> Ledger:
    """The ledger of one episode.

    Horizons that shrink towards a deadline cost as much as whole ones: shapes are static, and late steps weigh 0.

    Args:
      planner: what plans.
      num_steps: environment steps in the episode.
      row_flops: of one evaluation, for each level (see `row_flops`). The gradient method pays three times as much for
        a row that it goes back through.

    Raises:
      UserError: if `row_flops` are not as many as the levels.
    """
    levels = planner.levels
    if row_flops is not None and len(row_flops) != len(levels):
        raise UserError(f"row_flops={tuple(row_flops)} must be one number for each of {len(levels)} level(s).")
    searches = [level.search for level in levels]
    plans = tuple(-(-num_steps // level.replan) for level in levels)
    rows = tuple(number * plan_rows(search) for number, search in zip(plans, searches))
    depth = sum(number * search.horizon * (search.iterations + 1) for number, search in zip(plans, searches))
    if row_flops is None:
        return Ledger(plans, rows, depth, None)
    paid = [
        number * search.horizon * (search.samples * search.iterations * (3 if search.method == "gradient" else 1) + 1)
        for number, search in zip(plans, searches)
    ]
    return Ledger(plans, rows, depth, sum(row * each for row, each in zip(row_flops, paid)))


def row_flops(level: Level, state: Any) -> int:
    """FLOPs of one evaluation of a level's model, without its cost; `state` is one of its states or their shapes."""
    rows = lambda x: jax.ShapeDtypeStruct((1, *jnp.shape(x)), jnp.result_type(x))
    action = jax.ShapeDtypeStruct((1, level.search.dim), jnp.float32)
    return flops.count_flops(level.step, jax.tree.map(rows, state), action, jax.random.key(0))


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
