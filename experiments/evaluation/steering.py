"""Futures under a policy that sees what the model imagines: `config.eval.imagine.policy`."""

import functools
import importlib
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from experiments.runs import trust
from world_models.core import sharding as parallel
from world_models.core.errors import ConfigError
from world_models.core.types import Array, Prediction, WorldModel
from world_models.environments.policies import Policy

if TYPE_CHECKING:
    from experiments.runs.loading import LoadedRun

FIELD = "eval.imagine.policy"


def make_policy(run: "LoadedRun") -> Policy:
    """The policy that the config names; it is given no environment and reads frames alone.

    Raises:
      ConfigError: if it cannot be imported, or is of a module that is not trusted.
    """
    trust.check(run.config, [FIELD], run.trusted)
    path = run.config.eval.imagine.policy
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        what = f"config.{FIELD}={path!r} must be empty or a 'package.module:function' that can be imported ({error})."
        raise ConfigError(f"config.{FIELD}", what) from error


def steer(model: WorldModel, policy: Policy, frames: Array, actions: Array, horizon: int, seed: int) -> np.ndarray:
    """Rolls a model out under actions that are chosen one at a time, from the newest imagined frame.

    Args:
      model: an NNX module.
      policy: called as policy(None, rng) for every row; what it returns maps a frame, uint8 [h, w, c], to an action.
      frames: uint8 [batch, context, h, w, c].
      actions: those between them, [batch, context − 1, ...].
      horizon: frames to imagine.
      seed: of the model's noise and of the policies.

    Returns:
      uint8 [batch, horizon, h, w, c].
    """
    acts = [policy(None, np.random.default_rng([seed, row])) for row in range(len(frames))]
    place = lambda *inputs: parallel.place_beside(model, inputs)
    key = jax.random.key(seed)
    state = _observe(model, *place(frames, actions, jax.random.key_data(key)))
    found, frame = [], np.asarray(frames[:, -1])
    for t in range(horizon):
        chosen = np.stack([act(row) for act, row in zip(acts, frame)]).astype(actions.dtype)
        state, _ = _step(model, state, *place(chosen, jax.random.key_data(jax.random.fold_in(key, t + 1))))
        frame = parallel.on_host(_decode(model, state))
        found.append(frame)
    return np.stack(found, axis=1)


@jax.jit
def _observe(model: WorldModel, frames: Array, actions: Array, key_data: Array) -> Any:
    return model.observe(frames, actions, jax.random.wrap_key_data(key_data))


@functools.partial(jax.jit, donate_argnums=1)
def _step(model: WorldModel, state: Any, action: Array, key_data: Array) -> tuple[Any, Prediction]:
    return model.step(state, action, jax.random.wrap_key_data(key_data))


@jax.jit
def _decode(model: WorldModel, state: Any) -> Array:
    return model.decode(state)
