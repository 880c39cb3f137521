"""The training state and the one step that changes it. Models are split into arrays here and nowhere else."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import optax
from flax import nnx

from experiments.training.experiment import Experiment
from experiments.training.optimizers import Optimizer, make_optimizer
from world_models.core import sharding as parallel

Merge = Callable[[Any, Any], nnx.Module]  # (parameters, constants) -> model


class TrainState(NamedTuple):
    """All that training changes, as pure trees of arrays.

    Attributes:
      step: int32, number of steps done.
      params: trained parameters, float32.
      constants: what the model holds but does not train; some families keep statistics of their data there.
      ema: moving average of `params`.
      optimizer: state of the optimizer.
    """

    step: jax.Array
    params: Any
    constants: Any
    ema: Any
    optimizer: Any

    def trees(self) -> dict[str, Any]:
        """The parts by the name that a checkpoint gives them; `weights` is all that using the model needs."""
        return {
            "weights": {"ema": self.ema, "constants": self.constants},
            "params": self.params,
            "optimizer": {"step": self.step, "state": self.optimizer},
        }

    @classmethod
    def from_trees(cls, trees: dict[str, Any]) -> "TrainState":
        """The inverse of `trees`."""
        weights, optimizer = trees["weights"], trees["optimizer"]
        return cls(optimizer["step"], trees["params"], weights["constants"], weights["ema"], optimizer["state"])


def split_model(model: nnx.Module) -> tuple[Merge, Any, Any]:
    """(inverse, parameters, the rest) of a model: `inverse(parameters, rest)` is the model again.

    Both are pure trees of arrays, which are faster to pass to a training step than the module.
    """
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    return functools.partial(nnx.merge, graphdef), nnx.as_pure(params), nnx.as_pure(rest)


def abstract_model(experiment: Experiment, seed: int) -> tuple[Merge, Any, Any]:
    """(`Merge`, shapes of (parameters, constants), names of the parameters' axes) without making any array."""
    structure = []

    def build():
        graphdef, params, rest = nnx.split(experiment.init(nnx.Rngs(seed)), nnx.Param, ...)
        structure.extend((functools.partial(nnx.merge, graphdef), parallel.axis_names(params)))
        return nnx.as_pure(params), nnx.as_pure(rest)

    shapes = jax.eval_shape(build)
    return structure[0], shapes, structure[1]


class Initial(NamedTuple):
    """What training begins with.

    Attributes:
      init: makes the state.
      shapes: of the state, with shardings.
      merge: makes the model of parameters and constants.
      optimizer: of the experiment's parameter groups.
    """

    init: Callable[[], TrainState]
    shapes: TrainState
    merge: Merge
    optimizer: Optimizer


def create_state(experiment: Experiment, config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh) -> Initial:
    """Prepares the initial state so that it is born sharded: no device ever holds the whole.

    The moving average and the optimizer's moments lie where their parameters lie. The optimizer's must be given: left
    to the compiler they end up whole on every device.

    Args:
      experiment: whose model and optimizers.
      config: with `seed`, `train.num_steps` and the `sharding` rules, see `parallel.shardings`.
      mesh: the devices.

    Raises:
      UserError: if mesh and rules do not fit the model, or the parameter groups do not fit its parameters.
    """
    merge, (params, _), names = abstract_model(experiment, config.seed)
    optimizer = make_optimizer(experiment.optimizers(), params, config.train.num_steps)
    where, whole = parallel.shardings(names, params, config.runtime.sharding, mesh), parallel.replicated(mesh)

    def init() -> TrainState:
        _, params, constants = split_model(experiment.init(nnx.Rngs(config.seed)))
        ema = jax.tree.map(jnp.copy, params)
        return TrainState(jnp.zeros((), jnp.int32), params, constants, ema, optimizer.transform.init(params))

    shapes = jax.eval_shape(init)
    moments = _like_parameters(shapes.optimizer, params, where, whole)
    everywhere = jax.tree.map(lambda _: whole, shapes.constants)
    shardings = TrainState(whole, where, everywhere, where, moments)
    with_shardings = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings)
    return Initial(jax.jit(init, out_shardings=shardings), with_shardings, merge, optimizer)


def _like_parameters(state: Any, params: Any, where: Any, otherwise: Any) -> Any:
    """Shardings of an optimizer's state: those of the parameters whose paths the paths of its moments end with."""
    shapes, places = jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(where)
    known = {path: (x.shape, place) for (path, x), place in zip(shapes, places, strict=True)}

    def place(path: tuple, x: jax.ShapeDtypeStruct) -> Any:
        ends = (known[path[i:]] for i in range(len(path)) if path[i:] in known)  # the longest first
        shape, sharding = next(ends, (None, otherwise))
        return sharding if x.shape == shape else otherwise

    return jax.tree_util.tree_map_with_path(place, state)


def make_step(
    merge: Merge, experiment: Experiment, config: ml_collections.ConfigDict, optimizer: Optimizer
) -> Callable[[TrainState, Any, jax.Array], tuple[TrainState, dict[str, jax.Array]]]:
    """The training step: (state, batch, stop) -> (state, metrics), to be jitted.

    Random keys are folded from the seed, the step and the index in the global batch, so neither a restart, nor the
    mesh, nor the number of accumulation steps changes them. What the loss changes of the model's constants stays
    changed. A step whose loss or gradient is not finite changes nothing but the step count, and says so in the metric
    `nonfinite`. The metric `stop` tells every process whether any element of `stop` is true.
    """
    train = config.train

    def gradients(state: TrainState, constants: Any, batch: Any, keys: jax.Array):
        def loss(params):
            model = merge(params, constants)
            value, metrics = experiment.loss(model, batch, keys)
            return value, (metrics, split_model(model)[2])

        (_, (metrics, constants)), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
        return (grads, metrics), constants

    def accumulated(state: TrainState, batch: Any, keys: jax.Array):
        if train.accumulate == 1:
            return gradients(state, state.constants, batch, keys)
        # Rows are dealt out in turn, so that every part stays spread over the devices as the whole batch is.
        deal = lambda x: jnp.moveaxis(x.reshape(-1, train.accumulate, *x.shape[1:]), 1, 0)
        parts = jax.tree.map(deal, (batch, keys))

        def body(carry, part):
            total, constants = carry
            found, constants = gradients(state, constants, *part)
            return (jax.tree.map(jnp.add, total, found), constants), None

        shapes, _ = jax.eval_shape(gradients, state, state.constants, *_first(parts))
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        (total, constants), _ = jax.lax.scan(body, (zeros, state.constants), parts)
        return jax.tree.map(lambda x: x / train.accumulate, total), constants

    def step(state: TrainState, batch: Any, stop: jax.Array) -> tuple[TrainState, dict[str, jax.Array]]:
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        rows = jax.tree.leaves(batch)[0].shape[0]
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(rows))
        (grads, metrics), constants = accumulated(state, batch, keys)
        norm, norms = optimizer.norms(grads)
        updates, moments = optimizer.transform.update(grads, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        decay = jnp.minimum(train.ema_decay, (1 + state.step) / (10 + state.step))
        ema = jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, state.ema, params)
        finite = jnp.isfinite(norm) & jnp.isfinite(metrics["loss"])
        changed = (params, constants, ema, moments)
        kept = (state.params, state.constants, state.ema, state.optimizer)
        params, constants, ema, moments = jax.tree.map(lambda a, b: jnp.where(finite, a, b), changed, kept)
        metrics |= {"grad_norm": norm, **norms, **optimizer.learning_rates(state.step)}
        metrics |= {"nonfinite": ~finite, "stop": jnp.any(stop)}
        return TrainState(state.step + 1, params, constants, ema, moments), metrics

    return step


def _first(tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), tree)
