"""Ridge regression onto one-hot labels: a linear probe in closed form, seconds on a processor, no step size to tune."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from world_models.core.errors import UserError
from world_models.core.types import Array
from world_models.probes import arrays

_ROWS = 8192
"""Rows that are float64 at a time."""

_RANK = 1e-12
"""Variance of a direction, relative to the greatest, below which it is rounding."""

_FOLDS = 10

_FEW = 2_000
"""Training rows below which every tenth is held out in turn: a tenth of a hundred labels alone chooses badly."""


class RidgeResult(NamedTuple):
    """Test accuracy in 0..1 and the penalty that held-out rows chose."""

    accuracy: float
    strength: float


def ridge_probe(
    train_x: Array,
    train_y: Array,
    test_x: Array,
    test_y: Array,
    num_classes: int,
    strengths: Sequence[float] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0),
) -> RidgeResult:
    """Least squares onto one-hot labels with an L2 penalty on the weights (not the intercept), and its test accuracy.

    Features are standardised by the training set's mean and deviation; one that does not vary is left out. A strength
    is relative to the number of rows: the objective is the mean squared error plus strength times the weights' squared
    norm. A tenth of the training set (the same for every run; of fewer than 2,000 rows each tenth in turn) is held out
    to choose the strength, by accuracy and among equals by squared error; the weights are then fitted to all of it.

    Args:
      train_x, test_x: float32 [n, d].
      train_y, test_y: int32 [n], 0..num_classes - 1.
      num_classes: how many classes there are.
      strengths: positive penalties to choose from.

    Raises:
      UserError: see `arrays.checked`; strengths are none or not positive; the training set has one row.
    """
    train_x, train_y, test_x, test_y = arrays.checked(train_x, train_y, test_x, test_y, num_classes)
    if not strengths or min(strengths) <= 0:
        raise UserError(f"strengths={tuple(strengths)} must be one or more positive numbers")
    if len(train_x) < 2:
        raise UserError("train_x has one row; ridge_probe needs at least two, one of which chooses the strength")
    scale = Standardiser.fit(train_x)
    if train_x.shape[1] > len(train_x):
        train_x, test_x, scale = _rotated(train_x, test_x, scale)
    everything = _moments(train_x, train_y, scale, num_classes)
    folds = np.array_split(np.random.default_rng(0).permutation(len(train_x)), min(_FOLDS, len(train_x)))
    if len(train_x) >= _FEW:
        folds = folds[:1]
    qualities = np.zeros((len(strengths), 2))
    for fold in folds:
        x, y = train_x[fold], train_y[fold]
        others = [total - part for total, part in zip(everything, _moments(x, y, scale, num_classes))]
        for row, strength in zip(qualities, strengths):
            row += _evaluate(_solve(*others, strength), x, y, scale)
    strength = max(zip(qualities.tolist(), strengths))[1]
    right, _ = _evaluate(_solve(*everything, strength), test_x, test_y, scale)
    return RidgeResult(right / len(test_x), float(strength))


class Standardiser(NamedTuple):
    """Subtracts a mean and divides by a deviation, both float64 [d]; what did not vary becomes 0."""

    mean: np.ndarray
    inverse: np.ndarray

    @classmethod
    def fit(cls, x: np.ndarray) -> "Standardiser":
        """Mean and population deviation of the columns of `x` [n, d]."""
        mean = np.mean(x, axis=0, dtype=np.float64)
        square = sum(np.sum((x[i : i + _ROWS] - mean) ** 2, axis=0) for i in range(0, len(x), _ROWS))
        deviation = np.sqrt(square / len(x))
        # A constant column's deviation is rounding, far below what float32 resolves.
        varies = deviation > 1e-7 * np.abs(mean)
        return cls(mean, np.where(varies, 1 / np.where(varies, deviation, 1), 0.0))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """float64 [n, d]."""
        return (x - self.mean) * self.inverse


def _rotated(train_x, test_x, scale) -> tuple[np.ndarray, np.ndarray, Callable]:
    """Standardised features in a basis of the training rows, n numbers instead of d > n, and a scale that leaves them.

    The penalty is the same in every orthonormal basis, and the best weights lie in the span of the training rows.
    """
    rows = scale(train_x)
    squares, vectors = np.linalg.eigh(rows @ rows.T)  # much faster than a decomposition of the rows
    kept = squares > _RANK * squares[-1]
    lengths, vectors = np.sqrt(squares[kept]), vectors[:, kept]
    rotate = lambda x: scale(x) @ rows.T @ (vectors / lengths)
    return (
        vectors * lengths,
        np.concatenate([rotate(test_x[i : i + _ROWS]) for i in range(0, len(test_x), _ROWS)]),
        lambda x: x,
    )


def _moments(x, y, scale, num_classes) -> tuple[np.ndarray, np.ndarray]:
    """Gram matrix [d + 1, d + 1] and cross products [d + 1, num_classes] of standardised rows that end in a 1."""
    gram = np.zeros((x.shape[1] + 1,) * 2)
    cross = np.zeros((x.shape[1] + 1, num_classes))
    for i in range(0, len(x), _ROWS):
        rows = _with_one(scale(x[i : i + _ROWS]))
        gram += rows.T @ rows
        cross += rows.T @ np.eye(num_classes)[y[i : i + _ROWS]]
    return gram, cross


def _solve(gram, cross, strength) -> np.ndarray:
    rows = gram[-1, -1]  # the ones that end them, summed
    penalty = np.full(len(gram), strength * rows)
    penalty[-1] = 0
    return np.linalg.solve(gram + np.diag(penalty), cross)


def _evaluate(weights, x, y, scale) -> tuple[int, float]:
    """How many rows are right, and minus the squared error over rows and classes; the greater both, the better."""
    right, error = 0, 0.0
    for i in range(0, len(x), _ROWS):
        labels = y[i : i + _ROWS]
        scores = _with_one(scale(x[i : i + _ROWS])) @ weights
        right += int(np.sum(np.argmax(scores, axis=1) == labels))
        error += float(np.sum((scores - np.eye(scores.shape[1])[labels]) ** 2))
    return right, -error


def _with_one(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, np.ones((len(x), 1))], axis=1)
