"""MAE's linear probe: batch normalisation without affine, one linear layer, LARS (He et al. 2021, appendix A.1)."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from world_models.core.errors import UserError
from world_models.core.types import Array
from world_models.probes import arrays

_EPSILON = 1e-6
_RUNNING = 0.1
"""The share of a batch in the running statistics at every step."""

_HELD_OUT = 10
"""One training row of so many chooses among learning rates."""


class LinearProbe(NamedTuple):
    """A trained probe: kernel [d, classes], bias [classes], and the running mean and variance [d] of the features."""

    kernel: jax.Array
    bias: jax.Array
    mean: jax.Array
    variance: jax.Array

    def logits(self, x: Array) -> jax.Array:
        """float32 [n, classes] of features [n, d], normalised by the running statistics."""
        return _linear((self.kernel, self.bias), x, self.mean, self.variance)


def linear_probe(
    train_x: Array,
    train_y: Array,
    test_x: Array,
    test_y: Array,
    num_classes: int,
    *,
    batch_size: int = 16384,
    epochs: int = 90,
    warmup_epochs: int = 10,
    base_learning_rates: Sequence[float] = (0.1,),
    seed: int = 0,
) -> float:
    """Test accuracy in 0..1 of MAE's linear probe on features held in memory (Table 10; no augmentation).

    LARS with momentum 0.9 and trust 0.001, no weight decay; the learning rate base_learning_rate * batch_size / 256
    warms up linearly and falls to 0 along half a cosine, step by step. Normalisation uses the whole batch in training
    and running statistics (momentum 0.1, unbiased variance) in testing. Of several base learning rates, a tenth of the
    training set, held out for that alone, chooses the probe that does best on it. That one is used as it is: trained
    again on all rows, a probe at a rate that is almost too high may end far from what was chosen.

    Args:
      train_x, test_x: float32 [n, d].
      train_y, test_y: int32 [n], 0..num_classes - 1.
      num_classes: how many classes there are.
      batch_size: rows a step; every epoch is a new order, and rows that do not fill a batch wait for the next epoch.
      epochs, warmup_epochs: lengths of the schedule.
      base_learning_rates: for 256 rows; one, or some to choose from.
      seed: of the first weights and of the orders.

    Raises:
      UserError: see `arrays.checked`; the batch has one row, or more than there are to train on; warm-up takes all; a
        learning rate is not positive, or there is none.
    """
    train_x, train_y, test_x, test_y = arrays.checked(train_x, train_y, test_x, test_y, num_classes)
    rates = tuple(base_learning_rates)
    if not rates or not min(rates) > 0:
        raise UserError(f"base_learning_rates={rates} must be one or more positive numbers")
    if not 0 <= warmup_epochs < epochs:
        raise UserError(f"warmup_epochs={warmup_epochs} must be at least 0 and less than epochs={epochs}")
    order = np.random.default_rng(0).permutation(len(train_x))  # the same for every run
    held_out, others = np.split(order, [max(1, len(order) // _HELD_OUT) if len(rates) > 1 else 0])
    if not 2 <= batch_size <= len(others):
        raise UserError(f"batch_size={batch_size} must be between 2 and the {len(others)} rows of train_x to train on")

    sizes = {"num_classes": num_classes, "batch_size": batch_size, "epochs": epochs, "warmup_epochs": warmup_epochs}
    learn = lambda rate: fit(jax.random.key(seed), train_x[others], train_y[others], rate * batch_size / 256, **sizes)
    accuracy = lambda probe, x, y: float(np.mean(np.asarray(probe.logits(x)).argmax(axis=1) == y))
    probes = [learn(rate) for rate in rates]
    if len(held_out):
        probes.sort(key=lambda probe: accuracy(probe, train_x[held_out], train_y[held_out]))
    return accuracy(probes[-1], test_x, test_y)


@functools.partial(jax.jit, static_argnames=("num_classes", "batch_size", "epochs", "warmup_epochs"))
def fit(
    key: jax.Array,
    x: Array,
    y: Array,
    learning_rate: float,
    *,
    num_classes: int,
    batch_size: int,
    epochs: int,
    warmup_epochs: int,
) -> LinearProbe:
    """Train the probe on features [n, d] and labels [n]; see `linear_probe`.

    The order of epoch e is `permutation(fold_in(key, e + 1), n)`; the kernel is drawn with `fold_in(key, 0)`.
    """
    steps = len(x) // batch_size
    if warmup_epochs:
        schedule = optax.warmup_cosine_decay_schedule(0, 1, warmup_epochs * steps, epochs * steps)
    else:
        schedule = optax.cosine_decay_schedule(1, epochs * steps)
    optimiser = lars(lambda count: learning_rate * schedule(count))
    kernel = 0.01 * jax.random.normal(jax.random.fold_in(key, 0), (x.shape[1], num_classes))
    weights = (kernel, jnp.zeros(num_classes))
    statistics = (jnp.zeros(x.shape[1]), jnp.ones(x.shape[1]))

    def loss(weights, rows, labels):
        mean, variance = jnp.mean(rows, axis=0), jnp.var(rows, axis=0)
        logits = _linear(weights, rows, mean, variance)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return jnp.mean(losses), (mean, variance * (batch_size / (batch_size - 1)))

    def step(carry, chosen):
        weights, state, statistics = carry
        gradient, batch_statistics = jax.grad(loss, has_aux=True)(weights, x[chosen], y[chosen])
        updates, state = optimiser.update(gradient, state, weights)
        statistics = optax.incremental_update(batch_statistics, statistics, _RUNNING)
        return (optax.apply_updates(weights, updates), state, statistics), None

    def epoch(carry, index):
        order = jax.random.permutation(jax.random.fold_in(key, index + 1), len(x))
        return jax.lax.scan(step, carry, order[: steps * batch_size].reshape(steps, batch_size))

    x, y = jnp.asarray(x), jnp.asarray(y)
    carry = (weights, optimiser.init(weights), statistics)
    (weights, _, statistics), _ = jax.lax.scan(epoch, carry, jnp.arange(epochs))
    return LinearProbe(*weights, *statistics)


def lars(
    learning_rate: optax.ScalarOrSchedule, momentum: float = 0.9, trust: float = 0.001
) -> optax.GradientTransformation:
    """LARS as MAE has it: parameters of one dimension take plain momentum, and the rate scales what momentum gathered.

    `optax.lars` scales by the rate before momentum, which differs where the rate changes.
    """
    adapted = optax.masked(
        optax.scale_by_trust_ratio(trust_coefficient=trust), lambda weights: jax.tree.map(lambda w: w.ndim > 1, weights)
    )
    return optax.chain(adapted, optax.trace(momentum), optax.scale_by_learning_rate(learning_rate))


def _linear(weights, x, mean, variance):
    kernel, bias = weights
    return jnp.matmul((x - mean) * jax.lax.rsqrt(variance + _EPSILON), kernel, precision="highest") + bias
