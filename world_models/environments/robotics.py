"""Arms and mazes of MuJoCo as worlds to plan in: policies to record with, and when a goal is reached.

The environments are Gymnasium's Reacher, gymnasium-robotics' PointMaze (`pip install -e '.[robotics]'` for both) and
OGBench's mazes (`pip install -e '.[ogbench]'`).
"""

from typing import Any

import gymnasium
import numpy as np

from world_models.environments.policies import Act

ANGLE = 0.2  # radians
POINT_MAZE = 0.45  # metres, where gymnasium-robotics counts a goal as reached
OGBENCH = 1.0  # where OGBench does for its point; a cell is 4 wide


def wander(environment: gymnasium.Env, rng: np.random.Generator) -> Act:
    """A policy for two-dimensional pushes in [-1, 1]: a direction for 5 to 20 steps, with noise."""
    direction, steps = np.zeros(2), 0

    def act(observed: Any) -> np.ndarray:
        nonlocal direction, steps
        if steps == 0:
            angle, steps = rng.uniform(0, 2 * np.pi), int(rng.integers(5, 21))
            direction = np.array([np.cos(angle), np.sin(angle)])
        steps -= 1
        return np.clip(direction + rng.normal(0.0, 0.2, 2), -1, 1).astype(np.float32)

    return act


def swing(environment: gymnasium.Env, rng: np.random.Generator) -> Act:
    """A policy for Reacher: turns both joints to angles at random, others every 10 to 40 steps, with noise."""
    angles, steps = np.zeros(2), 0

    def act(observed: np.ndarray) -> np.ndarray:
        nonlocal angles, steps
        if steps == 0:
            angles, steps = rng.uniform(-np.pi, np.pi, 2), int(rng.integers(10, 41))
        steps -= 1
        torque = 0.2 * _turn(observed, angles) - 0.06 * observed[6:8]
        return np.clip(torque + rng.normal(0.0, 0.05, 2), -1, 1).astype(np.float32)

    return act


def reacher(observed: np.ndarray, goal: np.ndarray) -> bool:
    """Reacher, [10] as observed: whether both joints are within 0.2 radians of the goal's, moving or not."""
    return bool(np.all(np.abs(_turn(observed, np.arctan2(goal[2:4], goal[:2]))) < ANGLE))


def point_maze(observed: dict[str, np.ndarray], goal: dict[str, np.ndarray]) -> bool:
    """PointMaze of gymnasium-robotics, "achieved_goal" [2]: whether the ball is within 0.45 of the goal's."""
    return bool(np.linalg.norm(observed["achieved_goal"] - goal["achieved_goal"]) <= POINT_MAZE)


def ogbench_maze(observed: np.ndarray, goal: np.ndarray) -> bool:
    """OGBench's mazes, [n] as observed, (x, y) first: whether the body is within 1 of its position in the goal."""
    return bool(np.linalg.norm(observed[:2] - goal[:2]) <= OGBENCH)


def _turn(observed: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """How far Reacher's joints are from angles [2], in [-pi, pi): observed [10] are 2 cosines, 2 sines, ..."""
    return (angles - np.arctan2(observed[2:4], observed[:2]) + np.pi) % (2 * np.pi) - np.pi
