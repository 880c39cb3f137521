"""What the planners share: noise in time, bounds of actions, imagined futures of many samples, fits to the best."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from world_models.core.sharding import split_batch
from world_models.core.types import Array
from world_models.planning.options import Search

# (states with leading [samples], actions float32 [samples, dim], key) -> the states after the step; where a model needs
# more than states to go on from, that in both places: see `rollout`.
Step = Callable[[Any, Array, Array], Any]
# (predicted states, leading [samples, horizon]; actions [samples, horizon, dim]; weights float32 [horizon], 0 for steps
# beyond those that are left) -> float32 [samples], the lower the better.
Cost = Callable[[Any, Array, Array], Array]


def coloured_noise(key: Array, shape: tuple[int, int, int], colour: float) -> Array:
    """Gaussian noise of unit variance whose power falls over frequency f as f^−colour along the middle axis.

    White noise goes through a circular filter, as in iCEM (Pinneri et al. 2020, section 3.1), whose own sampler draws
    in the frequency domain; the distribution is the same but at frequency 0, which counts as the lowest one above it.

    Args:
      key: of this draw.
      shape: (samples, horizon, dim).
      colour: 0 is white, 1 pink, 2 red: the larger, the longer samples keep a direction.

    Returns:
      Float32 of `shape`.
    """
    horizon = shape[1]
    white = jax.random.normal(key, shape)
    if not colour or horizon == 1:
        return white
    frequencies = np.abs(np.fft.fftfreq(horizon))
    gain = np.maximum(frequencies, 1 / horizon) ** (-colour / 2)
    gain /= np.sqrt(np.mean(gain**2))
    mixing = scipy.linalg.circulant(np.fft.ifft(gain).real).astype(np.float32)
    return jnp.einsum("ht,std->shd", mixing, white, precision="highest")


def project(search: Search, actions: Array) -> Array:
    """Actions [..., dim] within the bounds of a search: clipped to its box, then no longer than its `max_norm`.

    Actions that are too long are moved straight towards the shortest one of the box (0, where the box holds that), and
    so stay in the box.
    """
    low, high = search.box
    actions = jnp.clip(actions, jnp.asarray(low, jnp.float32), jnp.asarray(high, jnp.float32))
    if not search.max_norm:
        return actions
    nearest = jnp.asarray(search.nearest, jnp.float32)
    away = actions - nearest
    long = jnp.sum(actions**2, axis=-1, keepdims=True) > search.max_norm**2
    # |nearest + share * away| = max_norm is a quadratic equation for the share.
    square = jnp.where(long, jnp.sum(away**2, axis=-1, keepdims=True), 1)
    slope = jnp.sum(nearest * away, axis=-1, keepdims=True)
    rest = float(np.sum(search.nearest**2)) - search.max_norm**2  # at most 0
    share = (jnp.sqrt(jnp.maximum(slope**2 - square * min(rest, 0), 0)) - slope) / square
    return jnp.where(long, nearest + share * away, actions)


def first_distribution(search: Search, prior: tuple[Any, Any] | None = None) -> tuple[Array, Array]:
    """Mean and standard deviation, float32 [horizon, dim] each, that a search without a warm start begins with.

    They are the centre of its box and its `std`, or those of `prior`, [dim] each, in the environment's units.
    """
    found = (search.centre, search.absolute(search.std)) if prior is None else prior
    return tuple(jnp.broadcast_to(jnp.asarray(x, jnp.float32), (search.horizon, search.dim)) for x in found)


def rollout(step: Step, state: Any, actions: Array, key: Array, latent: Callable[[Any], Any] = lambda x: x) -> Any:
    """The states after each of the actions [samples, horizon, dim], leading [samples, horizon], all from one `state`.

    `latent` reads the state in a carry where `step` maps carries that hold more; `state` is then a carry, too.
    Inside `jax.set_mesh` the samples are split over the devices where their number divides.
    """
    samples, horizon = actions.shape[:2]
    start = jax.tree.map(lambda x: split_batch(jnp.broadcast_to(jnp.asarray(x), (samples, *jnp.shape(x)))), state)

    def body(states, inputs):
        tick, now = inputs
        states = step(states, now, jax.random.fold_in(key, tick))
        return states, latent(states)

    _, states = jax.lax.scan(body, start, (jnp.arange(horizon), jnp.moveaxis(actions, 1, 0)))
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), states)


def finite(costs: Array) -> tuple[Array, Array]:
    """(costs with +inf for NaN and −inf, int32 [] how many were not finite); +inf counts, and stays."""
    good = jnp.isfinite(costs)
    return jnp.where(good, costs, jnp.inf).astype(jnp.float32), jnp.sum(~good, dtype=jnp.int32)


def equal_weights(costs: Array) -> Array:
    """1/n each for the n finite ones of the costs [elites]; all 0 if there is none."""
    good = jnp.isfinite(costs).astype(jnp.float32)
    return good / jnp.maximum(jnp.sum(good), 1)


def softmax_weights(costs: Array, temperature: float) -> Array:
    """exp(−cost / temperature), normalized, of costs [elites]; 0 where infinite, all 0 if there is no finite one."""
    lowest = jnp.min(costs)
    raw = jnp.where(jnp.isfinite(costs), jnp.exp((lowest - costs) / temperature), 0)
    return raw / jnp.maximum(jnp.sum(raw), 1e-30)


def refit(elites: Array, weights: Array, mean: Array, std: Array, momentum: float) -> tuple[Array, Array]:
    """Weighted mean and standard deviation [horizon, dim] of elites [elites, horizon, dim], moved to from the old ones.

    Args:
      elites: sampled actions.
      weights: [elites], of sum 1; where all are 0, mean and std stay as they were.
      mean, std: the old ones.
      momentum: their share in the new ones.
    """
    average = jnp.einsum("e,ehd->hd", weights, elites, precision="highest")
    spread = jnp.sqrt(jnp.einsum("e,ehd->hd", weights, (elites - average) ** 2, precision="highest"))
    rate = jnp.where(jnp.sum(weights) > 0, 1 - momentum, 0)
    return mean + rate * (average - mean), std + rate * (spread - std)
