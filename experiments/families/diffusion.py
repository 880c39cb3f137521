"""What the families that sample frames by diffusion have in common: their loss, evaluators and capabilities."""

import dataclasses
import pathlib
from typing import Any

import jax
from flax import nnx

from experiments.evaluation.cost import Cost
from experiments.evaluation.distances import Distances
from experiments.evaluation.features import Open, make_features
from experiments.evaluation.long_rollouts import LongRollouts
from experiments.evaluation.rollouts import HeldOutLoss, OpenLoop
from experiments.families.base import VideoExperiment
from experiments.families.processes import sampler_choices
from experiments.training.data import open_windows
from experiments.training.experiment import Capability, Evaluator
from world_models.core.types import Array, Clip
from world_models.nn.options import ComputeOptions


class DiffusionExperiment(VideoExperiment):
    """A video model with a method `loss(clip, keys)`, judged by the futures that it imagines.

    A subclass has a method `make(compute, rngs)`, which makes the model as `ComputeOptions` say.

    Attributes:
      encode: (model, frames) -> what a frozen encoder makes of frames; None where there is none.
    """

    encode = None

    def init(self, rngs: nnx.Rngs) -> nnx.Module:
        """A new model."""
        return self.make(self.config.runtime.compute, rngs)

    def loss(self, model: nnx.Module, clip: Clip, keys: Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The denoising loss."""
        return model.loss(clip, keys)

    def evaluators(self, workdir: pathlib.Path) -> dict[str, Evaluator]:
        """The loss on held-out windows, open-loop futures from held-out contexts, and what else `config.eval` says."""
        config, data, options = self.config, self.config.data, self.config.eval
        held_out = open_windows(config, workdir, data.validation_split, data.clip_length, data.stride)
        length = options.open_loop.num_context + options.open_loop.horizon
        futures = open_windows(config, workdir, data.validation_split, length, data.stride)
        training = open_windows(config, workdir, data.train_split, data.clip_length, data.stride)
        sizes = {"batch_size": config.train.batch_size, "count": options.held_out.num_examples, "seed": config.seed}
        found = {
            "held_out": HeldOutLoss(self, held_out, **sizes),
            "open_loop": OpenLoop(futures, training, options.open_loop, config.seed),
        }
        open_split = lambda split, length, field: open_windows(config, workdir, split, length, data.stride, field=field)
        return found | self.future_measures(open_split, data.validation_split)

    def future_measures(self, open_windows: Open, split: str) -> dict[str, Any]:
        """Those that `config.eval` switches on; they are evaluators, too."""
        options = self.config.eval
        chosen = {
            "distances": (Distances, options.distances.num_clips),
            "long_rollout": (LongRollouts, options.long_rollout.frames),
        }
        chosen = {name: make for name, (make, on) in chosen.items() if on}
        space = make_features(options.features, tuple(self.spec.frame_shape)) if chosen else None
        found = {name: make(self.config, space, open_windows, split) for name, make in chosen.items()}
        if not options.cost:
            return found
        data = self.config.data
        windows = open_windows(data.train_split, data.clip_length, "config.data.clip_length")
        plain = lambda: self.make(ComputeOptions(ops="library"), nnx.Rngs(0))
        return found | {"cost": Cost(self.config, plain, self.encode, windows)}

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
