"""The space in which sets of frames and clips are compared: `config.eval.features`."""

import dataclasses
import functools
import importlib
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from flax import nnx

from experiments.evaluation.options import FeatureOptions
from world_models.core import sharding as parallel
from world_models.core.errors import ConfigError, UserError, config_error
from world_models.core.types import Array
from world_models.data.dataset import Dataset
from world_models.metrics import i3d, inception, random_features, tensor_files

if TYPE_CHECKING:
    from experiments.training.experiment import Experiment

FIELD = "config.eval.features"
KINDS = ("random", "encoder", "inception", "i3d")
BATCH = {"random": 256, "encoder": 128, "inception": 32, "i3d": 64}  # frames at once
Open = Callable[[str, int, str], Dataset]
"""Opens windows of a split: (split, length, the config's field of the length)."""


@dataclasses.dataclass(frozen=True)
class FeatureSpace:
    """Features of clips.

    Attributes:
      label: a short name, a part of the names of metrics.
      name: what exactly it is: network, run or file, fingerprint of the weights, and projection.
      encode: function of uint8 frames [n, time, h, w, c]: float [n, moments, d].
      frame_shape: (height, width, channel) of its frames.
      batch: frames that it takes at once.
      size: longest features; longer ones are projected. 0 for no such bound.
      least_frames: of the shortest clip; above 1, features are of whole clips, one moment each, and of no frames.
    """

    label: str
    name: str
    encode: Callable[[np.ndarray], Array]
    frame_shape: tuple[int, int, int]
    batch: int
    size: int
    least_frames: int = 1

    def check_length(self, length: int, field: str) -> None:
        """Raises a ConfigError that names the config's `field` if clips of so many frames are too short."""
        if length < self.least_frames:
            raise config_error(field, length, f"be at least {self.least_frames} for features by {self.label}")

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Features float32 [n, moments, d] of clips, uint8 [n, time, h, w, c]."""
        rows, found = max(1, self.batch // frames.shape[1]), []
        for begin in range(0, len(frames), rows):
            index = np.arange(begin, begin + rows)  # the last group is filled up: one compiled program serves all
            group = np.asarray(self.encode(frames[np.where(index < len(frames), index, begin)]), np.float32)
            found.append(group[: len(frames) - begin])
        whole = np.concatenate(found)
        return whole @ _projection(whole.shape[-1], self.size) if 0 < self.size < whole.shape[-1] else whole


@functools.cache
def _projection(inputs: int, outputs: int) -> np.ndarray:
    """A random matrix that keeps distances on average (Johnson and Lindenstrauss); the same everywhere."""
    drawn = np.random.RandomState(0).standard_normal((inputs, outputs))
    return (drawn / np.sqrt(outputs)).astype(np.float32)


def make_features(options: FeatureOptions, frame_shape: tuple[int, int, int]) -> FeatureSpace:
    """The space that `config.eval.features` describes, for frames of (height, width, channel).

    Raises:
      UserError: if an option is wrong, or the run or file cannot be read or does not fit the frames.
    """
    if options.kind not in KINDS:
        raise config_error(f"{FIELD}.kind", options.kind, f"be one of {', '.join(map(repr, KINDS))}")
    if options.size < 0:
        raise config_error(f"{FIELD}.size", options.size, "be at least 0")
    if bool(options.path) == (options.kind == "random"):
        valid = "be empty for 'random'" if options.path else f"name the run or file of {FIELD}.kind={options.kind!r}"
        raise config_error(f"{FIELD}.path", options.path, valid)
    make = {"random": _random, "encoder": _encoder, "inception": _inception, "i3d": _i3d}[options.kind]
    label, name, encode = make(options.path, frame_shape)
    name += f", projected to {options.size} numbers if longer" if options.size else ""
    least = i3d.LEAST_FRAMES if options.kind == "i3d" else 1
    return FeatureSpace(label, name, encode, frame_shape, BATCH[options.kind], options.size, least)


def _random(path: str, frame_shape: tuple[int, int, int]) -> tuple[str, str, Callable]:
    least = random_features.LEAST_SIDE
    if min(frame_shape[:2]) < least:
        raise config_error(f"{FIELD}.kind", "random", f"be another for frames below {least}x{least}: {frame_shape}")
    return "random", random_features.NAME, lambda frames: _by_frame(random_features.random_features, frames)


def _inception(path: str, frame_shape: tuple[int, int, int]) -> tuple[str, str, Callable]:
    weights = jax.device_put(inception.load(path, f"{FIELD}.path"))
    print_ = tensor_files.fingerprint({name: layer.kernel for name, layer in weights.items()})
    encode = lambda frames: _by_frame(lambda x: inception.features_of(weights, x), frames)
    return "inception", f"Inception-v3 from {pathlib.Path(path).name}, weights {print_}", encode


def _i3d(path: str, frame_shape: tuple[int, int, int]) -> tuple[str, str, Callable]:
    weights = jax.device_put(i3d.load(path, f"{FIELD}.path"))
    print_ = tensor_files.fingerprint({name: layer.kernel for name, layer in weights.items()})
    encode = lambda clips: np.asarray(i3d.features_of(weights, clips))[:, None]
    return "i3d", f"I3D from {pathlib.Path(path).name}, weights {print_}", encode


def _by_frame(function: Callable[[np.ndarray], Array], frames: np.ndarray) -> np.ndarray:
    """A function of frames [n, h, w, c] on clips [n, time, h, w, c]."""
    return np.asarray(function(frames.reshape(-1, *frames.shape[2:]))).reshape(*frames.shape[:2], -1)


def _encoder(path: str, frame_shape: tuple[int, int, int]) -> tuple[str, str, Callable]:
    # Imported when it is used, as capabilities are: what opens a run stands above the evaluators of families.
    run: Any = importlib.import_module("experiments.runs.loading").load(path)
    own = tuple(getattr(run.spec, "frame_shape", ()))  # data without frames have none
    if own != frame_shape:
        raise config_error(f"{FIELD}.path", path, f"be a run on frames {frame_shape}; its own are {own}")
    state = nnx.to_flat_state(nnx.state(run.model, nnx.Param))
    weights = {"/".join(map(str, key)): np.asarray(parallel.on_host(value[...])) for key, value in state}
    label = run.config.experiment.removesuffix(".experiment").rpartition(".")[2]
    name = f"{label} of run {run.workdir.name}, step {run.step}, weights {tensor_files.fingerprint(weights)}"

    def encode(frames: np.ndarray) -> np.ndarray:
        try:
            return parallel.on_host(_encode(run.experiment, run.model, parallel.place_beside(run.model, frames)))
        except UserError as error:
            raise ConfigError(f"{FIELD}.path", f"{FIELD}.path={path!r}: {error}") from error

    return label, name, encode


@functools.partial(jax.jit, static_argnames="experiment")
def _encode(experiment: "Experiment", model: nnx.Module, frames: Array) -> Array:
    return experiment.features(model, frames)
