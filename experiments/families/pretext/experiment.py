"""Experiment: an encoder trained on a pretext task, judged by the task itself and by what the encoder knows."""

import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
from flax import nnx

from experiments.evaluation.probes import FROZEN, make_probes
from experiments.evaluation.reconstructions import Pictures
from experiments.evaluation.rollouts import spread
from experiments.evaluation.tracking import Tracking
from experiments.families.base import VideoExperiment
from experiments.families.checks import check_least, check_one_of, check_patches, check_pixels, check_transformer
from experiments.families.pretext.classes import with_classes
from experiments.families.pretext.colors import Colors
from experiments.families.pretext.evaluators import HeldOut, task_metrics
from experiments.families.pretext.options import PretextConfig
from experiments.runs.config import read
from experiments.training.experiment import Capability, Evaluator
from world_models.core.errors import config_error
from world_models.core.options import from_dict
from world_models.core.specs import VideoSpec
from world_models.core.types import Array, Clip
from world_models.data.dataset import Dataset
from world_models.models.latent_dynamics.options import CNNOptions
from world_models.models.pretext.model import POOLS, TASKS, PretextModel
from world_models.models.pretext.options import TASK, ColorizationOptions, ColorTrackingOptions, ExemplarOptions
from world_models.nn.options import with_compute

# By class of task options, what else is measured: functions (experiment, held-out clips) -> evaluators by name.
EXTRA: dict[type, Callable[["Experiment", Dataset], dict[str, Evaluator]]] = {
    ColorizationOptions: lambda experiment, held_out: {"colors": Colors(experiment, held_out)},
}


class Experiment(VideoExperiment):
    """An encoder of single frames and the pretext task `config.model.task` that trains it."""

    caveat = ""

    def __init__(self, config: ml_collections.ConfigDict, spec: VideoSpec):
        """Checks `config.model`, its encoder and its task, against the data."""
        super().__init__(config, spec)
        self.config = read(config, PretextConfig)
        self.frames_shape = (self.config.data.clip_length, *spec.frame_shape)
        self.options = with_compute(self.config.model, self.config.runtime.compute)
        self.task = TASKS[type(self.options.task)]
        self._check()

    @classmethod
    def open_data(
        cls, config: ml_collections.ConfigDict, workdir: pathlib.Path, split: str, spec: VideoSpec | None = None
    ) -> Dataset:
        """Clips of `config.data.clip_length` frames, with a class each if the task gives them one."""
        task = config.model.task
        if isinstance(task, ml_collections.ConfigDict):  # before the config is read
            task = from_dict(TASK, task.to_dict(), "config.model.task")
        windows = super().open_data(config, workdir, split, spec)
        if isinstance(task, ExemplarOptions) and split != config.data.train_split:
            return windows  # only images of the training split are told apart
        return with_classes(task, windows, config.seed)

    def check_data(self, dataset: Dataset) -> None:
        """Frames must have colours where these are the task, also if they have the channels for them."""
        super().check_data(dataset)
        if isinstance(self.options.task, ColorizationOptions | ColorTrackingOptions):
            frames = dataset.load(spread(dataset, 16)).frames
            if (frames == frames[..., :1]).all():
                kind = TASK.name_of(self.config.model.task)
                raise config_error("config.model.task.kind", kind, "be another task for grey frames: it needs colours")

    def _check(self) -> None:
        options, probes = self.options, self.config.eval.probes
        encoder, field = options.encoder, "config.model.encoder"
        check_one_of("config.model", options, dtype=("float32", "bfloat16"))
        check_pixels(options.pixels, self.frames_shape[-1])
        if isinstance(encoder, CNNOptions):
            if not encoder.channels or min(encoder.channels) < 1:
                raise config_error(f"{field}.channels", encoder.channels, "be widths of stacks, at least one")
            check_least(field, encoder, "blocks", 0)
        else:
            check_patches(encoder.patch, self.frames_shape[1:], f"{field}.patch")
            check_transformer(field, encoder)
        check_one_of("config.eval.probes", probes, pool=POOLS)
        if not set(probes.names) <= set(FROZEN):
            raise config_error("config.eval.probes.names", probes.names, f"be some of {FROZEN}")
        self.task.check(options, self.frames_shape)

    @property
    def stages(self) -> tuple[str, ...]:
        """What the task draws.

        Raises:
          ConfigError: if it draws nothing.
        """
        if not self.task.stages:
            drawing = [name for name, options in TASK.types.items() if TASKS[options].stages]
            valid = f"be one that draws pictures: {', '.join(drawing)}"
            raise config_error("config.model.task.kind", TASK.name_of(self.config.model.task), valid)
        return self.task.stages

    def init(self, rngs: nnx.Rngs) -> nnx.Module:
        """A new model."""
        return PretextModel(self.options, self.frames_shape, rngs=rngs)

    def loss(self, model: nnx.Module, clip: Clip, keys: Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The loss of the task."""
        return model.loss(clip, keys)

    def features(self, model: PretextModel, frames: Array) -> jax.Array:
        """The mean over the map of every frame."""
        return model.frame_features(frames)

    def evaluators(self, workdir: pathlib.Path) -> dict[str, Evaluator]:
        """The task on held-out clips beside chance, its picture, and the probes of `config.eval.probes.names`."""
        config, data, task = self.config, self.config.data, self.options.task
        # New views of the training images are what is held out from a task that tells these apart.
        seen = isinstance(task, ExemplarOptions) and task.form == "classes"
        held_out = self.open_data(config, workdir, data.train_split if seen else data.validation_split)
        found: dict[str, Evaluator] = {"held_out": HeldOut(self, held_out, task_metrics, self._chances)}
        if self.task.stages:
            path = workdir / "pictures" / "reconstructions.png"
            count = config.eval.num_pictures
            found["pictures"] = Pictures(self.reconstructions, self.stages, held_out, path, count)
        if extra := EXTRA.get(type(task)):
            found |= extra(self, held_out)
        if config.eval.tracking.num_clips:
            found["tracking"] = Tracking(self, compared, config, workdir)
        return {**found, **make_probes(self, config, workdir)}

    def _chances(self, batch: int) -> dict[str, float]:
        task, asked = self.options.task, self.config.eval.held_out.num_examples
        if isinstance(task, ExemplarOptions) and task.form == "triplet" and batch < 2:
            valid = "give at least two held-out clips to tell apart, as must the validation split and a batch"
            raise config_error("config.eval.held_out.num_examples", asked, valid)
        return self.task.chances(task, batch)

    @staticmethod
    def reconstructions(model: PretextModel, clip: Clip, keys: Array) -> dict[str, Array]:
        """What the task draws of clips: uint8, all of one shape."""
        return model.task.pictures(model.encode, clip._replace(frames=jnp.asarray(clip.frames)), keys)

    @classmethod
    def capabilities(cls) -> dict[str, Capability]:
        """Tasks that draw something show it."""
        return {**super().capabilities(), "imagine": Capability("experiments.evaluation.reconstructions")}


def compared(model: PretextModel, frames: Array) -> jax.Array:
    """Features of frames [n, h, w, c] by which places are compared, see `Task.correspondence`."""
    return model.task.correspondence(model.encode(model.task.view(frames)))
