"""How well a pretext task itself is solved on held-out clips."""

import functools
from collections.abc import Callable

import jax
import numpy as np
from flax import nnx

from experiments.evaluation.rollouts import held_out_rows
from experiments.training.experiment import Experiment
from world_models.core import sharding as parallel
from world_models.core.types import Array, Clip
from world_models.data.dataset import Dataset


class HeldOut:
    """Evaluator: means over fixed held-out clips, with fixed random keys, of all that `measure` measures of a batch.

    Chance stands beside every metric that has one, under the name with `_chance`.
    """

    def __init__(self, experiment: Experiment, windows: Dataset, measure: Callable, chance: Callable):
        """Takes `config.eval.held_out.num_examples` clips, `config.train.batch_size` at a time.

        Args:
          experiment: hashable, with a config.
          windows: held-out clips.
          measure: function of (experiment, model, clip, keys): scalars by name, means over the batch.
          chance: function of the number of clips that are measured at once: by name.
        """
        config = experiment.config
        self._experiment, self._windows, self._seed = experiment, windows, config.seed
        self._measure = measure
        count = config.eval.held_out.num_examples
        self._batch = min(config.train.batch_size, len(windows), count)
        self._rows = held_out_rows(windows, count)
        self._chance: dict[str, float] = chance(self._batch)

    def __call__(self, model: nnx.Module) -> dict[str, float]:
        """Measures a model; rows that do not fill a last batch are left out."""
        found = []
        for begin in range(0, len(self._rows) - self._batch + 1, self._batch):
            rows = self._rows[begin : begin + self._batch]
            inputs = parallel.place_beside(model, (self._windows.load(rows), rows))
            made = _measured(self._measure, self._experiment, model, *inputs, self._seed)
            found.append(jax.tree.map(parallel.on_host, made))
        means = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
        return means | {f"{name}_chance": value for name, value in self._chance.items() if name in means}


@functools.partial(jax.jit, static_argnames=("measure", "experiment"))
def _measured(
    measure: Callable, experiment: Experiment, model: nnx.Module, clip: Clip, rows: Array, seed: int
) -> dict[str, jax.Array]:
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), rows)
    return measure(experiment, model, clip, keys)


def task_metrics(experiment: Experiment, model: nnx.Module, clip: Clip, keys: Array) -> dict[str, jax.Array]:
    """The metrics of the training loss."""
    return experiment.loss(model, clip, keys)[1]
