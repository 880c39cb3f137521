"""Episodes of worlds that are not written in JAX, such as Gymnasium's: a loop on the host around one jitted `act`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from world_models.core.types import Array
from world_models.planning.episodes import costs_only
from world_models.planning.hierarchy import HierarchicalPlanner, PlanInfo


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
    return np.asarray(environment.render())


class Player:
    """Plans in a model for an environment on the host. All episodes share one compiled program.

    Keys are derived from the episode's as `episodes.run` derives them from the two of `split(key)`: a world that exists
    in both forms is played alike.
    """

    def __init__(
        self,
        encode: Callable[[Array], Any],
        planner: HierarchicalPlanner,
        watch: Callable[[PlanInfo], Any] = costs_only,
    ):
        """`encode` makes a level-1 state of a frame, uint8 [h, w, c]; `watch` says what to keep of plan_infos."""

        def act(planner_state, frame, goal, clock, left, key):
            now = jax.random.fold_in(jax.random.split(key)[1], clock)
            action, planner_state, plan_info = planner.act(planner_state, encode(frame), encode(goal), clock, left, now)
            return action, planner_state, watch(plan_info)

        self._act = jax.jit(act)
        self._start = jax.jit(lambda frame: planner.init(encode(frame)))

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
        planner_state, terminated = self._start(frames[0]), False
        for clock in range(num_steps):
            left = jnp.int32(num_steps - clock)
            action, planner_state, plan_info = self._act(planner_state, frames[-1], goal, jnp.int32(clock), left, key)
            actions.append(np.asarray(action))
            plan_infos.append(jax.tree.map(np.asarray, plan_info))
            given = actions[-1].reshape(environment.action_space.shape).astype(environment.action_space.dtype)
            observed, reward, terminated, truncated, info = environment.step(given)
            frames.append(look(environment, observed))
            rewards.append(float(reward))
            infos.append(info)
            if terminated or truncated:
                break
        plan_infos = jax.tree.map(lambda *x: np.stack(x), *plan_infos)
        return HostEpisode(
            np.stack(frames), np.stack(actions), np.float32(rewards), infos, plan_infos, bool(terminated)
        )
