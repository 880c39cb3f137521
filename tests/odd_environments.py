"""Gymnasium environments and policies with the habits that spoil recordings. Importing registers them."""

import gymnasium
import numpy as np


class Careless(gymnasium.Env):
    """Keeps one array each for frames, and one dictionary for infos, and overwrites the actions it is given.

    A frame shows (steps since reset, 10 times the action as it came in, resets of this instance).
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    action_space = gymnasium.spaces.Box(0.0, 20.0, (1,), np.float32)
    observation_space = gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8)

    def __init__(self, length=7, wrong="", render_mode=None):
        if wrong == "init":
            raise RuntimeError("no licence")
        self.render_mode, self._length, self._wrong, self._resets = render_mode, length, wrong, 0
        self._frame, self._info = np.zeros((8, 8, 3), np.uint8), {}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if self._wrong == "reset":
            raise RuntimeError("no scene")
        self._t, self._resets = 0, self._resets + 1
        self._frame[:] = (0, 0, self._resets)
        return self._frame, self._info

    def step(self, action):
        if self._wrong == "exit":
            raise SystemExit(3)
        self._t += 1
        self._frame[..., :2] = self._t, round(10 * float(action[0]))
        self._info["t"] = self._t
        action[:] = 0
        return self._frame, 1.0, self._t == self._length, False, self._info

    def render(self):
        return self._frame


class OldReset(Careless):
    """Has the reset of the time before Gymnasium."""

    def reset(self):
        return super().reset()[0]


class OldReturn(Careless):
    """Returns an observation alone."""

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0]


class OldStep(Careless):
    """Returns one `done`."""

    def step(self, action):
        observed, reward, terminated, _, info = super().step(action)
        return observed, reward, terminated, info


class Cameras(gymnasium.Env):
    """Observes a dictionary with the same picture, 6 high and 10 wide, in several forms."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode
        self.observation_space = gymnasium.spaces.Dict({
            "rgb": gymnasium.spaces.Box(0, 255, (6, 10, 3), np.uint8),
            "rgba": gymnasium.spaces.Box(0, 255, (6, 10, 4), np.uint8),
            "camera": gymnasium.spaces.Dict({
                "first": gymnasium.spaces.Box(0, 255, (3, 6, 10), np.uint8),
                "gray": gymnasium.spaces.Box(0, 255, (6, 10), np.uint8),
                "float": gymnasium.spaces.Box(0.0, 1.0, (6, 10, 3), np.float64),
            }),
            "stack": gymnasium.spaces.Box(0, 255, (4, 6, 10), np.uint8),
        })  # fmt: skip

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._observed(), {}

    def step(self, action):
        return self._observed(), 0.0, False, False, {}

    def _observed(self):
        image = picture()
        alpha = np.zeros((6, 10, 1), np.uint8)
        return {
            "rgb": image,
            "rgba": np.concatenate([image, alpha], axis=-1),
            "camera": {"first": np.moveaxis(image, -1, 0), "gray": image[..., 0], "float": image / 255},
            "stack": np.zeros((4, 6, 10), np.uint8),
        }


def picture():
    """What `Cameras` see, uint8 [6, 10, 3]."""
    return np.arange(180, dtype=np.uint8).reshape(6, 10, 3)


def refill(environment, rng):
    """A policy that gives the same array each time, with 1, 2, 3, ... in it."""
    action = np.zeros(1, np.float32)
    count = 0

    def act(observed):
        nonlocal count
        count += 1
        action[:] = count
        return action

    return act


def rising(environment, rng):
    """A policy whose fourth action is out of the bounds of `Careless`."""
    given = iter([5.0, 10.0, 20.0, 20.5])
    return lambda observed: np.array([next(given)], np.float32)


def nan(environment, rng):
    """A policy whose network has diverged."""
    return lambda observed: np.array([np.nan], np.float32)


def broken(environment, rng):
    """A policy that cannot act."""
    raise KeyError("weights")


for _cls in (Careless, OldReset, OldReturn, OldStep, Cameras):
    gymnasium.register(f"{_cls.__name__}-v0", _cls)
