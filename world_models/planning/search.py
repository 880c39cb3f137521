"""Search for a sequence of continuous actions whose imagined future costs least: CEM, iCEM, MPPI, gradient descent.

Everything is for one state and pure, a scan over iterations around a scan over the horizon; callers `jax.vmap` over
episodes. Inside `jax.set_mesh` samples are split over the devices (data x fsdp) where their number divides.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from world_models.core.sharding import split_batch
from world_models.core.types import Array
from world_models.planning import costs as cost_terms
from world_models.planning import sampling
from world_models.planning.options import Search
from world_models.planning.sampling import Cost, Step

Distribution = tuple[Array, Array]  # mean and standard deviation of actions, float32 [horizon, dim] each


class Plan(NamedTuple):
    """What a search found.

    Attributes:
      actions: float32 [horizon, dim].
      states: predicted after each action, leading [horizon]; after the last that may be done, its state stays.
      cost: float32 [], of this plan.
      history: float32 [iterations], lowest cost of a sample so far.
      std: float32 [horizon, dim], of the distribution at the end.
      not_finite: int32 [], costs that were NaN or infinite and counted as +inf.
    """

    actions: Array
    states: Any
    cost: Array
    history: Array
    std: Array
    not_finite: Array


class Found(NamedTuple):
    """What a method hands to `solve`; see `Plan`."""

    actions: Array
    history: Array
    std: Array
    not_finite: Array


def solve(
    search: Search,
    step: Step,
    cost: Cost,
    state: Any,
    key: Array,
    start: Distribution | None = None,
    steps_left: Array | int | None = None,
    latent: Callable[[Any], Any] = lambda carry: carry,
) -> Plan:
    """Searches for the actions from `state` whose predicted future costs least.

    Calls `step` with `samples` rows horizon x iterations times, and with one row `horizon` times for the plan itself.

    Args:
      search: how.
      step: the model, for a batch of states.
      cost: of futures; see `world_models.planning.costs` for the common ones.
      state: where the plan starts, a pytree without a batch axis.
      key: the same key gives the same plan.
      start: mean and standard deviation in the environment's units that the search starts from (see `shift`); None is
        the centre of the box and `search.std`, see `sampling.first_distribution`.
      steps_left: actions that may still be done: later ones weigh 0 in the cost. None: no end in sight.
      latent: makes states of what `step` goes on from, see `sampling.rollout`; the cost and the plan have these.
    """
    shape = (search.horizon, search.dim)
    mean, std = sampling.first_distribution(search) if start is None else start
    mean, std = (jnp.broadcast_to(jnp.asarray(x, jnp.float32), shape) for x in (mean, std))
    weights = cost_terms.step_weights(search.horizon, steps_left)

    def futures(actions, key):
        states = sampling.rollout(step, state, actions, key, latent)
        return cost(states, actions, weights), states

    search_key, last_key = jax.random.split(key)
    found = METHODS[search.method](search, lambda *inputs: futures(*inputs)[0], (mean, std), search_key)
    costs, states = futures(found.actions[None], last_key)
    costs, bad = sampling.finite(costs)
    done = jnp.minimum(jnp.arange(search.horizon), jnp.sum(weights > 0) - 1)  # later actions cost nothing: noise
    states = jax.tree.map(lambda x: x[0, done], states)
    return Plan(found.actions, states, costs[0], found.history, found.std, found.not_finite + bad)


def shift(search: Search, plan: Plan, steps: Array | int = 1) -> Distribution:
    """A warm start for `solve` from the plan of `steps` ticks ago.

    The plan's last action is repeated at the end. The standard deviation is the first again: that of the old search,
    which converged, would find nothing new.
    """
    later = jnp.minimum(jnp.arange(search.horizon) + steps, search.horizon - 1)
    return plan.actions[later], sampling.first_distribution(search)[1]


def cem(search: Search, evaluate: Callable[[Array, Array], Array], start: Distribution, key: Array) -> Found:
    """The cross-entropy method: fits a Gaussian to its best samples, again and again (Rubinstein 1999)."""
    return _refine(search, evaluate, start, key, sampling.equal_weights)


def icem(search: Search, evaluate: Callable[[Array, Array], Array], start: Distribution, key: Array) -> Found:
    """CEM that keeps a share of the elites in the population (Pinneri et al. 2020); give it coloured noise.

    The number of samples stays the same over iterations, where the paper lets it fall: shapes are static.
    """
    return _refine(search, evaluate, start, key, sampling.equal_weights, keep=math.ceil(search.keep * search.elites))


def mppi(search: Search, evaluate: Callable[[Array, Array], Array], start: Distribution, key: Array) -> Found:
    """Model-predictive path integral: elites weigh exp(−cost / temperature), as in TD-MPC2 (Hansen et al. 2024).

    With as many elites as samples this is the MPPI of Williams et al. 2017 without its control cost.
    """
    return _refine(search, evaluate, start, key, lambda costs: sampling.softmax_weights(costs, search.temperature))


def gradient(search: Search, evaluate: Callable[[Array, Array], Array], start: Distribution, key: Array) -> Found:
    """AdamW down the cost, through the model, from `samples` starts; the best sequence met is the plan.

    Its steps are in units of `search.scale`, since AdamW's are of about `learning_rate` whatever the slope. A sequence
    is projected onto the bounds after each step; since AdamW scales each number's step by itself, it may settle beside
    the best point of a `max_norm` that binds. Gradients that are not finite count as 0.
    """
    optimizer = optax.adamw(search.learning_rate, weight_decay=search.weight_decay)
    draw_key, key = jax.random.split(key)
    actions = _samples(search, *start, draw_key)
    centre, scale = (jnp.asarray(x, jnp.float32) for x in (search.centre, search.scale))

    def total(actions, key):
        costs = evaluate(actions, key)
        return jnp.sum(costs), costs

    def iteration(carry, i):
        actions, moments, best, not_finite = carry
        slopes, costs = jax.grad(total, has_aux=True)(actions, jax.random.fold_in(key, i))
        costs, bad = sampling.finite(costs)
        best = _better(best, actions, costs)
        slopes = jnp.where(jnp.isfinite(slopes), slopes, 0) * scale
        units = (actions - centre) / jnp.where(scale > 0, scale, 1)
        updates, moments = optimizer.update(slopes, moments, units)
        actions = sampling.project(search, actions + updates * scale)
        return (actions, moments, best, not_finite + bad), best[1]

    first = (actions, optimizer.init(actions), (actions[0], jnp.float32(jnp.inf)), jnp.int32(0))
    (_, _, best, not_finite), history = jax.lax.scan(iteration, first, jnp.arange(search.iterations))
    return Found(best[0], history, start[1], not_finite)


METHODS = {"cem": cem, "icem": icem, "mppi": mppi, "gradient": gradient}


def _refine(search, evaluate, start, key, weigh, keep=0) -> Found:
    """Samples, picks elites, refits: what CEM, iCEM and MPPI share."""
    draw_key, model_key, choice_key = jax.random.split(key, 3)

    def iteration(carry, i):
        mean, std, elites, _, best, not_finite = carry
        actions = _samples(search, mean, std, jax.random.fold_in(draw_key, i))
        if keep:
            kept = jnp.where(i > 0, elites[:keep], actions[1 : keep + 1])
            actions = actions.at[1 : keep + 1].set(kept)
        costs, bad = sampling.finite(evaluate(split_batch(actions), jax.random.fold_in(model_key, i)))
        _, order = jax.lax.top_k(-costs, search.elites)
        elites, weights = actions[order], weigh(costs[order])
        mean, std = sampling.refit(elites, weights, mean, std, search.momentum)
        std = jnp.clip(std, search.absolute(search.min_std), search.absolute(search.max_std))
        best = _better(best, actions, costs)
        return (mean, std, elites, weights, best, not_finite + bad), best[1]

    mean, std = start
    elites = jnp.zeros((search.elites, *mean.shape))
    best = (sampling.project(search, mean), jnp.float32(jnp.inf))
    first = (mean, std, elites, jnp.zeros(search.elites), best, jnp.int32(0))
    last, history = jax.lax.scan(iteration, first, jnp.arange(search.iterations))
    mean, std, elites, weights, best, not_finite = last
    if search.choose == "best":
        actions = best[0]
    elif search.choose == "sample":
        actions = elites[jax.random.categorical(choice_key, jnp.log(weights))]
    else:
        actions = sampling.project(search, mean)
    return Found(actions, history, std, not_finite)


def _samples(search: Search, mean: Array, std: Array, key: Array) -> Array:
    """Action sequences [samples, horizon, dim] within the bounds, the mean first."""
    noise = sampling.coloured_noise(key, (search.samples, *mean.shape), search.colour)
    return split_batch(sampling.project(search, (mean + std * noise).at[0].set(mean)))


def _better(best: tuple[Array, Array], actions: Array, costs: Array) -> tuple[Array, Array]:
    """The (actions, cost) of the best sequence so far."""
    index = jnp.argmin(costs)
    better = costs[index] < best[1]
    return jnp.where(better, actions[index], best[0]), jnp.minimum(costs[index], best[1])
