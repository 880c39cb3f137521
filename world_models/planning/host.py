"""Episodes of worlds that are not written in JAX, such as Gymnasium's: a loop on the host around one jitted `act`.

`Player.play` is such a loop; `Player.start` and `Player.act` are for loops of somebody else, one environment or many.
"""

import copy
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from world_models.core.types import Array
from world_models.planning.episodes import costs_only
from world_models.planning.hierarchy import PlanInfo, PlannerState
from world_models.planning.model import PlanningModel
from world_models.planning.options import PlannerLevel
from world_models.planning.planner import encode_frame, make_planner


class HostEpisode(NamedTuple):
    """One episode, NumPy arrays.

    Attributes:
      frames: uint8 [steps + 1, h, w, c], what the model saw.
      actions: float32 [steps, dim].
      rewards: float32 [steps].
      infos: what the environment said after each step.
      plan_infos: what `watch` kept of each step's `PlanInfo`, leading [steps].
      terminated: whether the environment ended the episode.
    """

    frames: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    infos: list[dict[str, Any]]
    plan_infos: Any
    terminated: bool


class PlayerState(NamedTuple):
    """An episode, or many with a leading axis, in the middle of planning.

    Attributes:
      planner: what the planner keeps.
      goal: uint8 [h, w, c].
      key: of this episode.
      clock: int32 [], steps done.
      num_steps: int32 [], of the episode.
    """

    planner: PlannerState
    goal: Array
    key: Array
    clock: Array
    num_steps: Array


def rendered(environment: Any, observed: Any) -> np.ndarray:
    """What the environment renders, uint8 [h, w, 3]; it must be made with `render_mode="rgb_array"`."""
    return np.array(environment.render())  # a copy: some draw each frame into the same array


class Player:
    """Plans in a model for an environment on the host. Players of the same kind of model share compiled programs.

    Keys are derived from the episode's as `episodes.run` derives them from the two of `split(key)`: a world that exists
    in both forms is played alike.
    """

    def __init__(
        self,
        model: PlanningModel,
        settings: tuple[PlannerLevel, ...],
        cost_level: int = 0,
        watch: Callable[[PlanInfo], Any] = costs_only,
    ):
        """Plans with `make_planner(model, settings, cost_level)`; `watch`, a module's function, filters plan_infos."""
        self._model, self._planning, self._watch = model, (settings, cost_level), watch

    def start(self, goal: Array, key: Array, num_steps: int | Array) -> PlayerState:
        """The state before the first step of an episode, or of many.

        Args:
          goal: the frame to reach, uint8 [h, w, c], or [n, h, w, c] of n environments.
          key: of the planner, or [n].
          num_steps: after which episodes end: plans look no further. An int, or [n].
        """
        num_steps = jnp.broadcast_to(jnp.asarray(num_steps, jnp.int32), np.shape(goal)[:-3])
        begin = _start_many if np.ndim(goal) == 4 else _start
        return begin(self._model, self._planning, jnp.asarray(goal), key, num_steps)

    def act(
        self, state: PlayerState, frame: Array, is_first: Array | None = None
    ) -> tuple[np.ndarray, PlayerState, Any]:
        """One step.

        Environments in a batch have their own clocks, so that each may be anywhere in its episode; then all levels
        search at every step, whether the results are used or not.

        Args:
          state: from `start` or the step before.
          frame: what is seen now, uint8 [h, w, c], or [n, h, w, c].
          is_first: bool [n], which of the environments of a batch have been reset since the last step: they begin
            again, towards the same goal (replace `state.goal` for another one) and with a new key.

        Returns:
          (action float32 [dim] or [n, dim], the next state, what `watch` keeps of the plans, as NumPy arrays).
        """
        many = np.ndim(frame) == 4
        if many and is_first is not None and np.any(is_first):
            state = _begin_again(self._model, self._planning, state, jnp.asarray(is_first, bool))
        step = _act_many if many else _act
        action, state, plan_info = step(self._model, self._planning, self._watch, state, jnp.asarray(frame))
        return np.asarray(action), state, jax.tree.map(np.asarray, plan_info)

    def play(
        self,
        environment: Any,
        goal: Array,
        key: Array,
        num_steps: int,
        *,
        seed: int | None = None,
        options: dict[str, Any] | None = None,
        look: Callable[[Any, Any], np.ndarray] = rendered,
    ) -> HostEpisode:
        """Plays one episode, to its end or for `num_steps`.

        Args:
          environment: a Gymnasium environment with a Box of actions.
          goal: the frame to reach, of the size that `look` gives.
          key: of the planner.
          num_steps: at most.
          seed, options: of the environment's reset.
          look: (environment, observation) -> the frame that the model is shown.
        """
        observed, _ = environment.reset(seed=seed, options=options)
        frames, actions, rewards, infos, plan_infos = [look(environment, observed)], [], [], [], []
        state, terminated = self.start(goal, key, num_steps), False
        for _ in range(num_steps):
            action, state, plan_info = self.act(state, frames[-1])
            actions.append(action)
            plan_infos.append(plan_info)
            given = actions[-1].reshape(environment.action_space.shape).astype(environment.action_space.dtype)
            observed, reward, terminated, truncated, info = environment.step(given)
            frames.append(look(environment, observed))
            rewards.append(float(reward))
            infos.append(copy.deepcopy(info))  # some fill the same dictionary at each step
            if terminated or truncated:
                break
        plan_infos = jax.tree.map(lambda *x: np.stack(x), *plan_infos)
        return HostEpisode(
            np.stack(frames), np.stack(actions), np.float32(rewards), infos, plan_infos, bool(terminated)
        )


def _begin(model: PlanningModel, planning: tuple, goal: Array, key: Array, num_steps: Array) -> PlayerState:
    planner_state = make_planner(model, *planning).init(encode_frame(model, goal))
    return PlayerState(planner_state, goal, key, jnp.int32(0), num_steps)


def _step(
    model: PlanningModel, planning: tuple, watch: Callable[[PlanInfo], Any], state: PlayerState, frame: Array
) -> tuple[Array, PlayerState, Any]:
    """`HierarchicalPlanner.act` from frames, with what `watch` keeps of its plan_info."""
    planner, now = make_planner(model, *planning), jax.random.fold_in(jax.random.split(state.key)[1], state.clock)
    latents = (encode_frame(model, frame), encode_frame(model, state.goal))
    left = jnp.maximum(state.num_steps - state.clock, 1)
    action, planner_state, plan_info = planner.act(state.planner, *latents, state.clock, left, now)
    return action, state._replace(planner=planner_state, clock=state.clock + 1), watch(plan_info)


_start = jax.jit(_begin, static_argnums=1)
_start_many = jax.jit(jax.vmap(_begin, (None, None, 0, 0, 0)), static_argnums=1)
_act = jax.jit(_step, static_argnums=(1, 2))
_act_many = jax.jit(jax.vmap(_step, (None, None, None, 0, 0)), static_argnums=(1, 2))


@functools.partial(jax.jit, static_argnums=1)
def _begin_again(model: PlanningModel, planning: tuple, state: PlayerState, is_first: Array) -> PlayerState:
    """The state with some of a batch's episodes at their start."""

    def one(state: PlayerState, first: Array) -> PlayerState:
        fresh = _begin(model, planning, state.goal, jax.random.fold_in(state.key, 0), state.num_steps)
        return jax.tree.map(lambda new, old: jnp.where(first, new, old), fresh, state)

    return jax.vmap(one)(state, is_first)
