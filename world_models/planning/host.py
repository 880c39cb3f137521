"""Episodes of worlds that are not written in JAX, such as Gymnasium's: a loop on the host around one jitted `act`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from world_models.planning.hierarchy import HierarchicalPlanner
from world_models.types import Array


class HostEpisode(NamedTuple):
    """One episode, NumPy arrays.

    Attributes:
      frames: uint8 [steps + 1, h, w, c], what the model saw.
      actions: float32 [steps, dim].
      rewards: float32 [steps].
      infos: what the environment said after each step.
      costs: float32 [steps, levels], of the plans that were followed.
      terminated: whether the environment ended the episode.
    """

    frames: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    infos: list[dict[str, Any]]
    costs: np.ndarray
    terminated: bool


def rendered(environment: Any, observed: Any) -> np.ndarray:
    """What the environment renders, uint8 [h, w, 3]; it must be made with `render_mode="rgb_array"`."""
    return np.asarray(environment.render())


class Player:
    """Plans in a model for an environment on the host. All episodes share one compiled program.

    Keys are derived from the episode's as `episodes.run` derives them from the two of `split(key)`: a world that exists
    in both forms is played alike.
    """

    def __init__(self, encode: Callable[[Array], Any], planner: HierarchicalPlanner):
        """`encode` makes a level-1 state of a frame, uint8 [h, w, c]."""

        def act(mind, frame, goal, clock, left, key):
            now = jax.random.fold_in(jax.random.split(key)[1], clock)
            return planner.act(mind, encode(frame), encode(goal), clock, left, now)

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
        frames, actions, rewards, infos, thoughts = [look(environment, observed)], [], [], [], []
        mind, terminated = self._start(frames[0]), False
        for clock in range(num_steps):
            left = jnp.int32(num_steps - clock)
            action, mind, thought = self._act(mind, frames[-1], goal, jnp.int32(clock), left, key)
            actions.append(np.asarray(action))
            thoughts.append(np.asarray(thought.costs))
            given = actions[-1].reshape(environment.action_space.shape).astype(environment.action_space.dtype)
            observed, reward, terminated, truncated, info = environment.step(given)
            frames.append(look(environment, observed))
            rewards.append(float(reward))
            infos.append(info)
            if terminated or truncated:
                break
        return HostEpisode(
            np.stack(frames), np.stack(actions), np.float32(rewards), infos, np.stack(thoughts), bool(terminated)
        )
