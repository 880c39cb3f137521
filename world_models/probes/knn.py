"""The k-nearest-neighbour probe: no training at all, only whether neighbours in feature space share a class."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from world_models.core.errors import UserError
from world_models.core.types import Array
from world_models.probes import arrays

_BLOCK = 256
"""Test rows at a time; the similarities in memory are this times the training rows."""


def knn_probe(
    train_x: Array,
    train_y: Array,
    test_x: Array,
    test_y: Array,
    num_classes: int,
    k: int = 20,
    temperature: float = 0.07,
) -> float:
    """Accuracy in 0..1 of a vote among the k training rows of greatest cosine similarity.

    Each votes for its class with weight exp(similarity / temperature) (Wu et al. 2018, section 3.4).

    Args:
      train_x, test_x: float32 [n, d].
      train_y, test_y: int32 [n], 0..num_classes - 1.
      num_classes: how many classes there are.
      k: how many neighbours vote, at most the training rows.
      temperature: positive; the smaller, the more the nearest count.

    Raises:
      UserError: see `arrays.checked`; k or temperature is out of range.
    """
    train_x, train_y, test_x, test_y = arrays.checked(train_x, train_y, test_x, test_y, num_classes)
    if not 1 <= k <= len(train_x):
        raise UserError(f"k={k} must be between 1 and the {len(train_x)} rows of train_x")
    if temperature <= 0:
        raise UserError(f"temperature={temperature} must be positive")
    predicted = _vote(train_x, train_y, test_x, temperature, num_classes, k)
    return float(np.mean(np.asarray(predicted) == test_y))


@functools.partial(jax.jit, static_argnames=("num_classes", "k"))
def _vote(train_x, train_y, test_x, temperature, num_classes, k):
    train_x = _normalised(train_x)

    def vote(row):
        similarity, nearest = jax.lax.top_k(jnp.matmul(train_x, row, precision="highest"), k)
        # Relative to the nearest, so that a low temperature cannot overflow.
        weights = jnp.exp((similarity - similarity[0]) / temperature)
        return jnp.argmax(jnp.zeros(num_classes).at[train_y[nearest]].add(weights))

    return jax.lax.map(vote, _normalised(test_x), batch_size=_BLOCK)


def _normalised(x):
    return x / jnp.maximum(jnp.linalg.norm(x, axis=1, keepdims=True), 1e-12)
