"""What a loss changes of a model's constants is carried through training steps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from ml_collections import ConfigDict

from experiments.training.optimizers import Optimizer
from experiments.training.state import TrainState, make_step, split_model
from world_models.nn.constants import Constant


class Counting(nnx.Module):
    """A line whose constant counts the batches that it saw."""

    def __init__(self):
        self.slope, self.seen = nnx.Param(jnp.ones(())), Constant(jnp.zeros(()))


class Experiment:
    """Fits the line."""

    def loss(self, model, batch, keys):
        model.seen.set_value(model.seen[...] + 1)
        loss = jnp.mean((model.slope[...] * batch[:, 0] - batch[:, 1]) ** 2)
        return loss, {"loss": loss}


@pytest.mark.parametrize("parts", [1, 4])
def test_constants_are_carried_and_kept_where_a_step_is_not_finite(parts):
    merge, params, constants = split_model(Counting())
    config = ConfigDict({"seed": 0, "train": {"accumulate": parts, "ema_decay": 0.9}})
    optimizer = Optimizer(optax.sgd(0.1), {"all": lambda _: 0.1}, {"all": (0,)})
    state = TrainState(jnp.zeros((), jnp.int32), params, constants, params, optimizer.transform.init(params))
    step = jax.jit(make_step(merge, Experiment(), config, optimizer))
    batch = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)
    stop = np.zeros(1, bool)
    first, metrics = step(state, batch, stop)
    assert float(first.constants["seen"]) == parts
    gradient = np.mean(2 * (batch[:, 0] - batch[:, 1]) * batch[:, 0])
    np.testing.assert_allclose(first.params["slope"], 1 - 0.1 * gradient, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], np.mean((batch[:, 0] - batch[:, 1]) ** 2), rtol=1e-5)
    second, metrics = step(first, np.full_like(batch, np.nan), stop)
    assert bool(metrics["nonfinite"])
    assert float(second.constants["seen"]) == parts
    third, _ = step(second, batch, stop)
    assert float(third.constants["seen"]) == 2 * parts
