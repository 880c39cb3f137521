"""A training step of ours by itself, and the ceiling that it is set against."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from experiments.tools.benchmarks.common import matmul_ceiling
from experiments.tools.benchmarks.steps import BETAS, LEARNING_RATE, WEIGHT_DECAY, Step
from experiments.training import state
from world_models.core.flops import count_flops
from world_models.core.sharding import AXES, batch_sharding, replicated


def training(
    model: nnx.Module, loss_of: Callable, data: Any, counted: nnx.Module | None = None, devices: int = 1
) -> tuple[Step, int, int]:
    """A training step with AdamW on the same data again and again.

    Args:
      model: whose parameters are trained; they are consumed.
      loss_of: maps (model, data, int32 number of the step) to the loss.
      data: any tree of arrays.
      counted: the same model, whose FLOPs can be counted, where those of `model` cannot.
      devices: over which the rows of the data are split.

    Returns:
      (the step, FLOPs of loss and gradient, number of parameters).
    """
    optimizer = optax.adamw(LEARNING_RATE, *BETAS, weight_decay=WEIGHT_DECAY)
    mesh = Mesh(np.array(jax.devices()[:devices]).reshape(-1, 1, 1), AXES)
    data = jax.device_put(data, batch_sharding(mesh))
    merge, *weights = state.split_model(model)
    params, constants = jax.device_put(weights, replicated(mesh))

    def loss(params: Any, count: jax.Array, data: Any, merge: Callable = merge) -> jax.Array:
        return loss_of(merge(params, constants), data, count)

    def update(params: Any, moments: Any, count: jax.Array, data: Any) -> tuple:
        value, gradient = jax.value_and_grad(loss)(params, count, data)
        change, moments = optimizer.update(gradient, moments, params)
        return optax.apply_updates(params, change), moments, count + 1, value

    plain = merge if counted is None else state.split_model(counted)[0]
    gradient = jax.value_and_grad(lambda *inputs: loss(*inputs, plain))
    flops, size = count_flops(gradient, params, jnp.int32(0), data), optax.tree.size(params)
    update = jax.jit(update, donate_argnums=(0, 1, 2))
    now = [params, *jax.device_put((optimizer.init(params), jnp.int32(0)), replicated(mesh))]

    def step() -> float:
        with jax.set_mesh(mesh):
            *now[:], value = update(*now, data)
        return float(value)

    return step, flops, size


def ceiling(dtype: str) -> Step:
    """A step that measures the FLOP/s of large matrix products on one device."""

    def measure() -> float:
        large = () if jax.default_backend() == "cpu" else (4096, 8192)  # a CPU has long reached it
        return matmul_ceiling(dtype, (1024, 2048, *large))

    return measure
