"""Whole episodes of a JAX-native world, planned at every step, as one program."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from world_models.core.types import Array
from world_models.planning.hierarchy import HierarchicalPlanner, PlanInfo

if TYPE_CHECKING:
    from world_models.environments.world import Task, World


class Episode(NamedTuple):
    """One episode.

    Attributes:
      positions: float32 [steps + 1, 2], the start first.
      actions: float32 [steps, dim].
      reached: bool [steps + 1], whether the world was at the goal; the episode goes on all the same.
      success_any: bool [], at any time ("anytime success").
      success_last: bool [], after the last step ("terminal success").
      plan_infos: what `watch` kept of each step's `PlanInfo`, leading [steps].
      frames: uint8 [steps + 1, h, w, c] as seen, or None.
    """

    positions: Array
    actions: Array
    reached: Array
    success_any: Array
    success_last: Array
    plan_infos: Any
    frames: Array | None


def costs_only(plan_info: PlanInfo) -> tuple[Array, Array]:
    """(costs, not_finite) [levels] each: all that is light enough to keep of thousands of episodes."""
    return plan_info.costs, plan_info.not_finite


def run(
    world: "World",
    encode: Callable[[Array, Any], Any],
    planner: HierarchicalPlanner,
    task: "Task",
    world_key: Array,
    planner_key: Array,
    watch: Callable[[PlanInfo], Any] = costs_only,
    frames: bool = False,
    num_steps: int | None = None,
) -> Episode:
    """Plays one task to the end, with a plan for its goal as it would look with the agent there.

    One scan over the steps; to be jitted, and vmapped over tasks and keys.

    Args:
      world: what to act in.
      encode: (frame uint8 [h, w, c], state of the world) -> level-1 state. A model looks at the frame; an oracle, whose
        levels step the true world, at the state, and then nothing is drawn.
      planner: what acts.
      task: start, goal and layout.
      world_key: of the world's noise, such as what moves by itself.
      planner_key: of the searches.
      watch: what to keep of each step's plan_info; plans of all steps can be large.
      frames: whether to keep what was seen.
      num_steps: of the episode; None is the world's own number.
    """
    num_steps = world.num_steps if num_steps is None else num_steps
    look = lambda state: encode(world.render(state), state)
    goal = look(world.reset(task._replace(start=task.goal)))
    start = world.reset(task)

    def step(carry, clock):
        state, planner_state = carry
        left, now = num_steps - clock, jax.random.fold_in(planner_key, clock)
        action, planner_state, plan_info = planner.act(planner_state, look(state), goal, clock, left, now)
        state = world.step(state, action, jax.random.fold_in(world_key, clock))
        return (state, planner_state), (state, action, watch(plan_info))

    first = (start, planner.init(look(start)))
    _, (states, actions, plan_infos) = jax.lax.scan(step, first, jnp.arange(num_steps))
    states = jax.tree.map(lambda x, rest: jnp.concatenate([jnp.asarray(x)[None], rest]), start, states)
    reached = jax.vmap(lambda state: world.reached(state, task.goal))(states)
    return Episode(
        positions=jax.vmap(world.position)(states),
        actions=actions,
        reached=reached,
        success_any=jnp.any(reached),
        success_last=reached[-1],
        plan_infos=plan_infos,
        frames=jax.vmap(world.render)(states) if frames else None,
    )
