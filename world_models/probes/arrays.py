"""The arrays every probe takes, checked once."""

from typing import NamedTuple

import numpy as np

from world_models.core.errors import UserError
from world_models.core.types import Array


class Arrays(NamedTuple):
    """Features float32 [n, d] and labels int32 [n] in 0..num_classes - 1, for training and for testing."""

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


def checked(train_x: Array, train_y: Array, test_x: Array, test_y: Array, num_classes: int) -> Arrays:
    """The four arrays on the host, as float32 and int32.

    Raises:
      UserError: an array is empty, has another shape than said above or is not finite, a label is not an integer in
        range, or there are fewer than two classes.
    """
    if num_classes < 2:
        raise UserError(f"num_classes={num_classes} must be at least 2")
    arrays = Arrays(*_pair("train", train_x, train_y, num_classes), *_pair("test", test_x, test_y, num_classes))
    if arrays.train_x.shape[1] != arrays.test_x.shape[1]:
        raise UserError(
            f"test_x has {arrays.test_x.shape[1]} features a row and train_x {arrays.train_x.shape[1]}: "
            "both must come from one encoder"
        )
    return arrays


def _pair(name: str, x: Array, y: Array, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim != 2 or x.size == 0:
        raise UserError(f"{name}_x has shape {x.shape} and must be [examples, features], with at least one of each")
    if y.shape != x.shape[:1]:
        raise UserError(f"{name}_y has shape {y.shape} and must hold one label for each of the {len(x)} rows")
    if not np.issubdtype(y.dtype, np.integer):
        raise UserError(f"{name}_y has type {y.dtype} and must hold integers")
    if y.min() < 0 or y.max() >= num_classes:
        raise UserError(
            f"{name}_y holds labels {y.min()}..{y.max()} and num_classes={num_classes} allows 0..{num_classes - 1}"
        )
    x = x.astype(np.float32, copy=False)
    if not np.isfinite(x).all():
        raise UserError(
            f"{name}_x holds NaN or infinite features in {int((~np.isfinite(x)).any(1).sum())} of {len(x)} rows"
        )
    return x, y.astype(np.int32)
