"""Experiment: an action-conditioned video diffusion world model in pixel space."""

import pathlib

import jax
import ml_collections
from flax import nnx

from experiments.experiment import Evaluator, open_windows
from experiments.rollouts import HeldOutLoss, OpenLoop
from world_models.data.dataset import DataSpec
from world_models.errors import UserError
from world_models.types import Array, Clip
from world_models.video_diffusion.model import Options, VideoDiffusion


class Experiment:
    """See `experiments.experiment.Experiment`."""

    def __init__(self, config: ml_collections.ConfigDict, spec: DataSpec):
        """Checks `config.model`, `config.sampler` and `config.data` against each other and the data."""
        self._config, self._spec = config, spec
        self.options = Options(
            **{**config.model.to_dict(), "channels": tuple(config.model.channels)}, **config.sampler.to_dict()
        )
        _check(self.options, config, spec)

    def init(self, rngs: nnx.Rngs) -> nnx.Module:
        """A new model."""
        return VideoDiffusion(self.options, self._spec.frame_shape, self._spec.actions, rngs=rngs)

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


def _check(options: Options, config: ml_collections.ConfigDict, spec: DataSpec) -> None:
    height, width, _ = spec.frame_shape
    shrink = options.patch * 2 ** (len(options.channels) - 1)
    if height % shrink or width % shrink:
        raise UserError(
            f"Frames of {height}x{width} must be multiples of config.model.patch x 2^(levels - 1) = "
            f"{shrink}, with {len(options.channels)} levels in config.model.channels={options.channels}: "
            "set config.data.image_size."
        )
    if any(c % 32 and c > 32 for c in options.channels) or min(options.channels) < 8 or options.channels[-1] % 8:
        raise UserError(
            f"config.model.channels={options.channels}: a level must have 8 to 32 channels or a multiple of 32, and "
            "the last a multiple of 8."
        )
    if options.condition % (2 * options.context_frames):
        raise UserError(
            f"config.model.condition={options.condition} must be an even multiple of "
            f"config.model.context_frames={options.context_frames}."
        )
    choices = {"target": ("frame", "change"), "initial_noise": ("sigma_max", "unit"), "order": (1, 2)}
    choices["dtype"] = ("float32", "bfloat16")
    for name, allowed in choices.items():
        if getattr(options, name) not in allowed:
            raise UserError(f"config: {name}={getattr(options, name)!r} must be one of {allowed}.")
    if config.data.clip_length <= options.context_frames:
        raise UserError(
            f"config.data.clip_length={config.data.clip_length} must be larger than config.model.context_frames="
            f"{options.context_frames}: the frames beyond it are the ones to predict."
        )
    for name in ("eval", "imagine"):
        if config[name].num_context < options.context_frames:
            raise UserError(
                f"config.{name}.num_context={config[name].num_context} must be at least config.model.context_frames="
                f"{options.context_frames}."
            )
