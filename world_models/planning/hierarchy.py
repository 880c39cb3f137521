"""Planning from the top down: each level's first predicted state is what the level below plans towards.

H-JEPA (arXiv 2610.06805, section on planning) and HWM (arXiv 2604.03208) are two settings of it; one level is a flat
planner. After LeCun 2022, "A Path Towards Autonomous Machine Intelligence", section 4.6.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from world_models.core.errors import UserError
from world_models.core.types import Array
from world_models.planning import costs
from world_models.planning.options import Search
from world_models.planning.sampling import Step, first_distribution
from world_models.planning.search import Plan, shift, solve


@dataclasses.dataclass(frozen=True)
class Level:
    """One level of a hierarchy: its model, and how it plans.

    Attributes:
      step: the level's model; one step is a tick.
      distance: of its states, leading [...], to one of them: float32 [...].
      search: how it plans; `search.dim` is the size of its actions. Macro-actions need slack: limit them (`max_norm`,
        `low`, `high`) to about 0.9 of what the level below can do in a tick, or subgoals are missed again and again.
        Below another level its horizon is at most that one's `stride`: the subgoal is due then, no later step counts.
      init_carry, latent: for models that predict from a carry that holds more than a state: the carry of a first state,
        and the state in a carry.
      observe: (what a plan could go on from, the action done then, the state it led to) -> the same a step later. Used
        at level 1; plans of the levels above begin with a state each.
      lift: state of the level below -> state of this one, for states with any leading axes. Not used at level 1.
      stride: ticks of the level below in one tick; 1 at level 1, whose ticks are environment steps.
      replan: environment steps from one plan to the next; between, the plan is followed.
      prior: mean and standard deviation, float32 [dim] each, of the actions that the model knows: where searches start
        from instead of the centre of the box and `search.std`.
      prior_weight: of the prior's negative log-likelihood in the cost.
      cost: "last" or "sum", see `costs.to_goal`.
      cost_space: where predicted states meet the subgoal of the level above: "above" lifts them (H-JEPA), "own" takes
        the subgoal as a state of this level (HWM, whose levels share a latent space). No matter at the highest level.
      near: `distance` from its predicted subgoal to the goal under which it leaves the goal to the level below; 0 for
        never. Slow levels tell places near a goal badly apart: without it the goal is passed, or circled. No matter at
        level 1.
      warm_start: whether a search starts from the plan before.
    """

    step: Step
    distance: Callable[[Any, Any], Array]
    search: Search
    init_carry: Callable[[Any], Any] = lambda state: state
    latent: Callable[[Any], Any] = lambda carry: carry
    observe: Callable[[Any, Array, Any], Any] = lambda carry, action, state: state
    lift: Callable[[Any], Any] = lambda state: state
    stride: int = 1
    replan: int = 1
    prior: tuple[Array, Array] | None = None
    prior_weight: float = 0.0
    cost: str = "last"
    cost_space: str = "above"
    near: float = 0.0
    warm_start: bool = True


class PlannerState(NamedTuple):
    """What a planner keeps from one environment step to the next.

    Attributes:
      plans: of each level, level 1 first.
      carry: what level 1 could go on from at this step, whether it planned or not.
      action: float32 [dim], the last one done.
    """

    plans: tuple[Plan, ...]
    carry: Any
    action: Array


class PlanInfo(NamedTuple):
    """What a planner planned at one environment step; level 1 first.

    Attributes:
      subgoals: what each level plans towards: a state of the level above, or of its own with `cost_space` "own"; the
        lifted goal at the highest level, and wherever the level above leaves the goal to this one.
      plans: of each level.
      costs: float32 [levels], of these plans when they were made.
      not_finite: int32 [levels], costs that were not finite in the searches of this step.
    """

    subgoals: tuple[Any, ...]
    plans: tuple[Plan, ...]
    costs: Array
    not_finite: Array


@dataclasses.dataclass(frozen=True)
class HierarchicalPlanner:
    """Plans with one or more levels, level 1 (actions of the environment) first.

    Pure and for one episode; `jax.vmap` it over episodes, with one clock for all, so that steps without a search at
    some level do not pay for it.

    Attributes:
      levels: from level 1 up.
      to_goal: distance of the highest level's states, leading [...], to the lifted goal: float32 [...]; None for its
        own `distance`. Subgoals are always met by the `distance` of levels.

    Raises:
      UserError: if the levels do not fit each other, naming level and field.
    """

    levels: tuple[Level, ...]
    to_goal: Callable[[Any, Any], Array] | None = None

    def __post_init__(self):
        """Refuses what cannot work."""
        if not self.levels:
            raise UserError("levels=() of a planner: give at least one.")
        for i, (level, ticks) in enumerate(zip(self.levels, self.ticks)):
            horizon, longest = level.search.horizon, level.search.horizon * ticks
            below = self.levels[i - 1].replan if i else 1
            above = self.levels[i + 1].stride if i + 1 < len(self.levels) else None
            rules = [
                ("stride", level.stride, level.stride == 1 or (i and level.stride > 1), "be 1 or more, 1 at level 1"),
                (
                    "search.horizon",
                    horizon,
                    above is None or horizon <= above,
                    f"be at most {above}, the stride of the level above: later steps would not count",
                ),
                (
                    "replan",
                    level.replan,
                    1 <= level.replan <= longest and level.replan % below == 0,
                    f"lie in 1..{longest} (the steps of a plan) and be a multiple of {below} (of the level below)",
                ),
                (
                    "replan",
                    level.replan,
                    above is None or above * ticks % level.replan == 0,
                    f"divide {(above or 1) * ticks}, the steps in which the level above has its subgoal reached",
                ),
                ("cost", level.cost, level.cost in ("last", "sum"), "be 'last' or 'sum'"),
                ("cost_space", level.cost_space, level.cost_space in ("own", "above"), "be 'own' or 'above'"),
                ("near", level.near, level.near >= 0, "be 0 (never) or more"),
                (
                    "prior_weight",
                    level.prior_weight,
                    level.prior_weight == 0 or (level.prior_weight > 0 and level.prior is not None),
                    "be 0, or above 0 with a prior",
                ),
            ]
            for name, value, good, would_do in rules:
                if not good:
                    raise UserError(f"{name}={value!r} of level {i + 1} must {would_do}.")

    @property
    def ticks(self) -> tuple[int, ...]:
        """Environment steps in one tick of each level."""
        found = [1]
        for level in self.levels[1:]:
            found.append(found[-1] * level.stride)
        return tuple(found)

    def init(self, state: Any) -> PlannerState:
        """What an episode's first `act` is given: a plan for each level, of which nothing is followed.

        Args:
          state: any level-1 state; only its shapes matter.
        """
        lifted = jax.eval_shape(self.lift, state)
        plans = tuple(_empty(level, shapes) for level, shapes in zip(self.levels, lifted))
        carry = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(self.levels[0].init_carry, state))
        return PlannerState(plans, carry, jnp.zeros(self.levels[0].search.dim))

    def act(
        self,
        planner_state: PlannerState,
        state: Any,
        goal: Any,
        clock: Array | int,
        steps_left: Array | int,
        key: Array,
    ) -> tuple[Array, PlannerState, PlanInfo]:
        """One environment step: the levels whose turn it is plan, the highest first; the others go on with their plans.

        No level looks further than the episode has steps left, nor further than the moment for which the level above
        predicted its subgoal, both rounded up to whole ticks of its own. A level with one tick left or less, or whose
        subgoal is `near` the goal, leaves the goal to the level below it, which then measures how far it is in its own
        states, as if it were the highest.

        Args:
          planner_state: from `init` or the step before.
          state, goal: of level 1, without a batch axis.
          clock: int32 [], environment steps done in this episode. A level plans where it is a multiple of `replan`.
          steps_left: int32 [], environment steps that may still be done, this one included.
          key: of this step.

        Returns:
          (action float32 [dim], the next state, `PlanInfo`).
        """
        states, goals = self.lift(state), self.lift(goal)
        begun = [level.init_carry(own) for level, own in zip(self.levels, states)]
        followed = self.levels[0].observe(planner_state.carry, planner_state.action, state)
        begun[0] = jax.tree.map(lambda new, old: jnp.where(jnp.asarray(clock) == 0, new, old), begun[0], followed)
        plans, targets, fresh = list(planner_state.plans), [None] * len(states), []
        target, left, alone = goals[-1], jnp.asarray(steps_left), jnp.bool_(True)
        for i in reversed(range(len(self.levels))):
            level, ticks = self.levels[i], self.ticks[i]
            age = jnp.asarray(clock) % level.replan
            targets[i] = target
            inputs = (plans[i], begun[i], target, goals[i], alone, -(-left // ticks), jax.random.fold_in(key, i))
            plans[i] = jax.lax.cond(age == 0, lambda *x, i=i: self.plan_level(i, *x), lambda plan, *_: plan, *inputs)
            fresh.append(jnp.where(age == 0, plans[i].not_finite, 0))
            index = age // ticks
            if i == 0:
                action = plans[0].actions[index]
            else:
                due = jax.tree.map(lambda x, index=index: x[index], plans[i].states)
                alone = (jnp.asarray(steps_left) <= ticks) | (level.distance(due, goals[i]) < level.near)
                target = jax.tree.map(lambda goal, due, alone=alone: jnp.where(alone, goal, due), goals[i], due)
                left = jnp.where(alone, left, jnp.minimum(left, (index + 1) * ticks - age))
        costs_now = jnp.stack([plan.cost for plan in plans])
        plan_info = PlanInfo(tuple(targets), tuple(plans), costs_now, jnp.stack(fresh[::-1]))
        return action, PlannerState(tuple(plans), begun[0], action), plan_info

    def plan_level(
        self, i: int, before: Plan, carry: Any, target: Any, goal: Any, alone: Array, ticks_left: Array, key: Array
    ) -> Plan:
        """A new plan of level i + 1.

        Args:
          i: 0 for level 1.
          before: a plan to start warm from.
          carry: what it goes on from.
          target: the level above's subgoal, or its goal; at the highest level the goal.
          goal: a state of this level.
          alone: bool [], whether it plans to the goal by itself, whatever the target.
          ticks_left: int32 [], later ticks do not count.
          key: of the search.
        """
        level, (mean, std) = self.levels[i], first_distribution(self.levels[i].search, self.levels[i].prior)
        if level.warm_start:
            mean, _ = shift(level.search, before, level.replan // self.ticks[i])
        if i + 1 == len(self.levels):
            cost = costs.to_goal(self.to_goal or level.distance, goal, level.cost)
        else:
            distance = level.distance
            if level.cost_space == "above":
                above = self.levels[i + 1]
                distance = lambda states, target: above.distance(above.lift(states), target)
            to_target, to_goal = (costs.to_goal(*to, level.cost) for to in ((distance, target), (level.distance, goal)))
            cost = lambda *future: jnp.where(alone, to_goal(*future), to_target(*future))
        if level.prior_weight:
            cost = costs.total(cost, costs.gaussian_prior(*level.prior, level.prior_weight))
        return solve(level.search, level.step, cost, carry, key, (mean, std), ticks_left, level.latent)

    def lift(self, state: Any) -> tuple[Any, ...]:
        """The states of all levels, for one of level 1."""
        found = [state]
        for level in self.levels[1:]:
            found.append(level.lift(found[-1]))
        return tuple(found)


def _empty(level: Level, shapes: Any) -> Plan:
    """A plan to start warm from: the mean of the first search."""
    horizon = level.search.horizon
    states = jax.tree.map(lambda x: jnp.zeros((horizon, *x.shape), x.dtype), shapes)
    mean, std = first_distribution(level.search, level.prior)
    return Plan(mean, states, jnp.float32(0), jnp.zeros(level.search.iterations), std, jnp.int32(0))
