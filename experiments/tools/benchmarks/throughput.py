"""A training step of a config: frames/s, FLOP/s and their share of what the device can do, memory, wait for data.

    python -m experiments.tools.benchmarks throughput CONFIG [--config.x=y] [--steps=20]

The loop is the training loop's: batches are fetched ahead, and the host looks at a step's metrics two steps later. The
step time is that of an iteration in a filled pipeline, so it includes waiting for data; frames are those of the clips.

Model FLOPs are those of the loss and its gradient, counted as in `world_models.core.flops` for the same model without
rematerialization. They are set against the fastest square matrix product measured on one device, in the config's dtype,
times the devices (MFU). It is measured after the steps: on a machine that others use the share is worth little, and
devices that are one processor in disguise (XLA's forced host devices) share one ceiling.

Without `config.data.dataset` it runs on moving blobs of the config's frame size and actions. The compile time is real
only while JAX_COMPILATION_CACHE_DIR is not set.
"""

import collections
import pathlib
import statistics
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections

from experiments.runs import runtime
from experiments.tools.benchmarks import blobs, common
from experiments.training.experiment import make_experiment
from experiments.training.loop import LAG
from experiments.training.setup import Run, prepare
from experiments.training.state import abstract_model
from world_models.core.flops import count_flops
from world_models.core.specs import Spec

WARMUP = 3


def model_flops(config: ml_collections.ConfigDict, spec: Spec, batch: Any) -> int:
    """FLOPs of the loss and its gradient by the parameters, for data of `spec` and a batch (arrays or shapes)."""
    plain = config.copy_and_resolve_references()
    plain.runtime.compute.update(common.PLAIN)
    experiment = make_experiment(plain, spec)
    merge, (params, constants), _ = abstract_model(experiment, plain.seed)

    def loss(params, constants, batch, keys):
        return experiment.loss(merge(params, constants), batch, keys)

    rows = jax.tree.leaves(batch)[0].shape[0]
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), rows))
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), batch)
    return count_flops(jax.value_and_grad(loss, has_aux=True), params, constants, shapes, keys)


def time_steps(run: Run, steps: int) -> list[tuple[float, float]]:
    """(seconds of an iteration, of which waiting for data) of `steps` iterations of the loop, after a warm-up."""
    pending: collections.deque = collections.deque()
    times = []
    for _ in range(WARMUP + LAG + steps):
        start = time.perf_counter()
        batch, _ = next(run.batches)
        waited = time.perf_counter() - start
        run.state, metrics = run.step(run.state, batch, run.stop_flags[False])
        pending.append(metrics)
        if len(pending) > LAG:
            jax.block_until_ready(pending.popleft())
        times.append((time.perf_counter() - start, waited))
    jax.block_until_ready(run.state)
    return times[WARMUP + LAG :]


def peak_memory(step: Any) -> tuple[int, str]:
    """(bytes on the fullest device, where the number is from)."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    if all("peak_bytes_in_use" in found for found in stats):
        return max(found["peak_bytes_in_use"] for found in stats), "measured"
    memory = step.memory_analysis()
    needed = memory.argument_size_in_bytes + memory.temp_size_in_bytes + memory.output_size_in_bytes
    return needed - memory.alias_size_in_bytes, "compiled program"


def measure(config: ml_collections.ConfigDict, workdir: pathlib.Path, steps: int) -> dict[str, Any]:
    """Everything about a config, whose data set must be there."""
    run, dtype = prepare(config, workdir), config.model.get("dtype", "float32")
    batch, _ = next(run.batches)
    flops = model_flops(config, run.dataset.spec, batch)
    times = time_steps(run, steps)
    memory, source = peak_memory(run.step)  # before the products of the ceiling
    run.saver.close()
    run.writers.close()
    seconds = [total for total, _ in times]
    step = statistics.median(seconds)
    ceiling = common.matmul_ceiling(dtype)
    return {
        "parameters": sum(x.size for x in jax.tree.leaves(run.state.params)),
        "batch_size": config.train.batch_size,
        "clip_length": config.data.clip_length,
        "dtype": dtype,
        "devices": jax.device_count(),
        "steps": steps,
        "step_seconds": step,
        "step_seconds_min": min(seconds),
        "step_seconds_max": max(seconds),
        "frames_per_second": config.train.batch_size * config.data.clip_length / step,
        "data_wait_share": sum(waited for _, waited in times) / sum(seconds),
        "model_flops_per_step": flops,
        "model_flops_per_second": flops / step,
        "matmul_flops_per_second": ceiling,
        "mfu": flops / step / (ceiling * jax.device_count()),
        "peak_bytes_per_device": memory,
        "peak_bytes_source": source,
        "compile_seconds": run.goodput.seconds["compile"],
    }


def table(found: dict[str, Any]) -> str:
    """The measurement for reading."""
    ms = {name: 1e3 * found[name] for name in ("step_seconds", "step_seconds_min", "step_seconds_max")}
    rows = {
        "model": f"{found['parameters']:,} parameters, {found['dtype']}, on {found['devices']} device(s)",
        "batch": f"{found['batch_size']} clips of {found['clip_length']} frames",
        "step": f"{ms['step_seconds']:.2f} ms (median of {found['steps']}; {ms['step_seconds_min']:.2f} to "
        f"{ms['step_seconds_max']:.2f})",
        "frames/s": f"{found['frames_per_second']:,.0f}",
        "waiting for data": f"{found['data_wait_share']:.1%} of the time",
        "model FLOPs": f"{found['model_flops_per_step'] / 1e9:,.2f} G a step, "
        f"{found['model_flops_per_second'] / 1e9:,.1f} GFLOP/s",
        "MFU": f"{found['mfu']:.1%} of {found['matmul_flops_per_second'] / 1e9:,.0f} GFLOP/s a device (matrix product)",
        "peak memory": f"{found['peak_bytes_per_device'] / 2**20:,.1f} MiB a device ({found['peak_bytes_source']})",
        "compile": f"{found['compile_seconds']:.1f} s",
    }
    return "\n".join(f"{name:18}{value}" for name, value in rows.items())


def main(argv: Sequence[str]) -> None:
    """Runs the benchmark."""
    parser = common.parser(__doc__)
    parser.add_argument("config", help="configs/X.py or configs/X.py:variant")
    parser.add_argument("--steps", type=common.integer, default=20, help="to take the median of")
    options, overrides = parser.parse_known_args(argv)
    config = common.load_config(options.config, overrides)
    cache = jax.config.jax_compilation_cache_dir
    runtime.setup(config.runtime.xla_flags)
    jax.config.update("jax_compilation_cache_dir", cache)  # compile times are to be real
    with tempfile.TemporaryDirectory() as folder:
        blobs.for_config(config, pathlib.Path(folder) / "blobs")
        found = measure(config, pathlib.Path(folder) / "run", options.steps)
    print(table(found))
    common.finish({"config": options.config, "overrides": overrides, **found}, options.output)
