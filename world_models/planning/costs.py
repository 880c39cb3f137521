"""Costs of imagined futures, small and to be added up: see `world_models.planning.sampling.Cost`."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from world_models.core.errors import UserError
from world_models.core.types import Array
from world_models.planning.sampling import Cost


def step_weights(horizon: int, steps_left: Array | int | None = None) -> Array:
    """1 for each of the first `steps_left` steps (at least one), 0 for later ones: float32 [horizon]."""
    if steps_left is None:
        return jnp.ones(horizon)
    return (jnp.arange(horizon) < jnp.maximum(steps_left, 1)).astype(jnp.float32)


def squared_error(state: Array, goal: Array) -> Array:
    """Mean squared difference over the last axis; state [..., d], goal [d]."""
    return jnp.mean((state - goal) ** 2, axis=-1)


def to_goal(distance: Callable[[Any, Any], Array], goal: Any, over: str = "last") -> Cost:
    """The distance of predicted states to a goal.

    Args:
      distance: of states, leading [...], to the goal: float32 [...].
      goal: a state without a batch axis.
      over: "last" for the last step that has weight, "sum" for the weighted sum over all of them. The sum rewards
        early arrival, but punishes a detour; the last state allows it.

    Raises:
      UserError: for another `over`.
    """
    if over == "last":

        def cost(states, actions, weights):
            last = jnp.max(jnp.where(weights > 0, jnp.arange(weights.shape[0]), 0))
            return distance(jax.tree.map(lambda x: jnp.take(x, last, axis=1), states), goal)

    elif over == "sum":

        def cost(states, actions, weights):
            return jnp.sum(distance(states, goal) * weights, axis=-1)

    else:
        raise UserError(f"cost={over!r} must be 'last' or 'sum'.")
    return cost


def action_norm(weight: float) -> Cost:
    """`weight` times the squared length of actions, summed over the steps that have weight."""
    return lambda states, actions, weights: weight * jnp.sum(actions**2 * weights[:, None], axis=(-2, -1))


def gaussian_prior(mean: Array, std: Array, weight: float = 1.0) -> Cost:
    """`weight` times the negative log-likelihood of actions, in nats, summed over the steps that have weight.

    Keeps macro-actions where the model knows them. (The released code of HWM, arXiv 2604.03208, computes the
    penalty and leaves it out of the cost.)

    Args:
      mean, std: of a Gaussian with independent components, float32 [dim] each.
      weight: 0 for none.
    """

    def cost(states, actions, weights):
        nats = 0.5 * ((actions - mean) / std) ** 2 + jnp.log(std) + 0.5 * math.log(2 * math.pi)
        return weight * jnp.sum(nats * weights[:, None], axis=(-2, -1))

    return cost


def total(*terms: Cost) -> Cost:
    """The sum of costs."""
    return lambda states, actions, weights: sum(term(states, actions, weights) for term in terms)
