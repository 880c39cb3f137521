"""Experiment: an action-conditioned video diffusion world model in pixel space."""

import itertools

import ml_collections
from flax import nnx

from experiments.families.checks import (
    check_heads,
    check_one_of,
    check_patches,
    check_pixels,
    check_transformer,
    check_within_episodes,
)
from experiments.families.diffusion import DiffusionExperiment
from experiments.families.processes import make_process
from experiments.families.video_diffusion.options import VideoDiffusionConfig
from experiments.runs.config import read
from world_models.core.errors import config_error
from world_models.core.specs import VideoSpec
from world_models.diffusion.flow import Shortcut
from world_models.models.video_diffusion.model import VideoDiffusion
from world_models.models.video_diffusion.options import VideoDiffusionOptions
from world_models.nn.options import ComputeOptions, UNetOptions, with_compute


class Experiment(DiffusionExperiment):
    """A video diffusion model: trained to denoise the next frame, judged by the futures that it imagines."""

    def __init__(self, config: ml_collections.ConfigDict, spec: VideoSpec):
        """Checks the config against the data."""
        super().__init__(config, spec)
        self.config = read(config, VideoDiffusionConfig)
        self.process = make_process(self.config)
        if isinstance(self.process, Shortcut):
            valid = "be another than 'shortcut': this network is not told the size of a step; the video transformer is"
            raise config_error("config.diffusion.process", "shortcut", valid)
        _check(with_compute(self.config.model, self.config.runtime.compute), self.config, spec)

    def make(self, compute: ComputeOptions, rngs: nnx.Rngs) -> nnx.Module:
        """A new model."""
        options = with_compute(self.config.model, compute)
        return VideoDiffusion(options, self.process, self.spec.frame_shape, self.spec.actions, rngs=rngs)


def _check(options: VideoDiffusionOptions, config: VideoDiffusionConfig, spec: VideoSpec) -> None:
    if isinstance(options.network, UNetOptions):
        _check_unet(options, spec)
    else:
        check_patches(options.patch, spec.frame_shape)
        check_transformer("config.model.network", options.network)
    offsets, context = options.context_offsets, options.context_frames
    if not offsets or offsets[-1] != 1 or any(a <= b for a, b in itertools.pairwise(offsets)):
        raise config_error(
            "config.model.context_offsets", offsets, "fall and end with 1, the newest frame: (4, 3, 2, 1) for example"
        )
    if options.condition % (2 * len(offsets)):
        valid = f"be an even multiple of {len(offsets)}, the frames in config.model.context_offsets={offsets}"
        raise config_error("config.model.condition", options.condition, valid)
    check_within_episodes(config.data.across_episodes)
    check_heads(options.heads)
    check_pixels(options.pixels, spec.frame_shape[-1])
    check_one_of("config.model", options, target=("frame", "change"), dtype=("float32", "bfloat16"))
    if config.data.clip_length <= context:
        valid = f"be larger than {context}, the first of config.model.context_offsets={offsets}"
        raise config_error("config.data.clip_length", config.data.clip_length, valid)
    for name in ("open_loop", "imagine"):
        own = getattr(config.eval, name)
        if own.num_context < context:
            valid = f"be at least {context}, the first of config.model.context_offsets={offsets}"
            raise config_error(f"config.eval.{name}.num_context", own.num_context, valid)


def _check_unet(options: VideoDiffusionOptions, spec: VideoSpec) -> None:
    height, width, _ = spec.frame_shape
    channels = options.network.channels
    shrink = options.patch * 2 ** (len(channels) - 1)
    if height % shrink or width % shrink:
        valid = (
            f"have so many levels that config.model.patch x 2^(levels - 1) = {shrink} divides frames of "
            f"{height}x{width}; or set config.data.image_size"
        )
        raise config_error("config.model.network.channels", channels, valid)
    if any(c % 32 and c > 32 for c in channels) or min(channels) < 8 or channels[-1] % 8:
        valid = "have 8 to 32 channels or a multiple of 32 a level, and the last a multiple of 8"
        raise config_error("config.model.network.channels", channels, valid)
