"""A Gymnasium environment whose frames spell out its state, for tests of recording. Importing registers it."""

import os
import time

import gymnasium
import numpy as np


class CrashError(Exception):
    """An exception that cannot be sent between processes, as those of some simulators."""

    def __init__(self, what, where):
        super().__init__(f"{what} came off {where}")


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
        self._seed, self._t, self._last = seed or 0, (options or {}).get("begin", 0), 0
        return self._frame(), {}

    def step(self, action):
        time.sleep(self._slow)
        self._t += 1
        self._last = int(np.ravel(action)[0])
        if self._seed % 4 == self._fail_at:
            raise CrashError("the wheels", "the car")
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


class Dot(gymnasium.Env):
    """A white dot that moves by a fifth of the action in a square of side 4; observed is where it is."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    observation_space = gymnasium.spaces.Box(0.0, 4.0, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, length=100, forgetful=False, noise=0.0, shared=False, buttons=False, render_mode=None):
        self.render_mode = render_mode
        self._length, self._forgetful, self._noise, self._shared = length, forgetful, noise, shared
        if buttons:
            self.action_space = gymnasium.spaces.MultiBinary(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        rng = np.random.default_rng() if self._forgetful else np.random if self._shared else self.np_random
        self._at, self._t = rng.uniform(0.0, 4.0, 2).astype(np.float32), 0
        return self._at, {}

    def step(self, action):
        noise = self._noise * np.random.default_rng().normal(size=2)
        self._at = np.clip(self._at + 0.2 * np.clip(action, -1, 1) + noise, 0, 4).astype(np.float32)
        self._t += 1
        return self._at, 0.0, self._t == self._length, False, {"place": self._at.copy()}

    def render(self):
        frame = np.zeros((16, 16, 3), np.uint8)
        column, row = np.minimum(3 * self._at, 13).astype(int)
        frame[row : row + 3, column : column + 3] = 255
        return frame


def near(observed, goal):
    """Whether a `Dot` is where it was to go."""
    return bool(np.linalg.norm(observed - goal) < 0.3)


def never(observed, goal):
    """Says of no place that it is reached."""
    return False


gymnasium.register("Toy-v0", Toy)
gymnasium.register("Dot-v0", Dot)
gymnasium.register("Blind-v0", Blind)
