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

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.tools.benchmarks import common
from experiments.tools.benchmarks.mae_sizes import SIZES
from experiments.tools.benchmarks.steps import MEMORY, Process, take_turns


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
        name: common.step_rates(found[name], batch, "images")
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
    lines += common.step_lines(found["steps"], "images")
    of = lambda name: common.ratio_text(found[name])
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
    common.run_pair(common.paired_parser(__doc__, SIZES, 128, "images").parse_args(argv), measure, table)
