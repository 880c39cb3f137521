"""Open-loop rollouts: frames that a `WorldModel` predicts after a context under given actions."""

import jax
import jax.numpy as jnp

from world_models.core.types import Array, WorldModel


def imagine(model: WorldModel, frames: Array, actions: Array, future_actions: Array, rng: Array) -> Array:
    """Rolls a model forward from a context.

    Args:
      model: any world model.
      frames: the context, uint8 [batch, context, h, w, c].
      actions: those between the context's frames, [batch, context − 1, ...].
      future_actions: [batch, horizon, ...]; the first is done after seeing the last context frame.
      rng: a key.

    Returns:
      uint8 [batch, horizon, h, w, c]: the frames that follow.
    """
    observe_key, step_key = jax.random.split(rng)

    def body(state, inputs):
        action, index = inputs
        state, _ = model.step(state, action, jax.random.fold_in(step_key, index))
        return state, model.decode(state)

    state = model.observe(frames, actions, observe_key)
    steps = (jnp.moveaxis(future_actions, 1, 0), jnp.arange(future_actions.shape[1]))
    return jnp.moveaxis(jax.lax.scan(body, state, steps)[1], 0, 1)
