"""What a family of models must offer to be trained, evaluated and imagined with."""

import importlib
import pathlib
from collections.abc import Callable
from typing import Any, Protocol

import jax
import ml_collections
from flax import nnx

from experiments.runs.workdir import dataset_of
from world_models.core.errors import UserError
from world_models.core.types import Array, Clip
from world_models.data.clips import Windows
from world_models.data.dataset import DataSpec, Episodes

# A model in its functional form, as `nnx.split` gives it: structure (hashable) and arrays.
Split = tuple[nnx.GraphDef, Any]
Evaluator = Callable[[nnx.GraphDef, Any], dict[str, float]]


class Experiment(Protocol):
    """One family: a module with a class of this name and form, whose dotted path is `config.experiment`.

    It may have a method `check_windows(windows)`, which raises UserError if training data do not suit the config.
    """

    def __init__(self, config: ml_collections.ConfigDict, spec: DataSpec):
        """Checks the config against the data. Raises UserError before anything is compiled."""

    def init(self, rngs: nnx.Rngs) -> nnx.Module:
        """A new model."""

    def loss(self, model: nnx.Module, clip: Clip, keys: Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """(scalar loss, scalar metrics) of a batch; `keys` [batch] are random keys, one an example."""

    def evaluators(self, workdir: pathlib.Path) -> dict[str, Evaluator]:
        """What to measure during and after training, by name."""


def make_experiment(config: ml_collections.ConfigDict, spec: DataSpec) -> Experiment:
    """The experiment that `config.experiment` names: the class `Experiment` of that module, which may be anybody's."""
    try:
        module = importlib.import_module(config.experiment)
        return module.Experiment(config, spec)
    except (ModuleNotFoundError, AttributeError) as error:
        if isinstance(error, ModuleNotFoundError) and not f"{config.experiment}.".startswith(f"{error.name}."):
            raise
        if isinstance(error, AttributeError) and error.name != "Experiment":
            raise
        raise UserError(
            f"config.experiment={config.experiment!r} is no importable module with a class Experiment: give its "
            "dotted path, 'experiments.families.video_diffusion.experiment' for example."
        ) from error


def open_episodes(config: ml_collections.ConfigDict, workdir: pathlib.Path, split: str) -> Episodes:
    """A split of the run's data set."""
    data = config.data
    return Episodes(
        dataset_of(config, workdir),
        split,
        image_key=data.image_key,
        action_key=data.action_key,
        image_size=tuple(data.image_size) if data.image_size else None,
        num_actions=data.num_actions,
        cache_bytes=int(config.runtime.data.cache_gb * 2**30),
        max_damaged=config.runtime.data.max_damaged,
    )


def open_windows(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, split: str, clip_length: int, stride: int
) -> Windows:
    """Windows of a split of the run's data set."""
    episodes = open_episodes(config, workdir, split)
    return Windows(episodes, clip_length, stride, across_episodes=config.data.across_episodes)
