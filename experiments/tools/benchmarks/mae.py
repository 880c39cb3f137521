"""Pretraining a masked autoencoder: images/s beside PyTorch, what leaving mask tokens out and masking itself come to.

    python -m experiments.tools.benchmarks mae [--size=tiny] [--peer=torch] [--batch=128] [--dtype=float32]

A step samples masks, computes loss and gradient and updates with AdamW; images are in memory. The peer is Hugging
Face's ViTMAE of the same size, eager or with --compile, in a process of its own. The steps take turns, never two at
once, and every ratio is the median over rounds of the ratio within a round, with its 95 % bootstrap interval. Processor
seconds are given too: on a machine that others use they are the steadier number.

"dense" has mask tokens in the encoder (MAE's table 1c). "masking" is the share of a step that goes away if it is given
normalized patches in order: masks, shuffles, gathers and cutting images into patches; "alone" is the time that masks,
shuffles and gathers take by themselves (warm caches, patches that are cut already), over that of a step: steadier, as
it is not the difference of two numbers of nearly the same size. FLOPs and MFU are as in the throughput benchmark.

Our process is set up as `launch.py` does it: where there is no accelerator, the C library keeps what a step frees
(`runtime.disable_malloc_trim`). --memory=both gives the peer the same setting, --memory=neither takes it from ours.
"""

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.tools.benchmarks import common
from experiments.tools.benchmarks.mae_sizes import SIZES
from experiments.tools.benchmarks.steps import MEMORY, Process, take_turns
from world_models.core.errors import UserError


def measure(size: str, batch: int, dtype: str, peer: str, *, compiled, unroll, memory, rounds, seconds) -> dict:
    """Runs all steps in turn, `rounds` times for `seconds` each."""
    same = {"size": size, "batch": batch, "dtype": dtype, "seconds": seconds}
    ours, others = MEMORY[memory]
    processes = [Process("ours", "mae_ours", ours, unroll=unroll, **same)]
    turns = [(processes[0], name) for name in ("ours", "dense", "sorted", "masking")]
    try:
        if peer:
            processes.append(Process(peer, "mae_torch", others, compiled=compiled, **same))
            turns.insert(1, (processes[1], peer))
        found = take_turns(turns, rounds)
        ceiling = processes[0].run("ceiling")["flops_per_second"]
    finally:
        for process in processes:
            process.close()
    return summary(found, processes[0].facts, batch, ceiling) | {"peer": processes[1].facts if peer else None}


def summary(found: dict[str, list[dict]], facts: dict[str, Any], batch: int, ceiling: float) -> dict[str, Any]:
    """The numbers of interest, of the rounds of every step."""
    take = lambda name, what="seconds": [row[what] for row in found[name]]
    rows = {
        name: {
            "images_per_second": batch / float(np.median(take(name))),
            "images_per_second_best": batch / min(take(name)),
            "images_per_cpu_second": batch / float(np.median(take(name, "cpu_seconds"))),
            "loss": found[name][-1]["loss"],
        }
        for name in found
        if name != "masking"  # no step
    }
    model_flops = facts["flops"] / float(np.median(take("ours")))
    given = common.ratio(take("sorted"), take("ours"))
    result = {
        **facts,
        "steps": rows,
        "sparse_speed_up": common.ratio(take("dense"), take("ours")),
        "sparse_flops_ratio": facts["dense_flops"] / facts["flops"],
        "masking_share": {"share": 1 - given["ratio"], "interval": [1 - end for end in given["interval"][::-1]]},
        "masking_alone": common.ratio(take("masking"), take("ours")),
        "model_flops_per_second": model_flops,
        "matmul_flops_per_second": ceiling,
        "mfu": model_flops / ceiling,
    }
    if "torch" in found:
        result["to_torch"] = common.ratio(take("torch"), take("ours"))
        result["to_torch_cpu"] = common.ratio(take("torch", "cpu_seconds"), take("ours", "cpu_seconds"))
    return result


def table(found: dict[str, Any]) -> str:
    """The measurement for reading."""
    lines = [f"{found['parameters']:,} parameters on {found['device']}"]
    lines.append(f"{'step':10}{'images/s':>12}{'best':>12}{'a CPU second':>14}{'loss':>9}")
    for name, row in found["steps"].items():
        rates = f"{row['images_per_second']:12,.0f}{row['images_per_second_best']:12,.0f}"
        lines.append(f"{name:10}{rates}{row['images_per_cpu_second']:14,.0f}{row['loss']:9.4f}")
    of = lambda name: f"{found[name]['ratio']:.2f}x ({' to '.join(f'{end:.2f}' for end in found[name]['interval'])})"
    if "to_torch" in found:
        lines.append(f"ours to torch: {of('to_torch')}; by processor seconds {of('to_torch_cpu')}")
    lines.append(
        f"without mask tokens in the encoder: {of('sparse_speed_up')}; FLOPs {found['sparse_flops_ratio']:.2f}x"
    )
    low, high = found["masking_share"]["interval"]
    lines.append(f"masking: {found['masking_share']['share']:.1%} of a step ({low:.1%} to {high:.1%})")
    alone, (low, high) = found["masking_alone"]["ratio"], found["masking_alone"]["interval"]
    lines.append(f"masking alone: {alone:.1%} of a step ({low:.1%} to {high:.1%})")
    speed, ceiling = (found[name] / 1e9 for name in ("model_flops_per_second", "matmul_flops_per_second"))
    lines.append(f"model FLOPs: {speed:,.1f} GFLOP/s, {found['mfu']:.1%} of {ceiling:,.0f} GFLOP/s (matrix product)")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> None:
    """Runs the benchmark."""
    parser = common.parser(__doc__)
    parser.add_argument("--size", choices=SIZES, default="mini", help="of the model")
    parser.add_argument("--peer", choices=("", "torch"), default="", help="what to run beside it")
    parser.add_argument("--compile", action="store_true", help="the peer with torch.compile")
    parser.add_argument("--batch", type=common.integer, default=128, help="images of a step")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of what is computed")
    parser.add_argument("--scan", action="store_true", help="compile one block and loop over it, not all of them")
    parser.add_argument("--memory", choices=MEMORY, default="ours", help="whose C library keeps what a step frees")
    parser.add_argument("--rounds", type=common.integer, default=10, help="of all sides in turn")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each step in a round")
    asked = parser.parse_args(argv)
    missing = [name for name in ("torch", "transformers") if asked.peer and not importlib.util.find_spec(name)]
    if missing:
        raise UserError(f"--peer=torch needs {' and '.join(missing)}: pip install -e '.[dev]'.")
    options = {"compiled": asked.compile, "unroll": not asked.scan, "memory": asked.memory}
    pace = {"rounds": asked.rounds, "seconds": asked.seconds}
    found = measure(asked.size, asked.batch, asked.dtype, asked.peer, **options, **pace)
    print(table(found))
    setting = {"size": asked.size, "batch_size": asked.batch, "dtype": asked.dtype}
    common.finish({**setting, **options, **pace, **found}, asked.output)
