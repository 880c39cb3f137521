"""What a video model costs: parameters, and floating-point operations of training and of an imagined frame."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx

from experiments.families.options import ExperimentConfig
from world_models.core.flops import count_flops
from world_models.core.types import Array, Clip
from world_models.data.clips import Windows


class Cost:
    """Evaluator: counts, which depend on the config and the shapes of the data alone and not on the machine."""

    def __init__(
        self,
        config: ExperimentConfig,
        make: Callable[[], nnx.Module],
        encode: Callable[[Any, Array], Any] | None,
        windows: Windows,
    ):
        """Reads the shapes of one training window.

        Args:
          config: of the run.
          make: a new model, computed by plain operations, which hide no products.
          encode: (model, frames) -> what a frozen encoder makes of them; None where there is none.
          windows: those of training.
        """
        self._config, self._make, self._encode = config, make, encode
        self._clip = windows.load(np.zeros(1, int))

    def __call__(self, model: nnx.Module) -> dict[str, float]:
        """The numbers of `measure`."""
        return {name: float(value) for name, value in self.measure(model).items()}

    def measure(self, model: nnx.Module) -> dict[str, int]:
        """Counts of matrix products and convolutions, as `world_models.core.flops` counts them.

        Returns:
          "parameters", those trained; "step_flops", of a training step, loss and gradient without encoding the frames;
          "encode_flops", of encoding a step's frames by a frozen encoder; "training_flops", of all steps without
          encoding and without those of a run that the weights come from; "frame_flops", of one imagined frame, all its
          denoising steps and its decoding.
        """
        step, encoding = self._step_flops()
        return {
            "parameters": sum(x.size for x in jax.tree.leaves(nnx.state(model, nnx.Param))),
            "step_flops": step,
            "encode_flops": encoding,
            "training_flops": step * self._config.train.num_steps,
            "frame_flops": self._frame_flops(),
        }

    def _model(self) -> tuple[Any, Any, Any]:
        """(graph, shapes of parameters, shapes of the rest) of a model."""
        return nnx.split(nnx.eval_shape(self._make), nnx.Param, ...)

    def _step_flops(self) -> tuple[int, int]:
        """Those of a step without encoding, and of encoding."""
        graph, params, rest = self._model()
        rows = self._config.train.batch_size
        clip = jax.tree.map(lambda x: jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype), self._clip)
        keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), rows))

        def loss(params: Any, rest: Any, clip: Clip, keys: Array) -> Array:
            return nnx.merge(graph, params, rest).loss(clip, keys)[0]

        def encode(params: Any, rest: Any, frames: Array) -> Array:
            return self._encode(nnx.merge(graph, params, rest), frames)

        whole = count_flops(jax.value_and_grad(loss), params, rest, clip, keys, unused=False)
        encoding = count_flops(encode, params, rest, clip.frames, unused=False) if self._encode else 0
        return whole - encoding, encoding

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
