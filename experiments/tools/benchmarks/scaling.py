"""One config on many meshes: state a device, collectives, step time, the same losses; and what sharding itself costs.

    python -m experiments.tools.benchmarks scaling CONFIG [--config.x=y] [--devices=1,2,4,8]
        [--mesh=data,fsdp,tensor,mixed]

Every number of devices has a process of its own. On a CPU they are XLA's forced host devices, which share the cores:
memory, collectives and losses are those of real devices, times are not. On GPUs the first N are used.

- State: bytes of parameters, averages and optimizer on one device; "of whole" should be 1/devices under FSDP.
- Collectives: read from the compiled program; one in a loop's body, a layer of a scanned model, counts once.
- Largest gather: the largest output of one all-gather over the bytes of all parameters. 1 would be all at once.
- Loss: its largest difference from the first row's, over the first steps and relative; meshes should change nothing.
- Overhead: the training step on a mesh of one device against `jax.jit` of the same step without any sharding, in turns.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

from experiments.runs import runtime
from experiments.runs.files import ROOT
from experiments.tools.benchmarks import blobs, common
from experiments.tools.benchmarks.collectives import collectives, summary
from experiments.training.experiment import make_experiment
from experiments.training.setup import Run, prepare
from experiments.training.state import create_state, make_step
from world_models.core import sharding as parallel
from world_models.core.errors import UserError

COMPARED = 3  # first steps whose losses are compared
NAMES = ("data", "fsdp", "tensor", "mixed")


def meshes(devices: int, names: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """Meshes (data, fsdp, tensor) of so many devices, by name; names that do not apply are left out."""
    if devices == 1:
        return {"one": (1, 1, 1)}
    whole = {"data": (devices, 1, 1), "fsdp": (1, devices, 1), "tensor": (1, 1, devices)}
    mixed = {"mixed": (devices // 4, 2, 2)} if devices % 4 == 0 else {}
    return {name: shape for name, shape in {**whole, **mixed}.items() if name in names}


def measure(run: Run, steps: int) -> dict[str, Any]:
    """What a run on its mesh, all devices of this process, holds, sends and needs."""
    leaves, params = jax.tree.leaves(run.state), jax.tree.leaves(run.state.params)
    first, size = jax.local_devices()[0], sum(x.nbytes for x in params)
    held = sum(shard.data.nbytes for x in leaves for shard in x.addressable_shards if shard.device == first)
    found = summary(collectives(run.step.as_text()))
    losses, seconds = [], []
    for _ in range(COMPARED + steps):
        batch, _ = next(run.batches)
        start = time.perf_counter()
        run.state, metrics = run.step(run.state, batch, run.stop_flags[False])
        losses.append(float(metrics["loss"]))
        seconds.append(time.perf_counter() - start)
    return {
        "state_bytes": sum(x.nbytes for x in leaves),
        "state_bytes_per_device": held,
        "parameter_bytes": size,
        "collectives": found,
        "largest_gather_share": found.get("all-gather", {"largest": 0})["largest"] / size,
        "step_seconds": statistics.median(seconds[COMPARED:]),
        "losses": losses[:COMPARED],
    }


def overhead(run: Run, pairs: int) -> dict[str, Any]:
    """The compiled, sharded step of a run on one device against plain `jax.jit` of the same step, in turns.

    Returns:
      Median seconds of both; `overhead`, the median over pairs of their ratio − 1, and its 95 % bootstrap interval.
    """
    config = run.config
    experiment = make_experiment(config, run.dataset.spec)
    optimizer = create_state(experiment, config, parallel.make_mesh(config.runtime.mesh)).optimizer
    step = make_step(run.merge, experiment, config, optimizer)
    batch, _ = next(run.batches)
    sharded = (run.state, batch, run.stop_flags[False])
    plain = jax.tree.map(lambda x: jax.device_put(np.asarray(x), jax.devices()[0]), sharded)
    steps = {"sharded": run.step, "plain": jax.jit(step, donate_argnums=0)}
    arguments, seconds = {"sharded": sharded, "plain": plain}, {"sharded": [], "plain": []}
    for turn in range(2 + pairs):
        for name in ("sharded", "plain") if turn % 2 else ("plain", "sharded"):
            state, *rest = arguments[name]
            start = time.perf_counter()
            state, _ = jax.block_until_ready(steps[name](state, *rest))
            seconds[name].append(time.perf_counter() - start)
            arguments[name] = (state, *rest)
    run.state = arguments["sharded"][0]
    medians = {f"{name}_seconds": statistics.median(values[2:]) for name, values in seconds.items()}
    ratios = np.array(seconds["sharded"][2:]) / np.array(seconds["plain"][2:]) - 1
    resampled = np.random.default_rng(0).choice(ratios, (2000, pairs))
    interval = np.quantile(np.median(resampled, axis=1), [0.025, 0.975]).tolist()
    return {**medians, "pairs": pairs, "overhead": float(np.median(ratios)), "interval": interval}


def measure_here(config: ml_collections.ConfigDict, names: Sequence[str], steps: int, pairs: int) -> dict[str, Any]:
    """All meshes of the devices of this process; a mesh that does not suit the config is a row with the error."""
    rows, found = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for name, shape in meshes(jax.device_count(), names).items():
            config.runtime.mesh = shape
            row = {"devices": jax.device_count(), "name": name, "mesh": shape}
            try:
                run = prepare(config, pathlib.Path(folder) / name)
            except UserError as error:
                rows.append(row | {"refused": str(error)})
                continue
            rows.append(row | measure(run, steps))
            if name == "one":
                found = overhead(run, pairs)
            run.saver.close()
            run.writers.close()
    return {"rows": rows, "overhead": found}


def _start(devices: int, argv: Sequence[str]) -> dict[str, Any]:
    """Measures in a process that sees `devices` devices."""
    there = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    seen = {
        # XLA's thread pool: 8 threads a pretended device. A device blocks a thread in each collective that it waits in;
        # with a thread a core, as is usual, one device can take them all, and the others never arrive.
        "NPROC": str(max(os.cpu_count() or 1, 8 * devices if devices > 1 else 1)),
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}",
        "CUDA_VISIBLE_DEVICES": ",".join((there or [str(i) for i in range(devices)])[:devices]),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, "-m", "experiments.tools.benchmarks", "scaling", *argv, f"--here={devices}"]
    print(f"{devices} device(s) …", file=sys.stderr, flush=True)
    done = subprocess.run(command, env=os.environ | seen, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise UserError(f"{devices} device(s): {last.removeprefix('benchmarks scaling: ')}")
    return json.loads(done.stdout.splitlines()[-1])


def _compare(rows: list[dict[str, Any]]) -> None:
    """Adds to every row how far its losses are from the first row's."""
    first = next((row["losses"] for row in rows if "losses" in row), [])
    for row in rows:
        if "losses" in row:
            row["loss_difference"] = max(abs(a - b) / abs(b) for a, b in zip(row["losses"], first))


def table(result: dict[str, Any]) -> str:
    """The measurement for reading."""
    lines = [f"{'devices':>7}  {'mesh':18}{'state MiB':>10}{'of whole':>10}{'largest gather':>16}{'step ms':>9}  "
             f"{'loss':>7}  collectives (count, MiB)"]  # fmt: skip
    for row in result["rows"]:
        start = f"{row['devices']:7}  {row['name'] + ' ' + 'x'.join(map(str, row['mesh'])):18}"
        if "refused" in row:
            lines.append(f"{start}  refused: {row['refused']}")
            continue
        sent = [f"{kind} {x['count']}, {x['bytes'] / 2**20:.1f}" for kind, x in row["collectives"].items()]
        held = row["state_bytes_per_device"]
        lines.append(
            f"{start}{held / 2**20:10.2f}{held / row['state_bytes']:10.1%}{row['largest_gather_share']:16.1%}"
            f"{1e3 * row['step_seconds']:9.2f}  {row['loss_difference']:7.0e}  {'; '.join(sent) or 'none'}"
        )
    if result["overhead"]:
        found = result["overhead"]
        low, high = found["interval"]
        lines.append(
            f"sharded path on one device: {1e3 * found['sharded_seconds']:.2f} ms, plain jit "
            f"{1e3 * found['plain_seconds']:.2f} ms: overhead {found['overhead']:+.2%} ({low:+.2%} to {high:+.2%}, "
            f"{found['pairs']} pairs)"
        )
    return "\n".join(lines)


def main(argv: Sequence[str]) -> None:
    """Runs the benchmark."""
    parser = common.parser(__doc__)
    parser.add_argument("config", help="configs/X.py or configs/X.py:variant")
    parser.add_argument("--devices", type=common.integers, default=[1, 2, 4, 8], help="numbers of devices")
    parser.add_argument("--mesh", default=",".join(NAMES), help=f"some of {', '.join(NAMES)}")
    parser.add_argument("--steps", type=common.integer, default=5, help="to take the median of, after the first three")
    parser.add_argument("--pairs", type=common.integer, default=40, help="of steps, for the overhead of sharding")
    parser.add_argument("--here", type=int, default=0, help="measure this many devices in this process: internal")
    options, overrides = parser.parse_known_args(argv)
    names = options.mesh.split(",")
    if set(names) - set(NAMES):
        raise UserError(f"--mesh={options.mesh} must be some of {', '.join(NAMES)}, comma-separated.")
    config = common.load_config(options.config, overrides)
    runtime.setup(config.runtime.xla_flags)
    if options.here:
        if jax.device_count() != options.here:
            raise UserError(
                f"--devices={options.here}: there are {jax.device_count()} {jax.default_backend()} devices."
            )
        print(json.dumps(measure_here(config, names, options.steps, options.pairs)))
        return
    with tempfile.TemporaryDirectory() as folder:
        blobs.for_config(config, pathlib.Path(folder))
        words = [options.config, *overrides, f"--mesh={options.mesh}", f"--steps={options.steps}"]
        for field in ("dataset", "image_key", "action_key"):
            words.append(f"--config.data.{field}={config.data[field]}")
        parts = [_start(devices, [*words, f"--pairs={options.pairs}"]) for devices in options.devices]
    result = {"rows": [row for part in parts for row in part["rows"]]}
    result["overhead"] = next((part["overhead"] for part in parts if part["overhead"]), {})
    _compare(result["rows"])
    print(table(result))
    common.finish({"config": options.config, "overrides": overrides, **result}, options.output)
