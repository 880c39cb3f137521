"""Evaluator: J and F of instance masks that follow objects by the features of an encoder, beside baselines."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx

from experiments.evaluation.options import TrackingOptions
from experiments.evaluation.rollouts import spread
from experiments.reports import media
from experiments.runs.values import Video
from experiments.training.data import open_episodes
from experiments.training.experiment import Experiment, new_model
from world_models.core import sharding as parallel
from world_models.core.errors import ConfigError, UserError, config_error
from world_models.core.types import Array
from world_models.data.clips import Windows
from world_models.metrics.segmentation import Segmentation, segmentation
from world_models.probes.options import PropagationOptions
from world_models.probes.propagation import follow
from world_models.probes.propagation_baselines import BASELINES

Encode = Callable[[nnx.Module, Array], Array]
"""(model, uint8 frames [time, h, w, c]) -> maps of features [time, rows, columns, d], which rows and columns divide."""
_PALETTE = np.array([[230, 159, 0], [86, 180, 233], [0, 158, 115], [204, 121, 167], [240, 228, 66], [213, 94, 0]])


class Tracking:
    """Masks of the first frame, carried through clips of the test split by a model's features.

    Scores, of 100: `j`, `f` and `j_and_f` of the model, `random_init_j_and_f` of the same model untrained, and
    `<baseline>_j_and_f` of those that need no features.
    """

    def __init__(self, experiment: Experiment, encode: Encode, config: Any, workdir: pathlib.Path):
        """Reads the clips; `config.eval.tracking`, `TrackingOptions`, says which.

        Raises:
          UserError: if the data have no masks, or none that fit the frames, or clips are too short.
        """
        self._experiment, self._encode, self._seed = experiment, encode, config.seed
        self._options = config.eval.tracking
        check_propagation(self._options.propagation)
        self._frames, self._masks = _read(config, workdir)
        self._path = workdir / "pictures" / "tracking.png"
        self._baselines: dict[str, np.ndarray] = {}

    def __call__(self, model: nnx.Module) -> dict[str, float | Video]:
        """Measures a model, and draws masks to `pictures/tracking.png`."""
        own = self._follow(model)
        if not self._baselines:
            self._baselines["random_init"] = self._follow(new_model(self._experiment, self._seed))
            for name, baseline in BASELINES.items():
                found = [baseline(frames, masks[0]) for frames, masks in zip(self._frames, self._masks)]
                self._baselines[name] = np.stack(found)
        scores = self._score(own)
        results: dict[str, float | Video] = {
            name: 100 * float(np.mean([getattr(score, name) for score in scores])) for name in ("j", "f", "j_and_f")
        }
        for name, masks in self._baselines.items():
            results[f"{name}_j_and_f"] = 100 * float(np.mean([score.j_and_f for score in self._score(masks)]))
        if self._options.num_shown:
            shown = _drawn(self._frames, {"truth": self._masks, "features": own, **self._baselines}, self._options)
            if parallel.is_main():
                self._path.parent.mkdir(parents=True, exist_ok=True)
                media.write_png(self._path, _picture(shown))
            results["masks"] = Video(media.grid(shown, gutter=6))
        return results

    def _follow(self, model: nnx.Module) -> np.ndarray:
        objects = int(self._masks.max())
        inputs = [parallel.place_beside(model, (f, m[0])) for f, m in zip(self._frames, self._masks)]
        found = [_followed(self._encode, model, *each, objects, self._options.propagation) for each in inputs]
        return np.stack([parallel.on_host(masks) for masks in found])

    def _score(self, masks: np.ndarray) -> list[Segmentation]:
        return [segmentation(own, truth) for own, truth in zip(masks, self._masks)]


@functools.partial(jax.jit, static_argnames=("encode", "num_objects", "options"))
def _followed(
    encode: Encode, model: nnx.Module, frames: Array, mask: Array, num_objects: int, options: PropagationOptions
) -> Array:
    features = encode(model, frames)
    length = jax.numpy.linalg.norm(features, axis=-1, keepdims=True)
    return follow(features / jax.numpy.maximum(length, 1e-6), mask, num_objects, options)


def check_propagation(options: PropagationOptions) -> None:
    """Raises ConfigError if labels cannot be copied so."""
    for name in ("context", "top_k", "radius"):
        if getattr(options, name) < 0:
            raise config_error(f"config.eval.tracking.propagation.{name}", getattr(options, name), "be at least 0")
    if options.temperature <= 0:
        raise config_error("config.eval.tracking.propagation.temperature", options.temperature, "be above 0")


def _read(config: Any, workdir: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """(frames uint8 [n, time, h, w, c], masks uint8 [n, time, h, w]) of clips whose first frame has an object.

    Objects are numbered anew, from 1; those that are not in the first frame become background.
    """
    options, field = config.eval.tracking, "config.eval.tracking.instances_key"
    if config.data.mixture:
        raise config_error("config.eval.tracking.num_clips", options.num_clips, "be 0 with config.data.mixture")
    data = dataclasses.replace(config.data, observation_keys=(options.instances_key,))
    config = dataclasses.replace(config, data=data)
    try:
        episodes = open_episodes(config, workdir, config.data.test_split)
    except ConfigError as error:
        if error.field != "config.data.observation_keys":
            raise
        valid = f"be the path of masks in the data, which J and F need; {config.eval.tracking.num_clips=} asks for them"
        raise config_error(field, options.instances_key, f"{valid} ({error})") from error
    length = options.length or int(episodes.lengths[episodes.lengths > 0].min())
    if length < 2:
        raise config_error("config.eval.tracking.length", length, "be at least 2: the first mask is given")
    windows = Windows(episodes, length, length, field="config.eval.tracking.length")
    clip = windows.load(spread(windows, options.num_clips))
    masks = np.asarray(clip.observations[options.instances_key])
    if masks.shape != (*clip.frames.shape[:4], 1) or masks.dtype != np.uint8:
        found = f"{masks.dtype} {masks.shape[2:]}"
        valid = f"lead to uint8 masks {(*clip.frames.shape[2:4], 1)}, the size of frames (config.data.image_size)"
        raise config_error(field, options.instances_key, f"{valid}; they are {found}")
    rows = np.flatnonzero(masks[:, 0].any(axis=(1, 2, 3)))
    if not len(rows):
        raise UserError(
            f"No clip of split {config.data.test_split!r} of {windows.name} begins with an object to follow."
        )
    return clip.frames[rows], np.stack([_renumbered(own[..., 0]) for own in masks[rows]])


def _renumbered(masks: np.ndarray) -> np.ndarray:
    """Masks [time, h, w] with the objects of the first frame as 1, 2, … and all else 0."""
    numbers = np.zeros(256, np.uint8)
    there = np.unique(masks[0])
    numbers[there[there > 0]] = 1 + np.arange(np.count_nonzero(there))
    return numbers[masks]


def _drawn(frames: np.ndarray, masks: dict[str, np.ndarray], options: TrackingOptions) -> list[list[np.ndarray]]:
    """Cells of a grid, a row a clip and a column a way of finding masks: frames under half-transparent masks."""
    rows = []
    for i in spread(frames, options.num_shown):
        grey = media.to_rgb(frames[i])
        cells = []
        for found in masks.values():
            colors = _PALETTE[(found[i].astype(int) - 1) % len(_PALETTE)]
            over = np.where(found[i][..., None] > 0, (grey.astype(int) + colors) // 2, grey)
            cells.append(media.fit(over.astype(np.uint8), 96, 256))
        rows.append(cells)
    rows[0] = [media.labelled(name.replace("_", " "), cell) for name, cell in zip(masks, rows[0])]
    return rows


def _picture(cells: list[list[np.ndarray]], moments: int = 4) -> np.ndarray:
    """Some moments of the cells, one above the other in each row: uint8 [height, width, 3]."""
    time = np.unique(np.linspace(0, len(cells[0][0]) - 1, moments).round().astype(int))
    rows = [[media.grid([[cell[t][None]] for t in time], gutter=1) for cell in row] for row in cells]
    return media.grid(rows, gutter=6)[0]
