"""Experiment: an action-conditioned video world model that streams, on pixels or on the latents of a tokenizer."""

import ml_collections
from flax import nnx

from experiments.families.checks import (
    check_heads,
    check_least,
    check_one_of,
    check_patches,
    check_pixels,
    check_space_time,
    check_tokenizer,
    check_window,
    check_within_episodes,
)
from experiments.families.diffusion import DiffusionExperiment
from experiments.families.processes import make_process
from experiments.families.video_transformer.options import VideoTransformerConfig
from experiments.runs.config import read
from world_models.core.errors import config_error
from world_models.core.specs import VideoSpec
from world_models.core.types import Array
from world_models.diffusion.ddpm import DDPM
from world_models.diffusion.edm import EDM
from world_models.diffusion.process import Process
from world_models.models.video_transformer.model import VideoTransformer
from world_models.models.video_transformer.options import VideoTransformerOptions
from world_models.nn.options import ComputeOptions, with_compute


class Experiment(DiffusionExperiment):
    """A video transformer: trained to denoise clips, judged by the futures that it imagines."""

    def __init__(self, config: ml_collections.ConfigDict, spec: VideoSpec):
        """Checks the config against the data."""
        super().__init__(config, spec)
        self.config = read(config, VideoTransformerConfig)
        self.process = make_process(self.config)
        _check(with_compute(self.config.model, self.config.runtime.compute), self.process, self.config, spec)

    def make(self, compute: ComputeOptions, rngs: nnx.Rngs) -> nnx.Module:
        """A new model."""
        options = with_compute(self.config.model, compute)
        sinks = self.config.eval.sinks
        return VideoTransformer(options, self.process, self.spec.frame_shape, self.spec.actions, sinks=sinks, rngs=rngs)

    def encode(self, model: nnx.Module, frames: Array) -> Array:
        """What is diffused of frames."""
        return model.codec.encode(frames)


def _check(options: VideoTransformerOptions, process: Process, config: VideoTransformerConfig, spec: VideoSpec) -> None:
    block = "config.model"
    for name, least in (("time_every", 1), ("registers", 0)):
        check_least(block, options, name, least)
    check_space_time(block, "network", options.network, options.time_every)
    check_window(block, options.window, config.data.clip_length)
    if not 1 <= options.own_after <= config.data.clip_length:
        valid = f"be from 1 to config.data.clip_length={config.data.clip_length}"
        raise config_error("config.model.own_after", options.own_after, valid)
    if options.condition < 2 or options.condition % 2:
        raise config_error("config.model.condition", options.condition, "be even and at least 2")
    if not 0 <= config.eval.sinks < options.window:
        valid = f"be at least 0 and less than config.model.window={options.window}"
        raise config_error("config.eval.sinks", config.eval.sinks, valid)
    if config.eval.sinks and options.forcing == "self" and config.data.clip_length > options.window:
        valid = "be 0 where training imagines clips longer than config.model.window, config.model.forcing='self'"
        raise config_error("config.eval.sinks", config.eval.sinks, valid)
    check_heads(options.heads)
    check_one_of(block, options, dtype=("float32", "bfloat16"), forcing=("diffusion", "teacher", "self", "sequence"))
    check_one_of(block, options, actions=("modulation", "add", "film", "token", "cross"))
    low, high = _levels(process)
    if not low <= options.context_level <= high:
        raise config_error("config.model.context_level", options.context_level, f"be from {low} to {high}")
    if options.tokenizer is None:
        check_patches(options.patch, spec.frame_shape)
        check_pixels(options.pixels, spec.frame_shape[-1])
    else:
        check_tokenizer("config.model.tokenizer", options.tokenizer, spec.frame_shape)
        if not config.init_from.checkpoints:
            valid = "name the checkpoints of a trained tokenizer, with config.init_from.under='tokenizer'"
            raise config_error("config.init_from.checkpoints", "", valid)
    check_within_episodes(config.data.across_episodes)
    for name in ("open_loop", "imagine"):
        own = getattr(config.eval, name)
        if not 1 <= own.num_context <= options.window:
            valid = f"be from 1 to config.model.window={options.window}"
            raise config_error(f"config.eval.{name}.num_context", own.num_context, valid)


def _levels(process: Process) -> tuple[float, float]:
    """The least and greatest noise level of a process, in its own unit."""
    if isinstance(process, EDM):
        return process.sigma_low, process.sigma_high
    return (0, process.num_levels - 1) if isinstance(process, DDPM) else (0.0, 1.0)
