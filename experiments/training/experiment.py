"""What a family of models must offer to be trained, evaluated and imagined with."""

import importlib
import pathlib
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import ml_collections
from flax import nnx

from world_models.core.errors import config_error
from world_models.core.specs import Spec
from world_models.core.types import Array
from world_models.data.dataset import Dataset

# A model in its functional form, as `nnx.split` gives it: structure (hashable) and arrays.
Split = tuple[nnx.GraphDef, Any]
Evaluator = Callable[[nnx.GraphDef, Any], dict[str, float]]


class Experiment:
    """One family: a module with a class of this name that derives from this one; its path is `config.experiment`.

    Attributes:
      spec_type: class of the specs of data that it can learn from.
    """

    spec_type: ClassVar[type[Spec]] = Spec

    def __init__(self, config: ml_collections.ConfigDict, spec: Spec):
        """Checks the config against the data. Raises UserError before anything is compiled."""
        self.config, self.spec = config, spec

    @classmethod
    def open_data(
        cls, config: ml_collections.ConfigDict, workdir: pathlib.Path, split: str, spec: Spec | None = None
    ) -> Dataset:
        """A split of the data that the config names.

        Args:
          config, workdir: of the run.
          split: name of a split.
          spec: of the data that a model was trained on, where there is one; what training data decide, such as a
            vocabulary, is taken from it.
        """
        raise NotImplementedError(f"{cls.__module__}.{cls.__name__} has no open_data")

    def check_data(self, dataset: Dataset) -> None:
        """Raises UserError if training data do not suit the config, beyond what their spec says."""

    def init(self, rngs: nnx.Rngs) -> nnx.Module:
        """A new model."""
        raise NotImplementedError(f"{type(self).__module__}.{type(self).__name__} has no init")

    def loss(self, model: nnx.Module, batch: Any, keys: Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """(scalar loss, scalar metrics) of a batch; `keys` [batch] are random keys, one an example."""
        raise NotImplementedError(f"{type(self).__module__}.{type(self).__name__} has no loss")

    def evaluators(self, workdir: pathlib.Path) -> dict[str, Evaluator]:
        """What to measure during and after training, by name."""
        return {}


def experiment_class(config: ml_collections.ConfigDict) -> type[Experiment]:
    """The class `Experiment` of the module that `config.experiment` names, which may be outside this repository.

    Raises:
      UserError: if there is no such module or class.
    """
    try:
        return importlib.import_module(config.experiment).Experiment
    except (ModuleNotFoundError, AttributeError) as error:
        if isinstance(error, ModuleNotFoundError) and not f"{config.experiment}.".startswith(f"{error.name}."):
            raise
        if isinstance(error, AttributeError) and error.name != "Experiment":
            raise
        valid = "be the dotted path of a module with a class Experiment: experiments.families.tokenizer.experiment, say"
        raise config_error("config.experiment", config.experiment, valid) from error


def make_experiment(config: ml_collections.ConfigDict, spec: Spec) -> Experiment:
    """The experiment of a config for data of a spec.

    Raises:
      UserError: if the family cannot learn from such data, or the config does not suit them.
    """
    family = experiment_class(config)
    if not isinstance(spec, family.spec_type):
        valid = f"be a family that learns from {spec.kind}, as the data are; it learns from {family.spec_type.kind}"
        raise config_error("config.experiment", config.experiment, valid)
    return family(config, spec)
