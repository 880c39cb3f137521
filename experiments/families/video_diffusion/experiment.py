"""Experiment: an action-conditioned video diffusion world model in pixel space."""

import dataclasses
import itertools
import pathlib

import jax
import ml_collections
from flax import nnx

from experiments.evaluation.rollouts import HeldOutLoss, OpenLoop
from experiments.families.checks import check_patches, check_transformer
from experiments.training.experiment import Evaluator, open_windows
from world_models.core.errors import UserError
from world_models.core.types import Array, Clip
from world_models.data.dataset import DataSpec
from world_models.diffusion.ddpm import DDPM
from world_models.diffusion.edm import EDM
from world_models.diffusion.process import Process
from world_models.models.video_diffusion.model import VideoDiffusion
from world_models.models.video_diffusion.options import VideoDiffusionOptions
from world_models.nn.options import TransformerOptions, UNetOptions

PROCESSES = {"edm": EDM, "ddpm": DDPM}
NETWORKS = {"unet": UNetOptions, "transformer": TransformerOptions}


class Experiment:
    """See `experiments.training.experiment.Experiment`."""

    def __init__(self, config: ml_collections.ConfigDict, spec: DataSpec):
        """Checks `config.model`, `config.sampler` and `config.data` against each other and the data."""
        self._config, self._spec = config, spec
        tuples = {"context_offsets": tuple(config.model.context_offsets)}
        self.options = VideoDiffusionOptions(network=make_network(config), **config.model.to_dict() | tuples)
        self.process = make_process(config)
        _check(self.options, config, spec)

    def init(self, rngs: nnx.Rngs) -> nnx.Module:
        """A new model."""
        return VideoDiffusion(self.options, self.process, self._spec.frame_shape, self._spec.actions, rngs=rngs)

    def loss(self, model: nnx.Module, clip: Clip, keys: Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The denoising loss."""
        return model.loss(clip, keys)

    def evaluators(self, workdir: pathlib.Path) -> dict[str, Evaluator]:
        """The loss on held-out windows, and open-loop futures from held-out contexts."""
        config, data, options = self._config, self._config.data, self._config.eval
        held_out = open_windows(config, workdir, data.validation_split, data.clip_length, data.stride)
        length = options.num_context + options.horizon
        futures = open_windows(config, workdir, data.validation_split, length, data.stride)
        training = open_windows(config, workdir, data.train_split, data.clip_length, data.stride)
        batch = config.train.batch_size
        return {
            "held_out": HeldOutLoss(self, held_out, batch_size=batch, count=options.num_examples, seed=config.seed),
            "open_loop": OpenLoop(futures, training, options, config.seed),
        }


def make_process(config: ml_collections.ConfigDict) -> Process:
    """The process that `config.diffusion.process` names, of the numbers in `config.diffusion` and `config.sampler`."""
    numbers = config.diffusion.to_dict() | config.sampler.to_dict()
    name = numbers.pop("process")
    if name not in PROCESSES:
        raise UserError(f"config.diffusion.process={name!r} must be one of {tuple(PROCESSES)}.")
    fields = {field.name for field in dataclasses.fields(PROCESSES[name])}
    if set(numbers) - fields:
        raise UserError(
            f"config.diffusion and config.sampler have {sorted(set(numbers) - fields)}, which the process {name!r} "
            f"does not know: it has {sorted(fields)}."
        )
    process = PROCESSES[name](**numbers)
    for field, allowed in {"initial_noise": ("sigma_max", "unit"), "order": (1, 2)}.items():
        if numbers.get(field, allowed[0]) not in allowed:
            raise UserError(f"config.sampler.{field}={numbers[field]!r} must be one of {allowed}.")
    if process.num_steps < 1:
        raise UserError(f"config.sampler.num_steps={process.num_steps} must be at least 1.")
    return process


def make_network(config: ml_collections.ConfigDict) -> UNetOptions | TransformerOptions:
    """The options of the network that `config.network.kind` names, of the numbers beside it."""
    numbers = config.network.to_dict()
    kind = numbers.pop("kind")
    if kind not in NETWORKS:
        raise UserError(f"config.network.kind={kind!r} must be one of {tuple(NETWORKS)}.")
    fields = {field.name for field in dataclasses.fields(NETWORKS[kind])}
    if set(numbers) != fields:
        raise UserError(f"config.network has {sorted(numbers)}; a {kind!r} has {sorted(fields)}.")
    if "channels" in numbers:
        numbers["channels"] = tuple(numbers["channels"])
    return NETWORKS[kind](**numbers)


def _check(options: VideoDiffusionOptions, config: ml_collections.ConfigDict, spec: DataSpec) -> None:
    if isinstance(options.network, UNetOptions):
        _check_unet(options, spec)
    else:
        check_patches(options.patch, spec.frame_shape)
        check_transformer("config.network", options.network)
    offsets = options.context_offsets
    if not offsets or offsets[-1] != 1 or any(a <= b for a, b in itertools.pairwise(offsets)):
        raise UserError(
            f"config.model.context_offsets={offsets} must fall and end with 1, the newest frame: (4, 3, 2, 1), say."
        )
    if options.condition % (2 * len(offsets)):
        raise UserError(
            f"config.model.condition={options.condition} must be an even multiple of the {len(offsets)} frames in "
            f"config.model.context_offsets={offsets}."
        )
    for name, allowed in {"target": ("frame", "change"), "dtype": ("float32", "bfloat16")}.items():
        if getattr(options, name) not in allowed:
            raise UserError(f"config.model.{name}={getattr(options, name)!r} must be one of {allowed}.")
    if config.data.clip_length <= options.context_frames:
        raise UserError(
            f"config.data.clip_length={config.data.clip_length} must be larger than {options.context_frames}, the "
            f"first of config.model.context_offsets={offsets}: the frames beyond it are the ones to predict."
        )
    for name in ("eval", "imagine"):
        if config[name].num_context < options.context_frames:
            raise UserError(
                f"config.{name}.num_context={config[name].num_context} must be at least {options.context_frames}, the "
                f"first of config.model.context_offsets={offsets}."
            )


def _check_unet(options: VideoDiffusionOptions, spec: DataSpec) -> None:
    height, width, _ = spec.frame_shape
    channels = options.network.channels
    shrink = options.patch * 2 ** (len(channels) - 1)
    if height % shrink or width % shrink:
        raise UserError(
            f"Frames of {height}x{width} must be multiples of config.model.patch x 2^(levels - 1) = "
            f"{shrink}, with {len(channels)} levels in config.network.channels={channels}: set config.data.image_size."
        )
    if any(c % 32 and c > 32 for c in channels) or min(channels) < 8 or channels[-1] % 8:
        raise UserError(
            f"config.network.channels={channels}: a level must have 8 to 32 channels or a multiple of 32, and "
            "the last a multiple of 8."
        )
