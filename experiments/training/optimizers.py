"""Optimizers of named parameter groups, made of options."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import optax
from flax import nnx

from experiments.training.options import OptimizerOptions
from world_models.core.errors import UserError, config_error

SCHEDULES = ("constant", "cosine")

# Options (None for a group that is not trained) and the NNX filter that chooses its parameters by path.
Groups = Mapping[str, tuple[OptimizerOptions | None, nnx.filterlib.Filter]]


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """The optimizers of all parameter groups as one transformation.

    Attributes:
      transform: what updates all parameters.
      rates: learning rate by step, of each trained group.
      members: indices of each trained group's parameters among the leaves of all.
    """

    transform: optax.GradientTransformation
    rates: Mapping[str, optax.Schedule]
    members: Mapping[str, tuple[int, ...]]

    def norms(self, grads: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        """(norm of the gradients of all trained parameters, metric `grad_norm/<group>` where there are several)."""
        leaves = jax.tree.leaves(grads)
        of = lambda rows: optax.global_norm([leaves[i] for i in rows])
        whole = of(sorted(i for rows in self.members.values() for i in rows))
        if len(self.members) == 1:
            return whole, {}
        return whole, {f"grad_norm/{name}": of(rows) for name, rows in self.members.items()}

    def learning_rates(self, step: jax.Array) -> dict[str, jax.Array]:
        """Metric `learning_rate`, or `learning_rate/<group>` where several groups are trained."""
        if len(self.rates) == 1:
            return {"learning_rate": next(iter(self.rates.values()))(step)}
        return {f"learning_rate/{name}": rate(step) for name, rate in self.rates.items()}


def make_optimizer(groups: Groups, params: Any, num_steps: int) -> Optimizer:
    """Optimizers of all groups; each clips the gradient of its own group by its own norm.

    One group of all parameters is AdamW itself, without a wrapper: that is how checkpoints hold it.

    Args:
      groups: by name, (options, filter). A parameter belongs to the first group whose filter its path passes, as in
        `nnx.split`; `...` passes all. Options None: not trained.
      params: tree of parameters or of their shapes.
      num_steps: of the whole training, where a cosine schedule ends.

    Raises:
      UserError: if a parameter is in no group, a group has no parameter, nothing is trained, or options are invalid.
    """
    names, labels = _labels(groups, params)
    transforms, rates = {}, {}
    for name, (options, _) in groups.items():
        if options is None:
            transforms[name] = optax.set_to_zero()
        else:
            transforms[name], rates[name] = make_adamw(options, num_steps)
    members = {name: tuple(i for i, own in enumerate(labels) if own == name) for name in rates}
    if not rates:
        raise UserError(f"Experiment.optimizers() trains none of its groups ({', '.join(groups)}).")
    if len(groups) == 1:
        (transform,) = transforms.values()
    else:
        transform = optax.multi_transform(transforms, names)
    return Optimizer(transform, rates, members)


def _labels(groups: Groups, params: Any) -> tuple[Any, list[str]]:
    """The name of each parameter's group, as a tree like `params` and as a list of its leaves."""
    predicates = {name: nnx.filterlib.to_predicate(chosen) for name, (_, chosen) in groups.items()}
    paths, structure = jax.tree_util.tree_flatten_with_path(params)
    found = []
    for keys, leaf in paths:
        path = tuple(map(_name, keys))
        first = next((name for name, passes in predicates.items() if passes(path, leaf)), None)
        if first is None:
            raise UserError(
                f"The parameter {'.'.join(map(str, path))} is in no group of Experiment.optimizers() "
                f"({', '.join(groups)}): add a group with the filter `...`, with options None where the rest is frozen."
            )
        found.append(first)
    for name in groups:
        if name not in found:
            raise UserError(f"The group {name!r} of Experiment.optimizers() has no parameter: change its filter.")
    return jax.tree.unflatten(structure, found), found


def make_adamw(options: OptimizerOptions, num_steps: int) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """AdamW with clipping by global norm, and the learning rate by step; a cosine schedule ends at `num_steps`."""
    if options.schedule not in SCHEDULES:
        raise config_error("config.train.optimizer.schedule", options.schedule, "be 'constant' or 'cosine'")
    peak, warmup = options.learning_rate, options.warmup_steps
    if options.schedule == "cosine":
        rate = optax.warmup_cosine_decay_schedule(0.0, peak, warmup, max(num_steps, warmup + 1))
    else:
        rate = optax.join_schedules(
            [optax.linear_schedule(peak / (warmup + 1), peak, warmup), lambda _: peak], [warmup]
        )
    adamw = optax.adamw(rate, options.b1, options.b2, options.eps, weight_decay=options.weight_decay, mask=is_decayed)
    return optax.chain(optax.clip_by_global_norm(options.clip_norm), adamw), rate


def is_decayed(params: Any) -> Any:
    """Where weight decay acts: on kernels, not on biases, norms and embeddings."""
    return jax.tree_util.tree_map_with_path(lambda path, _: _name(path[-1]) == "kernel", params)


def _name(key: Any) -> Any:
    return getattr(key, "key", getattr(key, "name", None))
