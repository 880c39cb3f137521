"""Objects that fall, bounce and come to rest, in MuJoCo: a scene of several moving objects with exact masks."""

import pathlib
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.envs.mujoco import MujocoEnv

_MODEL = pathlib.Path(__file__).parent / "assets" / "tumbling.xml"
_PUSH = 4.0  # metres a second squared
_ROOM = 0.7  # metres from the middle within which objects start


class TumblingObjects(MujocoEnv):
    """A box, a ball, a capsule and a cylinder of random colours, thrown onto a ground between invisible walls.

    Actions are float32 [2] in [-1, 1], a push of all objects along the ground, at most 4 m/s². Observations are the
    positions and speeds of all objects, float64 [52]. There is no reward, and no end.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 20}

    def __init__(self, **kwargs: Any) -> None:
        """`kwargs` are those of `MujocoEnv`: render_mode, width, height."""
        space = gymnasium.spaces.Box(-np.inf, np.inf, (52,), np.float64)
        super().__init__(str(_MODEL), 10, space, camera_name="watch", **kwargs)

    def _set_action_space(self) -> gymnasium.Space:
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        return self.action_space

    def reset_model(self) -> np.ndarray:
        """Throws the objects anew, in new colours."""
        rng, bodies = self.np_random, self.model.nbody - 1
        places = np.column_stack([rng.uniform(-_ROOM, _ROOM, (bodies, 2)), 0.3 + 0.35 * rng.permutation(bodies)])
        turns = rng.normal(size=(bodies, 4))
        turns /= np.linalg.norm(turns, axis=1, keepdims=True)
        speeds = np.column_stack([rng.normal(0, 1.5, (bodies, 3)), rng.normal(0, 4, (bodies, 3))])
        self.model.geom_rgba[self.model.geom_bodyid > 0, :3] = rng.uniform(0.1, 1, (bodies, 3))
        self.set_state(np.column_stack([places, turns]).ravel(), speeds.ravel())
        return self._observed()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Pushes all objects for 0.05 seconds."""
        self.data.xfrc_applied[1:, :2] = _PUSH * self.model.body_mass[1:, None] * np.asarray(action)
        self.do_simulation(np.zeros(self.model.nu), self.frame_skip)
        return self._observed(), 0.0, False, False, {}

    def _observed(self) -> np.ndarray:
        return np.concatenate([self.data.qpos, self.data.qvel])


gymnasium.register("TumblingObjects-v0", "world_models.environments.tumbling:TumblingObjects", max_episode_steps=1000)
