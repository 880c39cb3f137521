"""Which controls a page needs for an action space, and what each key does."""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from world_models.core.errors import UserError
from world_models.core.types import ActionSpec
from world_models.environments.gymnasium import make

MOST_BUTTONS, MOST_SLIDERS = 40, 24
# What the actions of well-known environments do, by the beginning of their ids.
NAMES: dict[str, tuple[str, ...]] = {
    "CarRacing": ("coast", "steer right", "steer left", "gas", "brake"),
    "LunarLander": ("coast", "left engine", "main engine", "right engine"),
    "CartPole": ("push left", "push right"),
    "Acrobot": ("torque -", "coast", "torque +"),
    "MountainCar": ("push left", "coast", "push right"),
    "MiniGrid": ("turn left", "turn right", "forward", "pick up", "drop", "toggle", "done"),
    "ALE/": (  # games with all actions; those with fewer are asked
        *("coast", "fire", "up", "right", "left", "down", "up right", "up left", "down right", "down left"),
        *("up fire", "right fire", "left fire", "down fire"),
        *("up right fire", "up left fire", "down right fire", "down left fire"),
    ),
}
AXES: dict[str, tuple[str, ...]] = {"CarRacing": ("steering", "gas", "brake"), "PushT": ("x", "y")}
# The first pattern in an action's name that is free gives it a key beside its number.
ARROWS = (
    ("left", "ArrowLeft"),
    ("right", "ArrowRight"),
    ("up", "ArrowUp"),
    ("gas", "ArrowUp"),
    ("forward", "ArrowUp"),
    ("main", "ArrowUp"),
    ("down", "ArrowDown"),
    ("brake", "ArrowDown"),
    ("fire", " "),
    ("toggle", " "),
)
PAIRS = (("ArrowLeft", "ArrowRight"), ("ArrowUp", "ArrowDown"), ("a", "d"), ("w", "s"), ("q", "e"), ("r", "f"))


def rest(actions: ActionSpec) -> np.ndarray:
    """The action of someone who touches nothing: 0, or the nearest number to it within the bounds."""
    if actions.kind == "discrete":
        return np.int32(0)
    return np.clip(np.zeros(actions.size, np.float32), np.float32(actions.low), np.float32(actions.high))


def describe(actions: ActionSpec, record: Mapping[str, Any]) -> dict[str, Any]:
    """The controls of an action space.

    Args:
      actions: the space.
      record: the `config.record` of the data, for names; may be empty.

    Returns:
      For discrete actions {"kind": "buttons", "rest", "buttons": [{"name", "keys", "of"}, …]}, "of" being the other
      actions that one combines, such as up and right; for continuous ones {"kind": "stick" (two numbers) or "sliders",
      "rest": [...], "axes": [{"name", "low", "high", "keys": {key: value}}, …]}.

    Raises:
      UserError: if no control can be made for the space.
    """
    environment = record.get("environment") or record.get("source") or ""
    if actions.kind == "discrete":
        return _buttons(actions, environment, record)
    return _axes(actions, environment)


def _named(table: Mapping[str, tuple[str, ...]], environment: str, size: int, other: str) -> list[str]:
    found = next((names for prefix, names in table.items() if prefix in environment and len(names) == size), None)
    return list(found) if found else [f"{other} {i}" for i in range(size)]


def _asked(record: Mapping[str, Any], size: int) -> list[str]:
    """What an Atari game itself says that its actions do, in words; none where it is not installed."""
    environment = record.get("environment") or ""
    if not environment.startswith("ALE/"):
        return []
    try:
        game = make(environment, dict(record.get("environment_kwargs") or {}), observation="observation")
    except UserError:
        return []
    words = [re.findall("UP|DOWN|RIGHT|LEFT|FIRE", meaning) for meaning in game.unwrapped.get_action_meanings()]
    game.close()
    return [" ".join(found).lower() or "coast" for found in words] if len(words) == size else []


def _buttons(actions: ActionSpec, environment: str, record: Mapping[str, Any]) -> dict[str, Any]:
    if not 1 <= actions.size <= MOST_BUTTONS:
        raise UserError(f"The model has {actions.size} discrete actions: play has buttons for 1 to {MOST_BUTTONS}.")
    buttons, used = [], set()
    names = _asked(record, actions.size) or _named(NAMES, environment, actions.size, "action")
    for i, name in enumerate(names):
        keys = [str(i + 1)] if i < 9 else []
        arrow = next((key for word, key in ARROWS if word in name.split() and key not in used), None)
        keys += [arrow] if arrow else []
        used |= set(keys)
        combined = len(name.split()) > 1 and set(name.split()) <= set(names)
        of = [names.index(word) for word in name.split()] if combined else []
        buttons.append({"name": name, "keys": keys, "of": of})
    return {"kind": "buttons", "rest": 0, "buttons": buttons}


def _axes(actions: ActionSpec, environment: str) -> dict[str, Any]:
    bounds = [*actions.low, *actions.high]
    if not 1 <= actions.size <= MOST_SLIDERS or len(bounds) != 2 * actions.size or not all(map(math.isfinite, bounds)):
        raise UserError(
            f"The model has continuous actions of {actions.size} numbers with bounds {list(actions.low)} to "
            f"{list(actions.high)}: play has sliders for 1 to {MOST_SLIDERS} numbers with finite bounds."
        )
    neutral, pairs, axes = rest(actions), list(PAIRS), []
    for i, name in enumerate(_named(AXES, environment, actions.size, "axis")):
        low, high = float(actions.low[i]), float(actions.high[i])
        axes.append({"name": name, "low": low, "high": high, "keys": {}})
    is_stick = actions.size == 2 and all(a["low"] < r < a["high"] for a, r in zip(axes, neutral))
    for i, axis in enumerate(axes):
        one_sided = axis["low"] >= neutral[i]
        if one_sided and pairs:  # a pedal: the first is the upper key of a pair, the next one the lower
            key = _pedal(pairs, axes[:i])
            axis["keys"] = {key: axis["high"]}
        elif pairs:
            less, more = pairs.pop(0)
            axis["keys"] = {less: axis["low"], more: axis["high"]}  # on the screen y grows downwards
    return {"kind": "stick" if is_stick else "sliders", "rest": [float(x) for x in neutral], "axes": axes}


def _pedal(pairs: list[tuple[str, str]], before: list[dict[str, Any]]) -> str:
    """The next free key of the first pair, which is used up after its second key."""
    up, down = pairs[0] if pairs[0][0] != "ArrowLeft" else pairs[1]
    if any(up in axis["keys"] for axis in before):
        pairs.remove((up, down))
        return down
    return up


def check(actions: ActionSpec, value: Any) -> np.ndarray:
    """An action that a page sent, within the bounds.

    Raises:
      ValueError: if it is none of the space.
    """
    if actions.kind == "discrete":
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < actions.size:
            raise ValueError(f"action must be a whole number from 0 to {actions.size - 1}")
        return np.int32(value)
    numbers = isinstance(value, list) and all(isinstance(x, int | float) and not isinstance(x, bool) for x in value)
    if not numbers or len(value) != actions.size or not all(abs(x) < 1e30 for x in value):
        raise ValueError(f"action must be {actions.size} finite numbers")
    return np.clip(np.float32(value), np.float32(actions.low), np.float32(actions.high))


class Held:
    """The action that a player holds. A short tap counts for one step; of many inputs between two steps two count."""

    def __init__(self, action: np.ndarray):
        """Input 0 is `action`, that of someone who touches nothing."""
        self._rest = action
        self._now: tuple[int, np.ndarray] = (0, action)
        self._next: tuple[int, np.ndarray] | None = None
        self._is_taken = True

    def put(self, seq: int, action: np.ndarray) -> None:
        """An input with its number."""
        released = not self._is_taken and np.array_equal(self._now[1], self._rest)
        if (self._is_taken or released) and self._next is None:
            self._now, self._is_taken = (seq, action), False
        else:
            self._next = (seq, action)  # an earlier one that waits is stale

    def take(self) -> tuple[int, np.ndarray]:
        """(number of the input, action) for a step."""
        if self._is_taken and self._next is not None:
            self._now, self._next = self._next, None
        self._is_taken = True
        return self._now
