"""Experiment: several levels of latent dynamics, to be planned in."""

import dataclasses
import pathlib

import jax
import ml_collections
import numpy as np
from flax import nnx

from experiments.evaluation.rollouts import HeldOutLoss, OpenLoop, held_out_rows
from experiments.families.base import VideoExperiment
from experiments.families.checks import (
    check_heads,
    check_least,
    check_one_of,
    check_patches,
    check_pixels,
    check_transformer,
    check_within_episodes,
)
from experiments.families.latent_dynamics.options import LatentDynamicsConfig
from experiments.runs.config import read
from experiments.training.data import open_windows
from experiments.training.experiment import Capability, Evaluator
from world_models.core import sharding as parallel
from world_models.core.errors import ConfigError, config_error
from world_models.core.specs import VideoSpec
from world_models.core.types import Array, Clip
from world_models.data.clips import Windows
from world_models.data.dataset import Dataset
from world_models.models.latent_dynamics.model import MultiLevelDynamics
from world_models.models.latent_dynamics.options import (
    ENCODERS,
    PREDICTORS,
    TERMS,
    CNNOptions,
    LatentDynamicsOptions,
    LevelOptions,
)
from world_models.nn.options import with_compute

MOST_LEVELS = 4
MIN_SHARE = 0.5  # of the episodes must be long enough for a clip


class Experiment(VideoExperiment):
    """Several levels of latent dynamics: trained by one sum of losses, judged by rollouts and by planning."""

    def __init__(self, config: ml_collections.ConfigDict, spec: VideoSpec):
        """Checks the blocks that `config.model.levels` names and all others against each other and the data."""
        super().__init__(config, spec)
        self.config = read(config, LatentDynamicsConfig)
        self.options = make_options(self.config, spec)
        _check(self.options, self.config, spec)

    def init(self, rngs: nnx.Rngs) -> nnx.Module:
        """A new model."""
        return MultiLevelDynamics(self.options, self.spec.frame_shape, self.spec.actions, rngs=rngs)

    def loss(self, model: nnx.Module, clip: Clip, keys: Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The losses of all levels, and those of the probe decoders."""
        return model.loss(clip, keys)

    def check_data(self, dataset: Dataset) -> None:
        """Raises ConfigError if fewer than half of the episodes are long enough for a clip of several levels."""
        for windows in dataset.parts:
            self._check_coverage(windows)

    def _check_coverage(self, windows: Windows) -> None:
        share = float(np.mean(windows.episodes.lengths >= windows.clip_length))
        if len(self.options.levels) > 1 and share < MIN_SHARE:
            top = len(self.options.levels)
            raise ConfigError(
                "config.data.clip_length",
                f"config.data.clip_length={windows.clip_length} fits into {share:.0%} of the episodes of "
                f"{windows.episodes.name}, and level {top} (config.model.levels[{top - 1}]), which ticks every "
                f"{self.options.periods[-1]} frames, needs at least {MIN_SHARE:.0%}: lower it or the strides, or leave "
                "that level out.",
            )

    def features(self, model: MultiLevelDynamics, frames: Array) -> jax.Array:
        """The latents of level 1, of every frame."""
        return model.encode(frames)

    def evaluators(self, workdir: pathlib.Path) -> dict[str, Evaluator]:
        """The loss on held-out windows, rollouts of each level, and imagined frames where there is a decoder."""
        config, data, options = self.config, self.config.data, self.config.eval
        held_out = open_windows(config, workdir, data.validation_split, data.clip_length, data.stride)
        sizes = {"batch_size": config.train.batch_size, "count": options.held_out.num_examples, "seed": config.seed}
        found = {"held_out": HeldOutLoss(self, held_out, **sizes), "rollout": LatentRollouts(held_out, **sizes)}
        if self.options.decoder.channels:
            length = options.open_loop.num_context + options.open_loop.horizon
            futures = open_windows(config, workdir, data.validation_split, length, data.stride)
            training = open_windows(config, workdir, data.train_split, data.clip_length, data.stride)
            found["open_loop"] = OpenLoop(futures, training, options.open_loop, config.seed)
        return found

    @classmethod
    def capabilities(cls) -> dict[str, Capability]:
        """It imagines futures and is played, where it has a decoder, and is planned in."""
        return {
            **super().capabilities(),
            "imagine": Capability("experiments.evaluation.futures"),
            "plan": Capability("experiments.planning.results"),
            "play": Capability("experiments.play.run_scene"),
        }


class LatentRollouts:
    """Evaluator: errors of rollouts in the latent space of each level, as ratios to those of a persistence baseline.

    The baseline predicts that latents stay as they are; a ratio below 1 is better than it. "_last" is of the last tick
    of the longest rollout, "_1" of its first.
    """

    def __init__(self, windows: Windows, *, batch_size: int, count: int, seed: int):
        """Takes `count` windows, `batch_size` at a time; nothing is drawn with `seed`."""
        del seed
        self._windows, self._batch_size = windows, min(batch_size, len(windows), count)
        self._indices = held_out_rows(windows, count)

    def __call__(self, model: nnx.Module) -> dict[str, float]:
        """Measures a `MultiLevelDynamics`; rows that do not fill a last batch are left out."""
        batches = []
        for begin in range(0, len(self._indices) - self._batch_size + 1, self._batch_size):
            clip = parallel.place_beside(model, self._windows.load(self._indices[begin : begin + self._batch_size]))
            batches.append(jax.tree.map(parallel.on_host, _rollout_errors(model, clip)))
        found = {name: np.concatenate([b[name] for b in batches]).mean(axis=0) for name in batches[0]}
        ratios = {}
        for name in (name for name in found if name.endswith("_error")):
            ratio = found[name] / found[name.replace("_error", "_copy")]
            ratios |= {name.replace("error", "1"): float(ratio[0]), name.replace("error", "last"): float(ratio[-1])}
        return ratios


@jax.jit
def _rollout_errors(model: MultiLevelDynamics, clip: Clip) -> dict[str, jax.Array]:
    return model.rollout_errors(clip)


def make_options(config: LatentDynamicsConfig, spec: VideoSpec) -> LatentDynamicsOptions:
    """The model's options: the entries of `config.model.level` that `config.model.levels` names, from the lowest up."""
    model, names = config.model, config.model.levels
    if not 1 <= len(names) <= MOST_LEVELS:
        valid = f"name 1 to {MOST_LEVELS} entries of config.model.level, from the lowest up"
        raise config_error("config.model.levels", names, valid)
    for i, name in enumerate(names):
        if name not in model.level:
            raise config_error(f"config.model.levels[{i}]", name, f"be one of {', '.join(map(repr, model.level))}")
    lowest = {"encoder": "frames", "stride": 1, "action": spec.actions.size}
    levels = [model.level[name] for name in names]
    levels[0] = dataclasses.replace(levels[0], **lowest)
    same = {name: getattr(model, name) for name in ("encoder", "decoder", "pixels", "heads", "detach_lower", "dtype")}
    return with_compute(LatentDynamicsOptions(levels=tuple(levels), **same), config.runtime.compute)


def _check(options: LatentDynamicsOptions, config: LatentDynamicsConfig, spec: VideoSpec) -> None:
    blocks = [f"config.model.level.{name}" for name in config.model.levels]
    for i, (block, level) in enumerate(zip(blocks, options.levels)):
        _check_level(block, level, options.levels[i - 1] if i else None)
    if not (options.decoder.channels or any(level.weight for level in options.levels)):
        valid = "be above 0 for one level, or config.model.decoder.channels not empty: nothing is left to train"
        raise config_error(f"{blocks[0]}.weight", 0, valid)
    _check_length(options, config, blocks)
    check_within_episodes(config.data.across_episodes)
    if config.train.accumulate != 1:
        valid = "be 1: variance, covariance and SIGReg are statistics of the whole batch"
        raise config_error("config.train.accumulate", config.train.accumulate, valid)
    check_heads(options.heads)
    check_pixels(options.pixels, spec.frame_shape[-1])
    check_one_of("config.model", options, dtype=("float32", "bfloat16"))
    _check_encoder(options, spec)
    decoder = options.decoder
    if decoder.channels and min(decoder.channels) < 1:
        raise config_error("config.model.decoder.channels", decoder.channels, "be at least 1 each")
    check_least("config.model.decoder", decoder, "frames", 1)


def _check_length(options: LatentDynamicsOptions, config: LatentDynamicsConfig, blocks: list[str]) -> None:
    """Whether a clip has enough ticks of every level."""
    length, period = config.data.clip_length, options.periods[-1]
    if length < 2 or length % period:
        valid = f"be a multiple of {period}, the product of the strides of config.model.levels, and at least 2"
        raise config_error("config.data.clip_length", length, valid)
    for block, level, frames in zip(blocks, options.levels, options.periods):
        ticks = length // frames
        if ticks < 2:
            valid = f"be at least {2 * frames}: {block} ticks every {frames} frames and predicts one tick from another"
            raise config_error("config.data.clip_length", length, valid)
        if not 1 <= level.history < ticks:
            valid = f"be from 1 to {ticks - 1}: a clip of {length} frames has {ticks} ticks, and one is left to predict"
            raise config_error(f"{block}.history", level.history, valid)
        if not 1 <= level.rollout <= ticks - level.history:
            valid = (
                f"be from 1 to {ticks - level.history}: a clip of {length} frames has {ticks} ticks, of which "
                f"{level.history} are given"
            )
            raise config_error(f"{block}.rollout", level.rollout, valid)


def _check_level(block: str, level: LevelOptions, below: LevelOptions | None) -> None:
    check_one_of(block, level, predictor=PREDICTORS, **({"encoder": ENCODERS[1:]} if below else {}))
    for name in ("width", "hidden", "action", "depth", "heads"):
        check_least(block, level, name, 1)
    if below:
        check_least(block, level, "stride", 2)
    for name in ("weight", *TERMS):
        check_least(block, level, name, 0)
    if level.max_distance <= 0:
        raise config_error(f"{block}.max_distance", level.max_distance, "be above 0: ticks of the longest path, about")
    if level.history > 1 and level.predictor != "transformer":
        raise config_error(f"{block}.history", level.history, f"be 1 with predictor={level.predictor!r}")
    if level.width % level.heads:
        raise config_error(f"{block}.heads", level.heads, f"divide {block}.width={level.width}")
    if level.encoder == "identity" and level.width != below.width:
        valid = f"be {below.width}, that of the level below: {block}.encoder is 'identity'"
        raise config_error(f"{block}.width", level.width, valid)


def _check_encoder(options: LatentDynamicsOptions, spec: VideoSpec) -> None:
    encoder, block = options.encoder, "config.model.encoder"
    if isinstance(encoder, CNNOptions):
        if not encoder.channels or min(encoder.channels) < 1:
            raise config_error(f"{block}.channels", encoder.channels, "be at least 1 each")
        check_least(block, encoder, "blocks", 0)
        return
    check_transformer(block, encoder)
    check_patches(encoder.patch, spec.frame_shape, f"{block}.patch")
