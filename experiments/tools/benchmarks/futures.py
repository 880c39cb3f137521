"""Endless futures of a video world model, a frame at a time or many in a scan: what `stream` and `video` time."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.training.experiment import Experiment
from experiments.training.state import Merge, abstract_model, split_model
from world_models.core.flops import count_flops
from world_models.core.specs import VideoSpec
from world_models.core.types import Array

COMPILED: list[str] = []  # a name for every program that this process compiled or read from the cache, once counted
ACTIONS = 64  # random ones, taken in turn
Weights = tuple[Merge, Any, Any]


def weights_under(experiment: Experiment, model: nnx.Module) -> Weights:
    """(`Merge`, parameters, constants): the model of `experiment`'s options with the arrays of `model`.

    The window of a video transformer is an option without arrays, so one set of weights serves all windows.
    """
    return abstract_model(experiment, 0)[0], *jax.device_put(split_model(model)[1:], jax.devices()[0])


class Future:
    """A batch of futures that goes on with every call.

    Attributes:
      frames: imagined in a call, over the batch.
      compilations: programs compiled by calls.
    """

    def __init__(self, weights: Weights, spec: VideoSpec, *, context: int, batch: int, length: int = 0):
        """Conditions the model on noise; compiles nothing but that.

        Args:
          weights: from `weights_under`.
          spec: of frames and actions.
          context: frames to condition on.
          batch: number of futures.
          length: frames that a call imagines in one scan; 0 for one frame, without a scan.
        """
        merge, *self._arrays = weights
        self.frames, self.compilations, self._done, self._length = batch * max(1, length), 0, 0, length
        self._actions = random_actions(spec, (ACTIONS, max(1, length), batch))
        frames = np.random.default_rng(0).integers(0, 256, (batch, context, *spec.frame_shape), np.uint8)
        past = random_actions(spec, (batch, context - 1))
        observe = jax.jit(lambda arrays, *inputs: merge(*arrays).observe(*inputs, jax.random.key(0)))
        # Committed to the device, as all that a step returns is: else the second step would compile again.
        self._state = jax.device_put(observe(self._arrays, frames, past), jax.devices()[0])

        def one(model: nnx.Module, state: Any, action: Array, index: Array) -> tuple[Any, Array]:
            state, _ = model.step(state, action, jax.random.fold_in(jax.random.key(1), index))
            return state, model.decode(state)

        def advance(arrays: list, state: Any, actions: Array, index: Array) -> tuple[Any, Array]:
            model = merge(*arrays)
            if not length:
                return one(model, state, actions[0], index)
            indices = index + jnp.arange(length)
            return jax.lax.scan(lambda state, inputs: one(model, state, *inputs), state, (actions, indices))

        self._advance = jax.jit(advance, donate_argnums=1)
        if not COMPILED:
            jax.monitoring.register_event_duration_secs_listener(_remember)
            COMPILED.append("listening")

    def __call__(self) -> np.ndarray:
        """The next frames, fetched to the host: uint8 [batch, h, w, c], or [length, batch, h, w, c] of a scan."""
        before = len(COMPILED)
        actions = self._actions[self._done % ACTIONS]
        self._state, frames = self._advance(self._arrays, self._state, actions, np.int32(self._done))
        frames = np.asarray(frames)
        self._done += max(1, self._length)
        self.compilations += len(COMPILED) - before
        return frames

    def fill(self, window: int) -> None:
        """Goes on until `window` frames more are imagined, so that a cache of as many is full."""
        for _ in range(max(2, -(-window // max(1, self._length)))):  # twice: the second starts from a call's result
            self()


def _remember(event: str, seconds: float, **_: Any) -> None:
    if event.endswith("backend_compile_duration"):
        COMPILED.append(event)


def random_actions(spec: VideoSpec, shape: tuple[int, ...]) -> np.ndarray:
    """Random actions [*shape, ...] of the space of `spec`."""
    rng, actions = np.random.default_rng(0), spec.actions
    if actions.kind == "discrete":
        return rng.integers(0, actions.size, shape).astype(actions.dtype)
    return rng.uniform(actions.low or -1, actions.high or 1, (*shape, actions.size)).astype(actions.dtype)


def frame_flops(experiment: Experiment, context: int) -> int:
    """FLOPs of imagining and decoding one frame; the model must have no kernel that hides its products."""
    merge, arrays, _ = abstract_model(experiment, 0)
    spec = experiment.spec
    shape = lambda lead, own, dtype: jax.ShapeDtypeStruct((1, *lead, *own), dtype)
    actions = lambda *lead: shape(lead, spec.actions.shape, spec.actions.dtype)
    inputs = shape((context,), spec.frame_shape, np.uint8), actions(context - 1)
    observe = lambda arrays, *inputs: merge(*arrays).observe(*inputs, jax.random.key(0))
    state = jax.eval_shape(observe, arrays, *inputs)

    def step(arrays: Any, state: Any, action: Array) -> Array:
        model = merge(*arrays)
        return model.decode(model.step(state, action, jax.random.key(0))[0])

    return count_flops(step, arrays, state, actions())
