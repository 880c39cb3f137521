"""What a video transformer costs: parameters, and floating-point operations of training and of an imagined frame."""

from typing import Any

import jax
import numpy as np
from flax import nnx

from experiments.families.video_transformer.options import VideoTransformerConfig
from world_models.core.flops import count_flops
from world_models.core.specs import VideoSpec
from world_models.core.types import Array, Clip
from world_models.data.clips import Windows
from world_models.diffusion.process import Process
from world_models.models.video_transformer.model import VideoTransformer
from world_models.nn.options import ComputeOptions, with_compute

PLAIN = ComputeOptions(ops="library")  # everything once, and no kernel that hides its products


class Cost:
    """Evaluator: counts, which depend on the config and the shapes of the data alone and not on the machine."""

    def __init__(self, config: VideoTransformerConfig, process: Process, spec: VideoSpec, windows: Windows):
        """`windows` are those of training; the shapes of one are read."""
        self._config, self._process, self._spec = config, process, spec
        self._clip = windows.load(np.zeros(1, int))

    def __call__(self, model: nnx.Module) -> dict[str, float]:
        """The numbers of `measure`."""
        return {name: float(value) for name, value in self.measure(model).items()}

    def measure(self, model: nnx.Module) -> dict[str, int]:
        """Counts of matrix products, as `world_models.core.flops` counts them.

        Returns:
          "parameters", those trained; "step_flops", of a training step, loss and gradient without encoding the frames;
          "training_flops", of all steps, without those of a run that the weights come from; "frame_flops", of one
          imagined frame, all its denoising steps and its decoding.
        """
        step = self._step_flops()
        return {
            "parameters": sum(x.size for x in jax.tree.leaves(nnx.state(model, nnx.Param))),
            "step_flops": step,
            "training_flops": step * self._config.train.num_steps,
            "frame_flops": self._frame_flops(),
        }

    def _model(self) -> tuple[Any, Any, Any]:
        """(graph, shapes of parameters, shapes of the rest) of a model that is computed plainly."""
        options = with_compute(self._config.model, PLAIN)
        make = lambda: VideoTransformer(
            options, self._process, self._spec.frame_shape, self._spec.actions, rngs=nnx.Rngs(0)
        )
        return nnx.split(nnx.eval_shape(make), nnx.Param, ...)

    def _step_flops(self) -> int:
        graph, params, rest = self._model()
        rows = self._config.train.batch_size
        clip = jax.tree.map(lambda x: jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype), self._clip)
        keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), rows))

        def loss(params: Any, rest: Any, clip: Clip, keys: Array) -> Array:
            return nnx.merge(graph, params, rest).loss(clip, keys)[0]

        def encode(params: Any, rest: Any, frames: Array) -> Array:
            return nnx.merge(graph, params, rest).codec.encode(frames)

        whole = count_flops(jax.value_and_grad(loss), params, rest, clip, keys, unused=False)
        return whole - count_flops(encode, params, rest, clip.frames, unused=False)

    def _frame_flops(self) -> int:
        graph, params, rest = self._model()
        first = self._config.eval.imagine.num_context
        shape = lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)
        frame, action = shape(self._clip.frames[:, 0]), shape(self._clip.actions[:, 0])
        several = lambda x, count: jax.ShapeDtypeStruct((1, count, *x.shape[1:]), x.dtype)
        key = jax.eval_shape(lambda: jax.random.key(0))
        call = lambda name: lambda params, rest, *inputs: getattr(nnx.merge(graph, params, rest), name)(*inputs)
        state = jax.eval_shape(call("observe"), params, rest, several(frame, first), several(action, first - 1), key)
        return count_flops(call("step"), params, rest, state, action, key, unused=False)
