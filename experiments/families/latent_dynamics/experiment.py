"""Experiment: several levels of latent dynamics, to be planned in."""

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import ml_collections
import numpy as np
from flax import nnx

from experiments.evaluation.rollouts import HeldOutLoss, OpenLoop, spread
from experiments.families.checks import check_pixels, check_transformer
from experiments.training.experiment import Evaluator, open_windows
from experiments.training.state import merge_model
from world_models.core import sharding as parallel
from world_models.core.errors import UserError
from world_models.core.types import Array, Clip
from world_models.data.clips import Windows
from world_models.data.dataset import DataSpec
from world_models.models.latent_dynamics.model import MultiLevelDynamics
from world_models.models.latent_dynamics.options import (
    COLORS,
    ENCODERS,
    PREDICTORS,
    TERMS,
    CNNOptions,
    DecoderOptions,
    LevelOptions,
    Options,
    ViTOptions,
)
from world_models.models.latent_dynamics.pixels import Pixels
from world_models.nn.options import TransformerOptions

MOST_LEVELS = 4
MAY_LACK = {"distance", "max_distance"}  # fields of a level that configs need not have
LOOKING_BACK = {"history", "depth", "heads"}  # fields of a level whose predictor is a transformer
ENOUGH = 0.5  # of the episodes must hold a clip
TRANSFORMER = tuple(field.name for field in dataclasses.fields(TransformerOptions))


class Experiment:
    """See `experiments.training.experiment.Experiment`."""

    def __init__(self, config: ml_collections.ConfigDict, spec: DataSpec):
        """Checks the blocks that `config.levels` names and all others against each other and the data."""
        self._config, self._spec = config, spec
        self.options = make_options(config, spec)
        _check(self.options, config, spec)

    def init(self, rngs: nnx.Rngs) -> nnx.Module:
        """A new model."""
        return MultiLevelDynamics(self.options, self._spec.frame_shape, self._spec.actions, rngs=rngs)

    def loss(self, model: nnx.Module, clip: Clip, keys: Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The losses of all levels, and those of the probe decoders."""
        return model.loss(clip, keys)

    def check_windows(self, windows: Windows) -> None:
        """Refuses training data of which an upper level would see too little.

        Raises:
          UserError: if fewer than half of the episodes are long enough for a clip.
        """
        share = float(np.mean(windows.episodes.lengths >= windows.clip_length))
        if len(self.options.levels) > 1 and share < ENOUGH:
            top = len(self.options.levels)
            raise UserError(
                f"config.data.clip_length={windows.clip_length} fits into {share:.0%} of the episodes of "
                f"{windows.episodes.name}, and level {top} (config.levels[{top - 1}]), which ticks every "
                f"{self.options.periods[-1]} frames, needs at least {ENOUGH:.0%}: lower it, or the strides, or leave "
                "that level out."
            )

    def evaluators(self, workdir: pathlib.Path) -> dict[str, Evaluator]:
        """The loss on held-out windows, rollouts of each level, and imagined frames where there is a decoder."""
        config, data, options = self._config, self._config.data, self._config.eval
        held_out = open_windows(config, workdir, data.validation_split, data.clip_length, data.stride)
        sizes = {"batch_size": config.train.batch_size, "count": options.num_examples, "seed": config.seed}
        found = {"held_out": HeldOutLoss(self, held_out, **sizes), "rollout": LatentRollouts(held_out, **sizes)}
        if self.options.decoder.channels:
            length = options.num_context + options.horizon
            futures = open_windows(config, workdir, data.validation_split, length, data.stride)
            training = open_windows(config, workdir, data.train_split, data.clip_length, data.stride)
            found["open_loop"] = OpenLoop(futures, training, options, config.seed)
        return found


class LatentRollouts:
    """Evaluator: errors of rollouts in the latent space of each level over those of latents that stay as they are.

    A ratio below 1 is better than that baseline; "_last" is of the longest rollout, "_1" of one tick.
    """

    def __init__(self, windows: Windows, *, batch_size: int, count: int, seed: int):
        """Takes `count` windows, `batch_size` at a time; nothing is drawn with `seed`."""
        del seed
        self._windows, self._batch_size = windows, min(batch_size, len(windows), count)
        self._indices = spread(windows, count)

    def __call__(self, graphdef: nnx.GraphDef, weights: Any) -> dict[str, float]:
        """Measures a model in functional form; rows that do not fill a last batch are left out."""
        batches = []
        for begin in range(0, len(self._indices) - self._batch_size + 1, self._batch_size):
            clip = self._windows.load(self._indices[begin : begin + self._batch_size])
            clip = parallel.place_beside(weights, clip)
            batches.append(jax.tree.map(parallel.on_host, _rollout_errors(graphdef, weights, clip)))
        found = {name: np.concatenate([b[name] for b in batches]).mean(axis=0) for name in batches[0]}
        ratios = {}
        for name in (name for name in found if name.endswith("_error")):
            ratio = found[name] / found[name.replace("_error", "_copy")]
            ratios |= {name.replace("error", "1"): float(ratio[0]), name.replace("error", "last"): float(ratio[-1])}
        return ratios


@functools.partial(jax.jit, static_argnums=0)
def _rollout_errors(graphdef: nnx.GraphDef, weights: Any, clip: Clip) -> dict[str, jax.Array]:
    return merge_model(graphdef, *weights).rollout_errors(clip)


def make_options(config: ml_collections.ConfigDict, spec: DataSpec) -> Options:
    """The model's options, of the numbers in the blocks of the config."""
    names = config.levels
    if not isinstance(names, tuple | list) or not 1 <= len(names) <= MOST_LEVELS:
        raise UserError(
            f"config.levels={names!r} must name 1 to {MOST_LEVELS} blocks of the config, from the bottom up: "
            "('bottom', 'upper'), say."
        )
    levels = []
    for i, name in enumerate(names):
        if not isinstance(config.get(name), ml_collections.ConfigDict):
            raise UserError(f"config.levels[{i}]={name!r} is no block of the config.")
        given = {"encoder": "frames", "stride": 1, "action": spec.actions.size} if i == 0 else {}
        fields, predictor = {field.name for field in dataclasses.fields(LevelOptions)}, config[name].get("predictor")
        if predictor not in PREDICTORS:
            raise UserError(f"config.{name}.predictor={predictor!r} must be one of {PREDICTORS}.")
        fields -= {*given, *(() if predictor == "transformer" else LOOKING_BACK)}
        what = f"{'level 1' if i == 0 else 'an upper level'} with predictor={predictor!r}"
        numbers = _exactly(config, name, fields - (MAY_LACK - set(config[name])), what)
        levels.append(LevelOptions(**numbers, **given))
    decoder = _exactly(config, "decoder", {field.name for field in dataclasses.fields(DecoderOptions)}, "a decoder")
    pixels, others = ("pixel_mean", "pixel_std", "color"), {"detach_lower", "dtype"}
    numbers = _exactly(config, "model", {*pixels, *others}, "a model of latent dynamics")
    shown = Pixels(*(numbers.pop(name) for name in pixels))
    return Options(tuple(levels), _encoder(config), DecoderOptions(**decoder), pixels=shown, **numbers)


def _encoder(config: ml_collections.ConfigDict) -> CNNOptions | ViTOptions:
    kind = config.encoder.get("kind")
    if kind == "cnn":
        numbers = _exactly(config, "encoder", {"kind", "channels", "blocks", "frozen"}, "a 'cnn'")
        del numbers["kind"]
        return CNNOptions(**numbers)
    if kind == "vit":
        numbers = _exactly(config, "encoder", {"kind", "patch", "class_token", "frozen", *TRANSFORMER}, "a 'vit'")
        del numbers["kind"]
        return ViTOptions(TransformerOptions(**{name: numbers.pop(name) for name in TRANSFORMER}), **numbers)
    raise UserError(f"config.encoder.kind={kind!r} must be one of ('cnn', 'vit').")


def _exactly(config: ml_collections.ConfigDict, block: str, fields: set[str], what: str) -> dict[str, Any]:
    """The numbers of a block that must have these fields; its lists as tuples."""
    numbers = config[block].to_dict()
    if set(numbers) != fields:
        raise UserError(f"config.{block} has {sorted(numbers)}; {what} has {sorted(fields)}.")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in numbers.items()}


def _check(options: Options, config: ml_collections.ConfigDict, spec: DataSpec) -> None:
    for i, (block, level) in enumerate(zip(config.levels, options.levels)):
        _check_level(f"config.{block}", level, options.levels[i - 1] if i else None)
    if not (options.decoder.channels or any(level.weight for level in options.levels)):
        raise UserError(
            f"config.{config.levels[0]}.weight=0: all weights of levels are 0, and config.decoder.channels=(): nothing "
            "is left to train."
        )
    length, period = config.data.clip_length, options.periods[-1]
    if length < 2 or length % period:
        raise UserError(
            f"config.data.clip_length={length} must be a multiple of {period}, the product of the strides of "
            f"config.levels={tuple(config.levels)}, and at least 2."
        )
    for block, level, frames in zip(config.levels, options.levels, options.periods):
        ticks = length // frames
        if ticks < 2:
            raise UserError(
                f"config.data.clip_length={length} must be at least {2 * frames}: the level of config.{block} ticks "
                f"every {frames} frames, and has to predict one tick from another."
            )
        if not 1 <= level.history < ticks:
            raise UserError(
                f"config.{block}.history={level.history} must be from 1 to {ticks - 1}: a clip of "
                f"config.data.clip_length={length} frames has {ticks} ticks of that level, and one must be left to "
                "predict."
            )
        if not 1 <= level.rollout <= ticks - level.history:
            raise UserError(
                f"config.{block}.rollout={level.rollout} must be from 1 to {ticks - level.history}: a clip of "
                f"config.data.clip_length={length} frames has {ticks} ticks of that level, of which {level.history} "
                "are given and the others predicted."
            )
    if config.data.across_episodes:
        raise UserError("config.data.across_episodes=True must be False: no action leads from one episode to the next.")
    if config.train.accumulate != 1:
        raise UserError(
            f"config.train.accumulate={config.train.accumulate} must be 1: variance, covariance and SIGReg are "
            "statistics of the whole batch."
        )
    channels = spec.frame_shape[-1]
    check_pixels(options.pixels.mean, options.pixels.std, channels)
    if options.pixels.color not in (COLORS if channels == 3 else COLORS[:1]):
        raise UserError(
            f"config.model.color={options.pixels.color!r} must be 'rgb', or, for frames of three channels, 'opponent'; "
            f"these have {channels}."
        )
    if options.dtype not in ("float32", "bfloat16"):
        raise UserError(f"config.model.dtype={options.dtype!r} must be 'float32' or 'bfloat16'.")
    _check_encoder(options, spec)
    decoder = options.decoder
    if decoder.channels and (min(decoder.channels) < 1 or decoder.frames < 1):
        raise UserError(
            f"config.decoder.channels={decoder.channels} and config.decoder.frames={decoder.frames} must be at least 1."
        )


def _check_level(block: str, level: LevelOptions, below: LevelOptions | None) -> None:
    for name in ("width", "hidden", "action", "depth", "heads", *(("stride",) if below else ())):
        if getattr(level, name) < (2 if name == "stride" else 1):
            least = 2 if name == "stride" else 1
            raise UserError(f"{block}.{name}={getattr(level, name)} must be at least {least}.")
    for name in ("weight", *TERMS):
        if getattr(level, name) < 0:
            raise UserError(f"{block}.{name}={getattr(level, name)} must be at least 0.")
    if level.max_distance <= 0:
        raise UserError(f"{block}.max_distance={level.max_distance} must be above 0: ticks of the longest way, about.")
    if below and level.encoder not in ENCODERS[1:]:
        raise UserError(f"{block}.encoder={level.encoder!r} must be one of {ENCODERS[1:]}.")
    if level.width % level.heads:
        raise UserError(f"{block}.heads={level.heads} must divide {block}.width={level.width}.")
    if level.encoder == "identity" and level.width != below.width:
        raise UserError(
            f"{block}.width={level.width} must be {below.width}, that of the level below: {block}.encoder is "
            "'identity'."
        )


def _check_encoder(options: Options, spec: DataSpec) -> None:
    encoder = options.encoder
    if isinstance(encoder, CNNOptions):
        if not encoder.channels or min(encoder.channels) < 1 or encoder.blocks < 0:
            raise UserError(
                f"config.encoder.channels={encoder.channels} must be at least 1 each, and config.encoder.blocks="
                f"{encoder.blocks} at least 0."
            )
        return
    check_transformer("config.encoder", encoder.transformer)
    if encoder.patch < 1 or any(side % encoder.patch for side in spec.frame_shape[:2]):
        raise UserError(
            f"Frames of {spec.frame_shape[0]}x{spec.frame_shape[1]} must be multiples of config.encoder.patch="
            f"{encoder.patch}: set that or config.data.image_size."
        )
