"""Tree search for discrete actions: Gumbel MuZero of the mctx library."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from world_models.core.errors import UserError
from world_models.core.types import Array


@dataclasses.dataclass(frozen=True)
class TreeSearch:
    """How a tree is searched.

    Attributes:
      actions: number of actions in every state.
      simulations: paths from the root, each with one evaluation of the model.
      discount: of rewards, a step.
      depth: longest path, 0 for no limit.
      considered: actions at the root that are tried at all; drawn by `logits` where these are fewer than `actions`.

    Raises:
      UserError: on values that cannot work, naming the field.
    """

    actions: int
    simulations: int
    discount: float = 0.99
    depth: int = 0
    considered: int = 16

    def __post_init__(self):
        """Refuses what cannot work."""
        rules = {
            "actions": (self.actions >= 1, "be at least 1"),
            "simulations": (self.simulations >= 1, "be at least 1"),
            "discount": (0 < self.discount <= 1, "lie in (0, 1]"),
            "depth": (self.depth >= 0, "be 0 (no limit) or more"),
            "considered": (self.considered >= 1, "be at least 1"),
        }
        for name, (good, would_do) in rules.items():
            if not good:
                raise UserError(f"{name}={getattr(self, name)!r} of a tree search must {would_do}.")


class Choice(NamedTuple):
    """What a tree search found.

    Attributes:
      action: int32 [].
      weights: float32 [actions], the improved policy at the root.
      value: float32 [], of the root, discounted rewards from there.
    """

    action: Array
    weights: Array
    value: Array


def tree_search(
    search: TreeSearch,
    step: Callable[[Any, Array, Array], tuple[Any, Array]],
    value: Callable[[Any], Array],
    state: Any,
    key: Array,
    logits: Callable[[Any], Array] | None = None,
) -> Choice:
    """Searches a tree of discrete actions (Danihelka et al. 2022), for one state; `jax.vmap` it over episodes.

    Args:
      search: how.
      step: (states with leading [n], actions int32 [n], key) -> (the states after it, rewards float32 [n]); costs are
        negative rewards.
      value: of states: float32 [n]; what is hoped for beyond the tree, negative distances to a goal, say.
      state: the root, a pytree without a batch axis.
      key: the same key gives the same choice.
      logits: of a policy to start from, of states: float32 [n, actions]; None: all actions alike.

    Raises:
      UserError: if mctx is not there.
    """
    try:
        import mctx
    except ImportError as error:
        raise UserError("Tree search needs 'mctx': pip install -e '.[planning]'.") from error

    policy = logits or (lambda states: jnp.zeros((jax.tree.leaves(states)[0].shape[0], search.actions)))
    state = jax.tree.map(lambda x: jnp.asarray(x)[None], state)

    def recurrent(params, key, actions, states):
        states, rewards = step(states, actions, key)
        discount = jnp.full(rewards.shape, search.discount)
        output = mctx.RecurrentFnOutput(
            reward=rewards, discount=discount, prior_logits=policy(states), value=value(states)
        )
        return output, states

    found = mctx.gumbel_muzero_policy(
        params=(),
        rng_key=key,
        root=mctx.RootFnOutput(prior_logits=policy(state), value=value(state), embedding=state),
        recurrent_fn=recurrent,
        num_simulations=search.simulations,
        max_depth=search.depth or None,
        max_num_considered_actions=min(search.considered, search.actions),
    )
    return Choice(found.action[0], found.action_weights[0], found.search_tree.summary().value[0])
