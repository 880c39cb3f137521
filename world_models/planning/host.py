"""Episodes of worlds that are not written in JAX, such as Gymnasium's: a loop on the host around one jitted `act`."""

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
        planner_state, terminated = _start(self._model, self._planning, frames[0]), False
        for clock in range(num_steps):
            left = jnp.int32(num_steps - clock)
            inputs = (planner_state, frames[-1], goal, jnp.int32(clock), left, key)
            action, planner_state, plan_info = _act(self._model, self._planning, self._watch, *inputs)
            actions.append(np.asarray(action))
            plan_infos.append(jax.tree.map(np.asarray, plan_info))
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


@functools.partial(jax.jit, static_argnames="planning")
def _start(model: PlanningModel, planning: tuple, frame: Array) -> PlannerState:
    return make_planner(model, *planning).init(encode_frame(model, frame))


@functools.partial(jax.jit, static_argnames=("planning", "watch"))
def _act(
    model: PlanningModel,
    planning: tuple,
    watch: Callable[[PlanInfo], Any],
    planner_state: PlannerState,
    frame: Array,
    goal: Array,
    clock: Array,
    left: Array,
    key: Array,
) -> tuple[Array, PlannerState, Any]:
    """`HierarchicalPlanner.act` from frames, with what `watch` keeps of its plan_info."""
    planner, now = make_planner(model, *planning), jax.random.fold_in(jax.random.split(key)[1], clock)
    latents = (encode_frame(model, frame), encode_frame(model, goal))
    action, planner_state, plan_info = planner.act(planner_state, *latents, clock, left, now)
    return action, planner_state, watch(plan_info)
