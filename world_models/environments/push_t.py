"""PushT with relative actions, a policy that pushes weakly, and when its goal is reached. Importing registers it.

The environment is gym-pusht's (`pip install -e '.[pusht]'`); actions relative to the agent, and success within 20
pixels and 20 degrees, are those of DINO-WM (arXiv 2411.04983, appendix) and LeWM.
"""

from typing import Any

import gymnasium
import numpy as np

from world_models.environments.policies import Act

REACH = 100.0  # pixels that an action of length 1 along an axis asks the agent to move
NEAR, TURN = 20.0, np.pi / 9
SIDE = 512.0  # of the square world, in pixels


class Relative(gymnasium.ActionWrapper):
    """Actions in [-1, 1]^2 are displacements of the agent in units of `REACH`, clipped to the world."""

    def __init__(self, environment: gymnasium.Env):
        """Wraps PushT, whose actions are positions."""
        super().__init__(environment)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def action(self, action: np.ndarray) -> np.ndarray:
        """The absolute target position, in pixels."""
        place = np.asarray(self.unwrapped.agent.position) + REACH * np.clip(action, -1, 1)
        return np.clip(place, 0, SIDE).astype(np.float32)

    def render(self) -> np.ndarray:
        """The world without the cross that gym-pusht draws at the last target, which goals must not show."""
        self.unwrapped._last_action = None
        return super().render()


def make(**kwargs: Any) -> gymnasium.Env:
    """PushT with relative actions; keyword arguments are gym-pusht's."""
    import gym_pusht  # registers it

    return Relative(gymnasium.make(f"{gym_pusht.__name__}/PushT-v0", **kwargs).unwrapped)


def push(environment: gymnasium.Env, rng: np.random.Generator) -> Act:
    """A policy to record with: heads for random positions on and around the block, and so pushes it now and then."""
    place, steps = np.zeros(2), 0

    def act(observed: np.ndarray) -> np.ndarray:
        nonlocal place, steps
        if steps == 0:
            place, steps = observed[2:4] + rng.normal(0.0, 60.0, 2), int(rng.integers(3, 9))
        steps -= 1
        return np.clip((place - observed[:2]) / REACH + rng.normal(0.0, 0.1, 2), -1, 1).astype(np.float32)

    return act


def reached(observed: np.ndarray, goal: np.ndarray) -> bool:
    """Whether agent and block are within 20 pixels, all four coordinates together, and the block within 20 degrees."""
    turn = (observed[4] - goal[4] + np.pi) % (2 * np.pi) - np.pi
    return bool(np.linalg.norm(observed[:4] - goal[:4]) < NEAR and abs(turn) < TURN)


gymnasium.register("PushT-relative-v0", "world_models.environments.push_t:make", max_episode_steps=1000)
