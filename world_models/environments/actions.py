"""Actions of Gymnasium's spaces: how a data set describes and stores them. Worker processes import it: no JAX."""

from typing import Any

import numpy as np

from world_models.core.errors import ConfigError

_ROUNDING = 1e-6  # of float32, relative to a bound


def describe_actions(space: Any, name: str) -> dict[str, Any]:
    """An action space as the data set stores it: kind, size, and bounds where they are finite.

    Raises:
      UserError: if it is neither Discrete nor Box nor MultiBinary.
    """
    kind = type(space).__name__
    if kind == "Discrete":
        return {"kind": "discrete", "size": int(space.n), "low": [], "high": []}
    if kind == "MultiBinary":
        size = int(np.prod(space.shape))
        return {"kind": "continuous", "size": size, "low": [0.0] * size, "high": [1.0] * size}
    if kind == "Box":
        low, high = (np.asarray(bound, np.float64).ravel() for bound in (space.low, space.high))
        finite = bool(np.isfinite(low).all() and np.isfinite(high).all())
        bounds = {"low": low.tolist() if finite else [], "high": high.tolist() if finite else []}
        return {"kind": "continuous", "size": len(low), **bounds}
    raise ConfigError(
        "config.record.environment",
        f"config.record.environment={name!r} has actions of space {space}, which models here do not take: "
        "Discrete, Box and MultiBinary work; wrap the environment to give one of them.",
    )


def to_array(space: Any, action: Any) -> np.ndarray:
    """A copy of an action as it is stored: int64 from 0 for Discrete, else a float32 vector.

    Raises:
      ValueError: if it is no action of the space.
    """
    try:
        if type(space).__name__ == "Discrete":
            return _index(space, action)
        return _vector(space, action)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{action!r} is no action of {space}{_reason(error)}") from error


class _OutsideError(ValueError):
    """An action of the right form that the space does not hold."""


def _reason(error: Exception) -> str:
    return f": {error}" if isinstance(error, _OutsideError) else ""


def _index(space: Any, action: Any) -> np.ndarray:
    index = int(action) - int(space.start)
    if index != action - space.start or not 0 <= index < space.n:
        raise _OutsideError(f"it must be a whole number from {space.start} to {space.start + space.n - 1}")
    return np.array(index, np.int64)


def _vector(space: Any, action: Any) -> np.ndarray:
    vector = np.array(action, np.float32)
    if vector.size != np.prod(space.shape, dtype=int):
        raise _OutsideError(f"it must be of shape {space.shape}")
    vector = vector.ravel()
    if not np.isfinite(vector).all():
        raise _OutsideError("it must be finite")
    if type(space).__name__ == "Box":
        low, high = (np.asarray(bound, np.float64).ravel() for bound in (space.low, space.high))
        low = low - np.where(np.isfinite(low), _ROUNDING * np.maximum(1, np.abs(low)), 0)
        high = high + np.where(np.isfinite(high), _ROUNDING * np.maximum(1, np.abs(high)), 0)
    else:
        low, high = 0, 1
    if ((vector < low) | (vector > high)).any():
        raise _OutsideError("it must be inside of the bounds; let the policy clip it")
    return vector
