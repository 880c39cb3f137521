"""A Gymnasium environment whose frames spell out its state, for tests of recording. Importing registers it."""

import os
import time

import gymnasium
import numpy as np


class Toy(gymnasium.Env):
    """Pixel (0, 0) of a frame is (steps since reset, last action + 1, seed); reward is 10·step + action."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    observation_space = gymnasium.spaces.Box(0, 255, (20, 24, 3), np.uint8)

    def __init__(self, length=7, space="discrete", fail_at=None, die_at=None, slow=0.0, render_mode=None):
        spaces = {
            "discrete": gymnasium.spaces.Discrete(5, start=1),
            "box": gymnasium.spaces.Box(np.array([-1.0, 0.0]), np.array([1.0, 2.0]), dtype=np.float32),
            "unbounded": gymnasium.spaces.Box(-np.inf, np.inf, (2,)),
            "dict": gymnasium.spaces.Dict({"a": gymnasium.spaces.Discrete(2)}),
        }
        self.action_space = spaces[space]
        self.render_mode = render_mode
        self._length, self._fail_at, self._die_at, self._slow = length, fail_at, die_at, slow

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._seed, self._t, self._last = seed or 0, 0, 0
        return self._frame(), {}

    def step(self, action):
        time.sleep(self._slow)
        self._t += 1
        self._last = int(np.ravel(action)[0])
        if self._seed % 4 == self._fail_at:
            raise RuntimeError("the wheels came off")
        if self._seed % 4 == self._die_at:
            os._exit(3)
        return self._frame(), 10.0 * self._t + self._last, self._t == self._length, False, {}

    def _frame(self):
        frame = np.zeros((20, 24, 3), np.uint8)
        frame[:] = (self._t, self._last % 256, self._seed % 256)
        return frame

    def render(self):
        return 255 - self._frame()


class Blind(Toy):
    """An environment that observes no pixels."""

    def _frame(self):
        return np.zeros(3, np.float32)


gymnasium.register("Toy-v0", Toy)
gymnasium.register("Blind-v0", Blind)
