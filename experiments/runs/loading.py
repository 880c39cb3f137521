"""A trained run, opened from its folder alone."""

import dataclasses
import json
import pathlib
from collections.abc import Collection
from typing import Any

import jax
import ml_collections
import numpy as np
from flax import nnx

from experiments.evaluation.rollouts import roll_out
from experiments.runs import trust
from experiments.runs import workdir as workdirs
from experiments.runs.files import read_json
from experiments.training.data import open_windows
from experiments.training.experiment import Experiment, make_experiment
from experiments.training.state import abstract_model
from world_models.checkpointing import checkpoints
from world_models.core import sharding as parallel
from world_models.core import specs
from world_models.core.errors import ConfigError, UserError
from world_models.core.paths import local_path
from world_models.core.types import Array
from world_models.data.dataset import Dataset


@dataclasses.dataclass
class LoadedRun:
    """A trained world model with its config and data.

    Attributes:
      workdir: the folder of the run.
      config: its resolved config.
      spec: of its training data.
      experiment: its family.
      model: with averaged weights, on all devices; jitted functions take it as it is.
      step: training steps behind the weights.
      trusted: packages and modules outside this repository that its config may name: see `experiments.runs.trust`.
    """

    workdir: pathlib.Path
    config: ml_collections.ConfigDict
    spec: specs.Spec
    experiment: Experiment
    model: nnx.Module
    step: int
    trusted: Collection[str] = ()

    def __repr__(self) -> str:
        """One line; config and weights would fill pages."""
        count = sum(x.size for x in jax.tree.leaves(nnx.state(self.model, nnx.Param)))
        return f"LoadedRun({str(self.workdir)!r}, {self.config.experiment}, step {self.step}, {count:,} parameters)"

    def provenance(self, **extra: Any) -> dict[str, Any]:
        """Where numbers about it come from, as `workdirs.provenance`, with the revision that trained it."""
        trained = read_json(self.workdir / "provenance.json", "restore it from a copy", ["revision"])["revision"]
        return workdirs.provenance(step=self.step, seed=self.config.seed, trained_at=trained, **extra)

    def provenance_of(self, split: str) -> dict[str, Any]:
        """Where numbers come from that are measured on a split of its data."""
        dataset = self.experiment.open_data(self.config, self.workdir, split, self.spec)
        return self.provenance(data=dataset.name, data_fingerprint=dataset.fingerprint)

    def windows(self, split: str, length: int, *, field: str = "length") -> Dataset:
        """Windows of `length` steps from a split of the run's data.

        Raises:
          UserError: if the data's frames or actions are not those that the model was trained on.
        """
        options = {"spec": self.spec, "field": field, "across_episodes": False}
        windows = open_windows(self.config, self.workdir, split, length, self.config.data.stride, **options)
        mine, theirs = self.spec, windows.spec
        same_actions = (mine.actions.kind, mine.actions.size) == (theirs.actions.kind, theirs.actions.size)
        if mine.frame_shape != theirs.frame_shape or not same_actions:
            raise ConfigError(
                "config.data.dataset",
                f"config.data.dataset={windows.name!r} has frames {theirs.frame_shape} and {theirs.actions.size} "
                f"{theirs.actions.kind} actions; the model of {self.workdir} was trained on {mine.frame_shape} and "
                f"{mine.actions.size} {mine.actions.kind} ones.",
            )
        return windows

    def imagine(self, frames: Array, actions: Array, seed: int = 0) -> np.ndarray:
        """The frames that would follow a context.

        Args:
          frames: uint8 [batch, context, h, w, c].
          actions: [batch, context − 1 + horizon, ...]: those between the context's frames, then the future ones.
          seed: of the noise.

        Returns:
          uint8 [batch, horizon, h, w, c].
        """
        return roll_out(self.model, frames.shape[1], frames, actions, jax.random.key(seed))


def _changed(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> str:
    """Fields of `config` that are not as the run has them, in words."""
    listed = lambda config: json.loads(config.to_json_best_effort())
    changed = workdirs.differences(listed(workdirs.load_config(workdir)), listed(config))
    return (
        "; ".join(f"config.{name} is {new!r}, there it is {old!r}" for name, old, new in changed[:8]) or "same config"
    )


def load(
    workdir: str | pathlib.Path,
    step: int | None = None,
    config: ml_collections.ConfigDict | None = None,
    *,
    trusted: Collection[str] = (),
) -> LoadedRun:
    """Opens a trained run.

    Args:
      workdir: its folder.
      step: which checkpoint; the newest by default.
      config: instead of the one in the folder, for other evaluation settings.
      trusted: packages and modules outside this repository that the run may import. Others that its config names raise:
        a folder from somebody else runs no code of theirs.

    Raises:
      UserError: if there is no run or no such checkpoint, its files are damaged, or it names a module that is not
        trusted.
    """
    workdir = local_path(workdir, "--workdir")
    config = config or workdirs.load_config(workdir)
    if not (workdir / "checkpoints").is_dir() or not (workdir / "data_spec.json").exists():
        raise UserError(f"--workdir={workdir} has no checkpoints yet: run launch.py train first.")
    trust.check(config, ["experiment"], trusted)
    spec = _read_spec(workdir / "data_spec.json", trusted)
    experiment = make_experiment(config, spec)
    merge, (params, constants), names = abstract_model(experiment, config.seed)
    mesh = parallel.make_mesh((1, -1, 1))  # whatever the run was trained on
    place = lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)
    params = jax.tree.map(place, params, parallel.shardings(names, params, config.runtime.sharding, mesh))
    constants = jax.tree.map(lambda x: place(x, parallel.replicated(mesh)), constants)
    saver = checkpoints.Checkpoints(workdir / "checkpoints", read_only=True)
    found = saver.latest if step is None else step
    try:
        trees, _ = saver.restore({"weights": {"ema": params, "constants": constants}}, found)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(
            f"{workdir}: checkpoint {found} does not fit the model of this config ({_changed(workdir, config)}): leave "
            "what the model is made of as it was in training."
        ) from error
    saver.close()
    model = merge(trees["weights"]["ema"], trees["weights"]["constants"])
    return LoadedRun(workdir, config, spec, experiment, model, found, trusted)


def _read_spec(path: pathlib.Path, trusted: Collection[str]) -> specs.Spec:
    """What training data were like."""
    remedy = "launch.py train writes it anew"
    found = read_json(path, remedy)
    if str(found.get("kind", specs.VideoSpec.kind)) not in specs.KINDS:
        trust.check_kind(found["kind"], trusted)
    try:
        return specs.from_dict(found)
    except (KeyError, TypeError, ValueError, AttributeError, ImportError) as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}: {error}): {remedy}.") from error
