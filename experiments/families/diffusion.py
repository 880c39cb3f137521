"""What the families that sample frames by diffusion have in common: their loss, evaluators and capabilities."""

import dataclasses
import pathlib
from typing import Any

import jax
from flax import nnx

from experiments.evaluation.rollouts import HeldOutLoss, OpenLoop
from experiments.families.base import VideoExperiment
from experiments.families.processes import sampler_choices
from experiments.training.data import open_windows
from experiments.training.experiment import Capability, Evaluator
from world_models.core.types import Array, Clip


class DiffusionExperiment(VideoExperiment):
    """A video model with a method `loss(clip, keys)`, judged by the futures that it imagines."""

    def loss(self, model: nnx.Module, clip: Clip, keys: Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The denoising loss."""
        return model.loss(clip, keys)

    def evaluators(self, workdir: pathlib.Path) -> dict[str, Evaluator]:
        """The loss on held-out windows, and open-loop futures from held-out contexts."""
        config, data, options = self.config, self.config.data, self.config.eval
        held_out = open_windows(config, workdir, data.validation_split, data.clip_length, data.stride)
        length = options.open_loop.num_context + options.open_loop.horizon
        futures = open_windows(config, workdir, data.validation_split, length, data.stride)
        training = open_windows(config, workdir, data.train_split, data.clip_length, data.stride)
        sizes = {"batch_size": config.train.batch_size, "count": options.held_out.num_examples, "seed": config.seed}
        return {
            "held_out": HeldOutLoss(self, held_out, **sizes),
            "open_loop": OpenLoop(futures, training, options.open_loop, config.seed),
        }

    def play_settings(self) -> dict[str, tuple[Any, ...]]:
        """Fields of the sampler."""
        return sampler_choices(self.config)

    def with_settings(self, model: nnx.Module, settings: dict[str, Any]) -> nnx.Module:
        """With another sampler."""
        changed = nnx.merge(*nnx.split(model))
        changed.process = dataclasses.replace(model.process, **settings)
        return changed

    @classmethod
    def capabilities(cls) -> dict[str, Capability]:
        """It imagines futures, and can be played."""
        own = {"imagine": "experiments.evaluation.futures", "play": "experiments.play.run_scene"}
        return super().capabilities() | {name: Capability(module) for name, module in own.items()}
