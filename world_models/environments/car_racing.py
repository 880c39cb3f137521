"""CarRacing that holds an action for some steps and draws the last of them alone."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.box2d import car_racing


class CarRacing(car_racing.CarRacing):
    """Gymnasium's CarRacing-v3 with `hold` steps in one; what it shows, its rewards and its ends are the same.

    Gymnasium draws a frame at every step, which takes some fifty times as long as the physics.

    Attributes:
      hold: steps for which an action is held; rewards are summed.
    """

    def __init__(self, hold: int = 3, **kwargs: Any) -> None:
        self.hold = hold
        self._drawing = True
        super().__init__(**kwargs)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Holds an action to the last of `hold` steps, or to the end of the episode."""
        if action is None:  # `reset` looks
            return super().step(None)
        total = 0.0
        for left in reversed(range(self.hold)):
            self._drawing = left == 0
            _, reward, terminated, truncated, info = super().step(action)
            total += reward
            if terminated or truncated:
                break
        if not self._drawing:
            self._drawing = True
            self.state = self._render("state_pixels")
        return self.state, total, terminated, truncated, info

    def _render(self, mode: str) -> Any:
        return super()._render(mode) if self._drawing or mode != "state_pixels" else self.state


gymnasium.register("CarRacing-held-v0", "world_models.environments.car_racing:CarRacing", max_episode_steps=1000)
