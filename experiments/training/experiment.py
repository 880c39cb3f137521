"""What a family of models must offer to be trained, evaluated and imagined with."""

import dataclasses
import functools
import importlib
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import ml_collections
from flax import nnx

from experiments.runs.values import Video
from world_models.core.errors import UserError, config_error
from world_models.core.specs import Spec
from world_models.core.types import Array
from world_models.data.dataset import Dataset

if TYPE_CHECKING:
    from experiments.runs.loading import LoadedRun
    from experiments.training.optimizers import Groups

Evaluator = Callable[[nnx.Module], dict[str, float | Video]]  # of a model with averaged weights


@dataclasses.dataclass(frozen=True)
class Capability:
    """What a command does with a trained run of a family.

    Attributes:
      module: dotted path of a module with `measure` and `write`. It is imported when it is used: training neither waits
        for it nor depends on its code.
    """

    module: str

    def measure(self, run: "LoadedRun") -> dict[str, Any]:
        """The numbers that tables read, as they stand in the command's JSON file."""
        return importlib.import_module(self.module).measure(run)

    def write(self, run: "LoadedRun", *where: Any) -> pathlib.Path:
        """Writes what the command makes, to its folder in the run's or `where` it was asked to; returns its path."""
        return importlib.import_module(self.module).write(run, *where)


class Experiment:
    """One family: a module with a class of this name that derives from this one; its path is `config.experiment`.

    Two experiments of the same class, config and data spec are equal, so that functions compiled for one serve the
    other.

    Attributes:
      spec_type: class of the specs of data that it can learn from.
    """

    spec_type: ClassVar[type[Spec]] = Spec

    def __init__(self, config: ml_collections.ConfigDict, spec: Spec):
        """Checks the config against the data. Raises UserError before anything is compiled."""
        self.config, self.spec = config, spec
        self._identity = (type(self), repr(spec), config.to_json_best_effort(sort_keys=True))

    def __eq__(self, other: object) -> bool:
        """Whether both are of the same class, config and data spec."""
        return type(self) is type(other) and self._identity == other._identity

    def __hash__(self) -> int:
        """Of class, config and data spec."""
        return hash(self._identity)

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

    def features(self, model: nnx.Module, frames: Array) -> Array:
        """Features of clips, for distances between sets of them; a family that has an encoder offers them.

        Args:
          model: a trained one.
          frames: uint8 [batch, time, h, w, c], of any time that the encoder takes.

        Returns:
          float32 [batch, moments, size]; the moments, one a frame or a few frames, are in order of time.

        Raises:
          UserError: if the family has none, or clips must have another length.
        """
        raise UserError(f"config.experiment={self.config.experiment!r} has no encoder that makes features.")

    def evaluators(self, workdir: pathlib.Path) -> dict[str, Evaluator]:
        """What to measure during and after training, by name; nothing by default."""
        return {}

    def future_measures(self, open_windows: Callable[[str, int, str], Dataset], split: str) -> dict[str, Any]:
        """What else is measured of imagined futures from contexts of a split, by name; nothing by default.

        Args:
          open_windows: opens windows of a split of the data: (split, length, the config's field of the length).
          split: of the contexts.

        Returns:
          Objects with `measure(model)`, which returns what imagine/metrics.json keeps.
        """
        return {}

    def optimizers(self) -> "Groups":
        """Options and filter of each parameter group, by name: see `make_optimizer`. By default one for all."""
        return {"all": (self.config.train.optimizer, ...)}

    def play_settings(self) -> dict[str, tuple[Any, ...]]:
        """What may be changed while its model is played: the values by name, that of the config first."""
        return {}

    def with_settings(self, model: nnx.Module, settings: dict[str, Any]) -> nnx.Module:
        """A model like `model`, which stays as it is, with the same arrays and a value of each of `play_settings`."""
        return model

    @classmethod
    def capabilities(cls) -> dict[str, Capability]:
        """By command, what the family can do with a trained run."""
        return {"eval": Capability("experiments.evaluation.measure")}

    @classmethod
    def capability(cls, command: str) -> Capability:
        """What the family does for a command. Raises UserError if it declares nothing for it."""
        offered = cls.capabilities()
        if command not in offered:
            raise UserError(
                f"The command {command!r} does not work with config.experiment={cls.__module__!r}, which offers "
                f"{', '.join(sorted(offered))}."
            )
        return offered[command]


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


@functools.lru_cache(maxsize=1)  # several probes begin with it
def new_model(experiment: Experiment, seed: int) -> nnx.Module:
    """The model with the weights that training begins with."""
    return jax.jit(lambda: experiment.init(nnx.Rngs(seed)))()
