"""How good imagined futures are: the same measures for every `WorldModel`, beside baselines that need no learning."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from flax import nnx

from experiments.reports import pictures
from experiments.runs.values import Video
from experiments.training.experiment import Experiment
from world_models.core import sharding as parallel
from world_models.core.errors import config_error
from world_models.core.imagination import imagine
from world_models.core.types import Array, Clip, WorldModel
from world_models.data.clips import Windows
from world_models.metrics import image
from world_models.metrics.intervals import bootstrap_interval
from world_models.metrics.windows import masked_error

ROWS = 16  # contexts that are rolled out at once


def roll_out(model: WorldModel, num_context: int, frames: Array, actions: Array, key: Array) -> np.ndarray:
    """`imagine`, compiled, on the devices that hold the model.

    Args:
      model: an NNX module.
      num_context: frames to condition on.
      frames: uint8 [batch, at least num_context, h, w, c].
      actions: [batch, num_context − 1 + horizon, ...].
      key: random key.

    Returns:
      uint8 [batch, horizon, h, w, c].
    """
    inputs = parallel.place_beside(model, (frames, actions, jax.random.key_data(key)))
    return parallel.on_host(_roll_out(model, num_context, *inputs))


@functools.partial(jax.jit, static_argnames="num_context")
def _roll_out(model: WorldModel, num_context: int, frames: Array, actions: Array, key_data: Array) -> Array:
    past, future = actions[:, : num_context - 1], actions[:, num_context - 1 :]
    return imagine(model, frames[:, :num_context], past, future, jax.random.wrap_key_data(key_data))


def spread(windows: Windows, count: int) -> np.ndarray:
    """Indices of `count` windows, spread evenly over all of them (fewer if there are fewer)."""
    return np.unique(np.linspace(0, len(windows) - 1, min(count, len(windows))).round().astype(int))


def held_out_rows(windows: Windows, count: int) -> np.ndarray:
    """As `spread`, of `config.eval.held_out.num_examples`. Raises ConfigError if that is not at least 1."""
    if count < 1:
        raise config_error("config.eval.held_out.num_examples", count, "be at least 1")
    return spread(windows, count)


def mean_frame(windows: Windows, count: int = 256) -> np.ndarray:
    """The mean of `count` frames of a split, uint8 [h, w, c]: the best constant guess."""
    frames = windows.load(spread(windows, count)).frames[:, 0]
    return np.round(frames.mean(axis=0)).astype(np.uint8)


@dataclasses.dataclass
class Rollouts:
    """Futures imagined from held-out contexts, beside the true ones.

    Attributes:
      clip: the true windows, NumPy, [n, context + horizon, ...].
      imagined: uint8 [n, horizon, h, w, c], under the true actions.
      shuffled: the same under the actions of another window.
      num_context: frames of a window that the model saw.
    """

    clip: Clip
    imagined: np.ndarray
    shuffled: np.ndarray
    num_context: int

    @property
    def truth(self) -> np.ndarray:
        """The true frames after the context, [n, horizon, h, w, c]."""
        return self.clip.frames[:, self.num_context :]


def run_rollouts(model: WorldModel, windows: Windows, num_context: int, count: int, key: Array) -> Rollouts:
    """Imagines `count` held-out windows under their own actions and, with the same noise, under another window's."""
    clip = windows.load(spread(windows, count))
    frames, actions = clip.frames[:, :num_context], clip.actions[:, :-1]
    imagined = roll_out_all(model, num_context, frames, actions, key)
    shuffled = roll_out_all(model, num_context, frames, exchanged(actions, num_context), key)
    return Rollouts(clip, imagined, shuffled, num_context)


def exchanged(actions: Array, num_context: int) -> np.ndarray:
    """Actions [n, time, ...] whose part after the context is another row's; the context's own actions stay."""
    other = np.roll(actions, len(actions) // 2, axis=0)
    return np.concatenate([actions[:, : num_context - 1], other[:, num_context - 1 :]], axis=1)


def roll_out_all(model: WorldModel, num_context: int, frames: Array, actions: Array, key: Array) -> np.ndarray:
    """`roll_out` of any number of contexts, in groups of `ROWS`."""
    found = []
    for begin in range(0, len(frames), ROWS):
        # The last group is filled up with its first row, so that one compiled program serves all groups.
        rows = np.arange(begin, begin + ROWS)
        rows = np.where(rows < len(frames), rows, begin)
        group = roll_out(model, num_context, frames[rows], actions[rows], jax.random.fold_in(key, begin))
        found.append(group[: len(frames) - begin])
    return np.concatenate(found)


@jax.jit
def _frame_metrics(prediction: Array, truth: Array, mask: Array) -> dict[str, Array]:
    return {
        "psnr": image.psnr(prediction, truth),
        "ssim": image.ssim(prediction, truth),
        "psnr_changed": image.psnr(prediction, truth, mask),
        "ssim_changed": image.ssim(prediction, truth, mask),
        "drift": image.absolute_error(prediction, truth),
    }


def measure(rollouts: Rollouts, average: np.ndarray, threshold: float) -> dict[str, Any]:
    """All measures of imagined futures.

    Args:
      rollouts: what was imagined.
      average: the mean frame of the training data, uint8 [h, w, c].
      threshold: how much (of 255) a pixel must change to count as changing.

    Returns:
      The content of imagine/metrics.json: per horizon PSNR and SSIM over all pixels and over those that changed in
      the truth since the context, and drift, the mean absolute error (0..1), for the model and two baselines; and
      action following: the mean squared error over changed pixels under another window's actions minus that under
      the true ones, with a 95 % bootstrap interval over contexts.
    """
    truth, first = rollouts.truth, rollouts.num_context
    mask = np.asarray(image.changed_pixels(rollouts.clip.frames[:, first - 1 :], threshold))
    last = np.broadcast_to(rollouts.clip.frames[:, first - 1 : first], truth.shape)
    predictions = {
        "imagined": rollouts.imagined,
        "copy_last": last,
        "mean_frame": np.broadcast_to(average, truth.shape),
    }
    table: dict[str, Any] = {"horizon": list(range(1, truth.shape[1] + 1))}
    for name, frames in predictions.items():
        for metric, values in _frame_metrics(frames, truth, mask).items():
            table.setdefault(metric, {})[name] = _nanmean(np.asarray(values, np.float64))
    table["action_following"] = action_following(rollouts, mask, [slice(None)])[0]
    table |= {"num_contexts": len(truth), "num_context_frames": first, "changed_threshold": threshold}
    return table


def _nanmean(values: np.ndarray) -> list[float | None]:
    """Mean over the first axis of [n, horizon]; None where there is nothing but NaN."""
    return [float(np.nanmean(column)) if np.isfinite(column).any() else None for column in values.T]


def action_following(rollouts: Rollouts, mask: np.ndarray, spans: Sequence[slice]) -> list[dict[str, float]]:
    """The error over changed pixels under another window's actions minus that under the true ones, by part of a future.

    Args:
      rollouts: what was imagined.
      mask: bool [n, horizon, h, w], changed pixels.
      spans: parts of the horizon.

    Returns:
      For each part "mean", "low" and "high": a 95 % bootstrap interval over contexts.
    """
    errors = [masked_error(frames, rollouts.truth, mask, spans) for frames in (rollouts.shuffled, rollouts.imagined)]
    return [bootstrap_interval(column)._asdict() for column in (errors[0] - errors[1]).T]


class OpenLoop:
    """Evaluator: PSNR over changing pixels at a few horizons beside persistence, action following, and a video."""

    def __init__(self, windows: Windows, training: Windows, options: ml_collections.ConfigDict, seed: int):
        """`options` is a block `OpenLoopOptions`."""
        self._windows, self._options, self._seed = windows, options, seed
        self._average = mean_frame(training)

    def __call__(self, model: nnx.Module) -> dict[str, float | Video]:
        """Measures a `WorldModel` and shows some of its futures beside the true ones."""
        options, key = self._options, jax.random.key(self._seed)
        rollouts = run_rollouts(model, self._windows, options.num_context, options.num_contexts, key)
        table = measure(rollouts, self._average, options.changed_threshold)
        found: dict[str, float | Video] = {}
        for horizon in (h for h in options.horizons if h in table["horizon"]):
            for name in ("imagined", "copy_last"):
                value = table["psnr_changed"][name][horizon - 1]
                if value is not None:
                    found[f"psnr_changed_{name}_{horizon}"] = value
        if options.num_shown:
            shown = spread(rollouts.imagined, options.num_shown)
            drawn = pictures.futures_video(options.num_context, rollouts.clip.frames[shown], rollouts.imagined[shown])
            found["futures"] = Video(drawn)
        return found | {f"action_following_{k}": v for k, v in table["action_following"].items()}


class HeldOutLoss:
    """Evaluator: the training loss on fixed held-out windows with fixed noise, as a mean over examples."""

    def __init__(self, experiment: Any, windows: Windows, *, batch_size: int, count: int, seed: int):
        """Takes `count` windows, `batch_size` at a time."""
        self._experiment, self._windows, self._seed = experiment, windows, seed
        self._batch_size = min(batch_size, len(windows), count)
        self._indices = held_out_rows(windows, count)

    def __call__(self, model: nnx.Module) -> dict[str, float]:
        """Measures a model; rows that do not fill a last batch are left out."""
        total, seen = 0.0, 0
        for begin in range(0, len(self._indices), self._batch_size):
            rows = self._indices[begin : begin + self._batch_size]
            if len(rows) < self._batch_size:
                break  # another shape would be another compilation
            inputs = parallel.place_beside(model, (self._windows.load(rows), rows))
            total += float(parallel.on_host(_loss(self._experiment, model, *inputs, self._seed))) * len(rows)
            seen += len(rows)
        return {"loss": total / max(seen, 1)}


# Experiments are equal by value: one program serves all that are alike.
@functools.partial(jax.jit, static_argnames="experiment")
def _loss(experiment: Experiment, model: nnx.Module, batch: Any, rows: Array, seed: int) -> Array:
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), rows)
    return experiment.loss(model, batch, keys)[0]
