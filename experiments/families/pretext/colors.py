"""How near predicted colours are to the true ones (Zhang et al. 2016, section 3.1), beside grey and the mean colour."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.evaluation.rollouts import held_out_rows
from experiments.training.experiment import Experiment
from world_models.core import sharding as parallel
from world_models.core.types import Array
from world_models.data.dataset import Dataset
from world_models.models.pretext.colorization import STEP, nearest_bin
from world_models.models.pretext.lab import gamut_bins, rgb_to_lab
from world_models.models.pretext.model import PretextModel

LARGEST = 150
"""The largest error that counts, in units of a and b."""


class Colors:
    """Evaluator: the area under the cumulative distribution of colour errors, over held-out pixels, in percent.

    That is the share of pixels within an error, averaged over errors of 0, 1, …, 150. "auc" counts all pixels alike,
    "auc_rebalanced" all bins of true colours that occur: greys, which are frequent, do not decide it. Baselines are no
    colour at all and the mean colour of the training data, under "grey_" and "mean_".
    """

    def __init__(self, experiment: Experiment, held_out: Dataset):
        """Takes `config.eval.held_out.num_examples` clips, `config.train.batch_size` at a time."""
        config = experiment.config
        self._data = held_out
        self._rows = held_out_rows(held_out, config.eval.held_out.num_examples)
        self._batch = min(config.train.batch_size, len(self._rows))

    def __call__(self, model: PretextModel) -> dict[str, float]:
        """Measures a model; rows that do not fill a last batch are left out."""
        total: np.ndarray | float = 0.0
        for begin in range(0, len(self._rows) - self._batch + 1, self._batch):
            frames = self._data.load(self._rows[begin : begin + self._batch]).frames
            total = total + parallel.on_host(_sums(model, parallel.place_beside(model, frames))).astype(np.float64)
        counts, *sums = total
        there, found = counts > 0, {}
        for name, own in zip(("", "grey_", "mean_"), sums):
            found[f"{name}auc"] = 100 * float(own.sum() / counts.sum())
            found[f"{name}auc_rebalanced"] = 100 * float(np.mean(own[there] / counts[there]))
        return found


@jax.jit
def _sums(model: PretextModel, frames: Array) -> jax.Array:
    """Float32 [4, bins]: by bin of the true colour, how many pixels, and sums of `within` of the three predictions."""
    frames = frames.reshape(-1, *frames.shape[2:])
    true = rgb_to_lab(frames)[..., 1:]
    bins = nearest_bin(true).reshape(-1)
    predictions = (model.task.colors(model.encode, frames), jnp.zeros(2), model.task.mean_color())
    values = [jnp.ones(bins.shape), *(within(true, own).reshape(-1) for own in predictions)]
    return jnp.stack([jnp.zeros(len(gamut_bins(STEP))).at[bins].add(value) for value in values])


def within(true: Array, predicted: Array) -> jax.Array:
    """The share of the errors 0, 1, …, 150 that the distance of two (a, b) [..., 2] is within."""
    error = jnp.sqrt(jnp.sum((true - predicted) ** 2, axis=-1))
    return jnp.clip(LARGEST + 1 - jnp.ceil(error), 0, LARGEST + 1) / (LARGEST + 1)
