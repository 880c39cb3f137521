"""Heads that predict the reward and the end of an episode of one step of a world model."""

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from world_models.core.sharding import axes
from world_models.core.types import Array, Clip, Prediction
from world_models.nn.options import HeadOptions


class Heads(nnx.Module):
    """An MLP from features of a step to its symlog reward and the logit of its termination, as far as weighted."""

    def __init__(self, options: HeadOptions, inputs: int, *, rngs: nnx.Rngs):
        """Builds the heads for features [..., inputs]; at least one weight of `options` is above 0."""
        self.options = options
        self.names = tuple(name for name in ("reward", "terminal") if getattr(options, name))
        make = lambda a, b: nnx.Linear(a, b, kernel_metadata=axes(None, None), rngs=rngs)
        self.hidden1, self.hidden2 = make(inputs, options.hidden), make(options.hidden, options.hidden)
        self.out = make(options.hidden, len(self.names))

    def __call__(self, features: Array) -> dict[str, jax.Array]:
        """[..., inputs] -> "reward" (symlog) and "terminal" (logit), float32 [...] each."""
        x = nnx.silu(self.hidden1(features.astype(jnp.float32)))
        x = self.out(nnx.silu(self.hidden2(x)))
        return {name: x[..., i] for i, name in enumerate(self.names)}

    def loss(self, features: Array, rewards: Array, terminals: Array, valid: Array):
        """Squared error of symlog rewards (Hafner et al. 2023) and sigmoid cross-entropy of terminals.

        Args:
          features: [batch, steps, inputs].
          rewards: of the steps, [batch, steps].
          terminals: whether a step ended the episode, bool [batch, steps].
          valid: which steps count, bool [batch, steps].

        Returns:
          (weighted sum, its parts by name).
        """
        found, parts = self(features), {}
        # Rewards that do not count may be anything, even NaN, whose gradient `where` alone would let through.
        rewards = jnp.where(valid, jnp.asarray(rewards, jnp.float32), 0)
        mean = lambda x: jnp.sum(jnp.where(valid, x, 0)) / jnp.maximum(jnp.sum(valid), 1)
        if "reward" in found:
            parts["reward"] = mean((found["reward"] - symlog(rewards)) ** 2)
        if "terminal" in found:
            labels = jnp.asarray(terminals, jnp.float32)
            parts["terminal"] = mean(optax.sigmoid_binary_cross_entropy(found["terminal"], labels))
        return sum(getattr(self.options, name) * part for name, part in parts.items()), parts

    def predict(self, features: Array) -> Prediction:
        """Rewards and probabilities that the episode ended, float32 [...]; None for a head that does not exist."""
        found = self(features)
        rewards = symexp(found["reward"]) if "reward" in found else None
        return Prediction(rewards, jax.nn.sigmoid(found["terminal"]) if "terminal" in found else None)


def step_targets(clip: Clip) -> tuple[Array, Array, Array]:
    """Targets of all steps from frame t to t + 1 in the RLDS alignment.

    `rewards[:, t]` belongs to `actions[:, t]`, and `is_terminal[:, t + 1]` is whether the state that it led to ended
    the episode. Steps from a frame with `is_last`, or to one with `is_first`, cross episodes and are not valid.

    Returns:
      (rewards, terminals, valid) for `Heads.loss`, [batch, time − 1] each.
    """
    valid = ~(jnp.asarray(clip.is_last, bool)[:, :-1] | jnp.asarray(clip.is_first, bool)[:, 1:])
    return clip.rewards[:, :-1], clip.is_terminal[:, 1:], valid


def symlog(x: Array) -> jax.Array:
    """sign(x)·ln(1 + |x|)."""
    return jnp.sign(x) * jnp.log1p(jnp.abs(x))


def symexp(x: Array) -> jax.Array:
    """The inverse of `symlog`."""
    return jnp.sign(x) * jnp.expm1(jnp.abs(x))
