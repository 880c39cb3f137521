"""Training video world models beside PyTorch, what share of the device they use, and how fast they imagine.

    python -m experiments.tools.benchmarks video [--sizes=car,unet_small] [--peer=torch] [--batch=8] [--devices=1]
    python -m experiments.tools.benchmarks video --sizes=33M,130M,300M,1B,unet --windows=64,256 --rounds=5 --futures=8
        --output=results/video_speed_gpu.json

A size is that of a space-time transformer on patches of 64x64 frames, clips of 16, or of DIAMOND's U-Net, clips of 6. A
step samples noise, computes loss and gradient and updates with AdamW; clips are in memory. The peer is plain PyTorch
of the same arithmetic, written for this benchmark, eager or with --compile, in a process of its own. Before anything is
timed it gets our weights, and the outputs of both networks must agree in float32. All steps take turns, never two at
once, and a ratio is the median over rounds of the ratio within a round, with its 95 % bootstrap interval.

On a CPU XLA runs a convolution on one thread: with --devices=2 our training step has its batch split over two devices
that XLA makes of the CPU, as config.runtime.xla_flags=--xla_force_host_platform_device_count=2 does in training.

On a GPU both compute in bfloat16, the peer by autocast. FLOPs and MFU are as in the throughput benchmark. "stream" is
one future whose frames are fetched one by one, "batch" are --futures of them in one scan; both have full caches of the
window. The JSON is printed and written after every size, so that a session that ends early keeps them.
"""

import importlib.util
import os
import pathlib
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.tools.benchmarks import common
from experiments.tools.benchmarks.steps import MEMORY, Process, take_turns
from experiments.tools.benchmarks.video_sizes import SIZES
from world_models.core.errors import UserError

AGREE = 1e-4  # the largest difference of outputs, relative to the largest output


def measure(
    size: str, batch: int, peer: str, *, rounds: int, seconds: float, memory: str, compiled: bool, **asked: Any
) -> dict[str, Any]:
    """Runs all steps of a size in turn; `asked` goes to our side, and `dtype` to both, see `video_ours.make_steps`."""
    same, (ours, others), processes = {"size": size, "batch": batch, "seconds": seconds}, MEMORY[memory], []
    if asked["devices"] > 1:
        flag = f"--xla_force_host_platform_device_count={asked['devices']}"
        ours = ours | {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flag}"}
    with tempfile.TemporaryDirectory() as folder:
        exchange = str(pathlib.Path(folder) / "forward.npz")
        try:
            processes.append(Process("ours", "video_ours", ours, exchange=exchange, **asked, **same))
            facts = processes[0].facts
            turns = [(processes[0], name) for name in ("ours", *facts["frames"])]
            if peer:
                how = {"dtype": facts["dtype"], "compiled": compiled, "exchange": exchange}
                processes.append(Process(peer, "video_torch", others, **how, **same))
                check(size, facts, processes[1].facts)
                turns.insert(1, (processes[1], peer))
            found = take_turns(turns, rounds)
            ceiling = processes[0].run("ceiling")["flops_per_second"]
        finally:
            for process in processes:
                process.close()
    return summary(found, facts, batch * SIZES[size].clip, ceiling) | {"peer": processes[1].facts if peer else None}


def check(size: str, ours: dict[str, Any], peer: dict[str, Any]) -> None:
    """Raises UserError unless both sides are the same network."""
    if ours["parameters"] != peer["parameters"]:
        raise UserError(f"{size}: the peer has {peer['parameters']:,} parameters, ours {ours['parameters']:,}.")
    if not peer["difference"] <= AGREE:
        raise UserError(f"{size}: the peer's outputs differ from ours by {peer['difference']:.1e}, above {AGREE:.0e}.")


def summary(found: dict[str, list[dict]], facts: dict[str, Any], frames: int, ceiling: float) -> dict[str, Any]:
    """The numbers of interest, of the rounds of every step; a training step has so many `frames`."""
    take = lambda name, what="seconds": [row[what] for row in found[name]]
    rate = lambda name, count: {
        "frames_per_second": count / float(np.median(take(name))),
        "frames_per_second_best": count / min(take(name)),
    }
    trained = {
        name: rate(name, frames)
        | {"step_seconds": float(np.median(take(name))), "loss": found[name][-1]["loss"]}
        | {"frames_per_cpu_second": frames / float(np.median(take(name, "cpu_seconds")))}
        for name in found
        if name not in facts["frames"]
    }
    model_flops = facts["flops"] / trained["ours"]["step_seconds"]
    result = {
        **{name: fact for name, fact in facts.items() if name != "frames"},
        "training": trained,
        "imagining": {name: rate(name, count) for name, count in facts["frames"].items()},
        "model_flops_per_second": model_flops,
        "matmul_flops_per_second": ceiling,
        "mfu": model_flops / ceiling,
    }
    if "torch" in found:
        result["to_torch"] = common.ratio(take("torch"), take("ours"))
        result["to_torch_cpu"] = common.ratio(take("torch", "cpu_seconds"), take("ours", "cpu_seconds"))
    return result


def table(size: str, found: dict[str, Any]) -> str:
    """The measurement of a size for reading."""
    if "failed" in found:
        return f"{size}: {found['failed']}"
    lines = [f"{size}: {found['parameters']:,} parameters, {found['dtype']}, on {found['device']}"]
    for name, row in found["training"].items():
        rates = f"{row['frames_per_second']:,.0f} frames/s (best {row['frames_per_second_best']:,.0f})"
        lines.append(f"  {name:12}{1e3 * row['step_seconds']:10,.1f} ms a step, {rates}, loss {row['loss']:.3f}")
    if "to_torch" in found:
        of = lambda name: common.ratio_text(found[name])
        lines.append(f"  ours to torch: {of('to_torch')}; by processor seconds {of('to_torch_cpu')}")
    speed, ceiling = (found[name] / 1e9 for name in ("model_flops_per_second", "matmul_flops_per_second"))
    lines.append(f"  MFU: {speed:,.1f} GFLOP/s, {found['mfu']:.1%} of {ceiling:,.0f} GFLOP/s (matrix product)")
    for name, row in found["imagining"].items():
        rates = f"{row['frames_per_second']:,.1f} imagined frames/s (best {row['frames_per_second_best']:,.1f})"
        lines.append(f"  {name:12}{rates}")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> None:
    """Runs the benchmark."""
    parser = common.parser(__doc__)
    parser.add_argument("--sizes", default="car,unet_small", help=f"comma-separated, of {', '.join(SIZES)}")
    parser.add_argument("--peer", choices=("", "torch"), default="torch", help="what to run beside it")
    parser.add_argument("--compile", action="store_true", help="the peer with torch.compile")
    parser.add_argument("--batch", type=common.integer, default=8, help="clips of a step")
    parser.add_argument("--devices", type=common.integer, default=1, help="that our step is split over, on a CPU")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="by default bfloat16 on a GPU, else float32")
    parser.add_argument("--attention", choices=("xla", "cudnn"), default="xla", help="ours, in training")
    parser.add_argument("--windows", type=common.integers, default=[16], help="of the transformer when it imagines")
    parser.add_argument("--futures", type=common.integer, default=16, help="imagined in one scan")
    parser.add_argument("--memory", choices=MEMORY, default="ours", help="whose C library keeps what a step frees")
    parser.add_argument("--rounds", type=common.integer, default=10, help="of all sides in turn")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each step in a round")
    matmuls = [1024, 2048, 4096, 8192]
    parser.add_argument("--matmuls", type=common.integers, default=matmuls, help="sides of products for the ceiling")
    asked = vars(parser.parse_args(argv))
    sizes, output, peer = asked.pop("sizes").split(","), asked.pop("output"), asked.pop("peer")
    if set(sizes) - set(SIZES):
        raise UserError(f"--sizes={','.join(sizes)} must be some of {', '.join(SIZES)}, comma-separated.")
    if peer and not importlib.util.find_spec("torch"):
        raise UserError("--peer=torch needs torch: pip install -e '.[dev]', or leave the peer out with --peer=.")
    if asked["batch"] % asked["devices"]:
        raise UserError(f"--batch={asked['batch']} must be a multiple of --devices={asked['devices']}.")
    asked["compiled"] = asked.pop("compile")
    rows: dict[str, Any] = {}
    for size in sizes:
        try:
            rows[size] = measure(size, peer=peer, **asked)
        except UserError as error:  # a size that does not fit the device, say
            rows[size] = {"failed": str(error)}
        print(table(size, rows[size]))
        common.finish({**asked, "sizes": rows}, output)
        sys.stdout.flush()
    failed = [size for size, row in rows.items() if "failed" in row]
    if failed:
        raise UserError(
            f"{len(failed)} of {len(rows)} sizes failed: {'; '.join(rows[size]['failed'] for size in failed)}"
        )
