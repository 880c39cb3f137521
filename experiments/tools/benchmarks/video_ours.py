"""Our steps of the benchmark `video`."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.runs import runtime
from experiments.tools.benchmarks import common
from experiments.tools.benchmarks.futures import Future
from experiments.tools.benchmarks.jax_step import training
from experiments.tools.benchmarks.steps import Step
from experiments.tools.benchmarks.video_sizes import SIZES, Size, clips
from experiments.training.state import split_model
from world_models.core.errors import UserError
from world_models.core.specs import VideoSpec
from world_models.core.types import ActionSpec, Clip
from world_models.diffusion.edm import EDM
from world_models.diffusion.flow import Flow
from world_models.models.video_diffusion.model import VideoDiffusion
from world_models.models.video_transformer.model import VideoTransformer
from world_models.nn.options import ComputeOptions, with_compute

SPREAD = 0.5  # of noise on all weights, times √width: some begin at zero, which would hide what is behind them
COMPARED = 2  # clips that both forward passes get
LENGTH = 8  # frames of a batch of futures that are imagined in one scan


def make_steps(
    size: str, batch: int, dtype: str, attention: str, windows: Sequence[int], futures: int, matmuls: Sequence[int],
    devices: int, exchange: str,
) -> tuple[dict[str, Step], dict[str, Any]]:  # fmt: skip
    """Our steps, and facts about them; writes weights, inputs and outputs of the forward pass to the file `exchange`.

    - "ours": a training step on so many devices: noise, loss, gradient, AdamW.
    - "stream W": the next frame of a stream with a window of W frames, fetched to the host.
    - "batch W": the next `LENGTH` frames of each of `futures` futures, in one scan, fetched to the host.
    """
    runtime.setup()
    chosen, backend = SIZES[size], jax.default_backend()
    if devices > jax.device_count():
        raise UserError(f"--devices={devices} must be at most {jax.device_count()}, the devices of this {backend}.")
    dtype = dtype or ("float32" if backend == "cpu" else "bfloat16")
    make = lambda dtype, window=None, **compute: _maker(chosen, dtype, window, ComputeOptions(**compute))
    fast = {"attention": attention, "unroll": -1 if backend == "cpu" else 1}
    _, params, constants = split_model(jax.jit(make("float32"))())
    rng = np.random.default_rng(1)
    spread = SPREAD / math.sqrt(chosen.model.condition)
    params = jax.tree.map(lambda x: np.asarray(x) + spread * rng.standard_normal(x.shape, np.float32), params)
    params = jax.device_put(params)
    model = lambda *asked, **how: nnx.merge(_structure(make(*asked, **how)), params, constants)
    _write_exchange(chosen, model("float32", **common.PLAIN), exchange)

    copy = jax.jit(lambda model: jax.tree.map(jnp.copy, model))  # training consumes it
    frames, actions = clips(chosen, batch)
    clip = Clip(frames, actions, *[np.zeros(actions.shape, bool)] * 4)
    counted = model(dtype, **common.PLAIN)
    step, flops, parameters = training(copy(model(dtype, **fast)), _loss, clip, counted, devices)
    steps = {"ours": step, "ceiling": lambda: common.matmul_ceiling(dtype, matmuls)}
    facts = {"parameters": parameters, "flops": flops, "dtype": dtype, "device": jax.devices()[0].device_kind}
    spec = VideoSpec(frames.shape[2:], ActionSpec("discrete", chosen.actions), clip_length=chosen.clip)
    facts["frames"] = {}
    for window in windows if chosen.transformer or not windows else [chosen.model.context_frames]:
        weights = split_model(model(dtype, window, **fast))
        context = 1 if chosen.transformer else window
        for kind, count, length in (("stream", 1, 0), ("batch", futures, LENGTH)):
            future = Future(weights, spec, context=context, batch=count, length=length)
            steps[f"{kind} {window}"] = _imagining(future, window)
            facts["frames"][f"{kind} {window}"] = future.frames
    return steps, facts


def _imagining(future: Future, window: int) -> Step:
    """A step of imagination; the first one fills the cache."""
    filled: list[bool] = []

    def step() -> float:
        if not filled:
            future.fill(window)
            filled.append(True)
        return float(future().mean())

    return step


def _maker(size: Size, dtype: str, window: int | None, compute: ComputeOptions) -> Callable[[], nnx.Module]:
    """A function that makes a new model of a size."""
    options = with_compute(size.model, compute)
    shape, actions = (size.image, size.image, 3), ActionSpec("discrete", size.actions)
    changes = {"dtype": dtype} | ({"window": window} if window and size.transformer else {})
    options = type(options)(**{**vars(options), **changes})
    kind, process = (VideoTransformer, Flow) if size.transformer else (VideoDiffusion, EDM)
    return lambda: kind(options, process(**vars(size.process)), shape, actions, rngs=nnx.Rngs(0))


def _structure(make: Callable[[], nnx.Module]) -> nnx.GraphDef:
    return nnx.split(nnx.eval_shape(make), nnx.Param, ...)[0]


def _loss(model: nnx.Module, clip: Clip, count: jax.Array) -> jax.Array:
    keys = jax.random.split(jax.random.fold_in(jax.random.key(0), count), len(clip.frames))
    return model.loss(clip, keys)[0]


def _write_exchange(size: Size, model: nnx.Module, file: str) -> None:
    """Arrays by name: "model.NAME", "input.NAME" and "output", of a forward pass in float32."""
    frames, actions = clips(size, COMPARED)
    rng, scaled = np.random.default_rng(2), frames.astype(np.float32) / 127.5 - 1
    if size.transformer:
        noisy = rng.standard_normal((*frames.shape[:2], *model.codec.latent_shape), np.float32)
        inputs = {"noisy": noisy, "level": rng.random(noisy.shape[:2], np.float32), "actions": actions[:, :-1]}
        run = lambda model, inputs: model.denoise(**inputs)
    else:
        noisy = rng.standard_normal(scaled[:, 0].shape, np.float32)
        inputs = {"scaled": noisy, "level": rng.random(COMPARED, np.float32)}
        inputs |= {
            "context": scaled[:, : size.model.context_frames],
            "actions": actions[:, : size.model.context_frames],
        }
        run = lambda model, inputs: model.network(**inputs)
    with jax.default_matmul_precision("highest"):
        output = jax.jit(run)(model, inputs)
    state = dict(nnx.to_flat_state(nnx.as_pure(nnx.state(model))))
    arrays = {".".join(["model", *map(str, path)]): np.asarray(x) for path, x in state.items()}
    arrays |= {f"input.{name}": x for name, x in inputs.items()}
    np.savez(file, output=np.asarray(output), **arrays)
