"""Pretraining BERT: tokens/s beside Hugging Face's model on PyTorch.

    python -m experiments.tools.benchmarks bert [--size=mini] [--peer=torch] [--batch=16] [--dtype=float32]

A step computes the losses of masked tokens and of pairs and their gradient, and updates with AdamW; rows are full, 128
tokens, and in memory, masked already. The peer is Hugging Face's `BertForPreTraining` without dropout, eager or with
--compile, in a process of its own. Before anything is timed it gets our weights, and both losses must agree in float32.
The steps take turns, never two at once, and a ratio is the median over rounds of the ratio within a round, with its
95 % bootstrap interval.

"ours" computes logits at the 15 % of places that are predicted. "everywhere" computes them at every place, as the peer
does: the ratio of equal work. FLOPs and MFU are as in the throughput benchmark, --memory as in `mae`.
"""

import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.tools.benchmarks import common
from experiments.tools.benchmarks.bert_sizes import LENGTH, SIZES
from experiments.tools.benchmarks.steps import MEMORY, Process, take_turns
from world_models.core.errors import UserError

AGREE = 1e-4  # the largest relative difference of the first losses


def measure(size: str, batch: int, dtype: str, peer: str, *, compiled, unroll, memory, rounds, seconds) -> dict:
    """Runs all steps in turn, `rounds` times for `seconds` each."""
    ours, others = MEMORY[memory]
    processes: list[Process] = []
    with tempfile.TemporaryDirectory() as folder:
        exchange = str(pathlib.Path(folder) / "model.safetensors")
        same = {"size": size, "batch": batch, "dtype": dtype, "seconds": seconds, "exchange": exchange}
        try:
            processes.append(Process("ours", "bert_ours", ours, unroll=unroll, **same))
            turns = [(processes[0], name) for name in ("ours", "everywhere")]
            if peer:
                processes.append(Process(peer, "bert_torch", others, compiled=compiled, **same))
                check(processes[0].facts, processes[1].facts, dtype)
                turns.insert(1, (processes[1], peer))
            found = take_turns(turns, rounds)
            ceiling = processes[0].run("ceiling")["flops_per_second"]
        finally:
            for process in processes:
                process.close()
    return summary(found, processes[0].facts, batch * LENGTH, ceiling) | {"peer": processes[1].facts if peer else None}


def check(ours: dict[str, Any], peer: dict[str, Any], dtype: str) -> None:
    """Raises UserError unless both sides are the same model with the same weights."""
    if ours["parameters"] != peer["parameters"]:
        raise UserError(f"The peer has {peer['parameters']:,} parameters, ours {ours['parameters']:,}.")
    difference = abs(ours["first_loss"] / peer["first_loss"] - 1)
    if dtype == "float32" and not difference <= AGREE:
        raise UserError(f"The peer's first loss differs from ours by {difference:.1e}, above {AGREE:.0e}.")


def summary(found: dict[str, list[dict]], facts: dict[str, Any], tokens: int, ceiling: float) -> dict[str, Any]:
    """The numbers of interest, of the rounds of every step, which has so many `tokens`."""
    take = lambda name, what="seconds": [row[what] for row in found[name]]
    steps = {name: common.step_rates(found[name], tokens, "tokens") for name in found}
    model_flops = facts["flops"] / float(np.median(take("ours")))
    result = {
        **facts,
        "steps": steps,
        "model_flops_per_second": model_flops,
        "matmul_flops_per_second": ceiling,
        "mfu": model_flops / ceiling,
    }
    for name in ("ours", "everywhere") if "torch" in found else ():
        result[f"{name}_to_torch"] = common.ratio(take("torch"), take(name))
        result[f"{name}_to_torch_cpu"] = common.ratio(take("torch", "cpu_seconds"), take(name, "cpu_seconds"))
    return result


def table(found: dict[str, Any]) -> str:
    """The measurement for reading."""
    lines = [f"{found['parameters']:,} parameters on {found['device']}"]
    lines += common.step_lines(found["steps"], "tokens")
    of = lambda name: common.ratio_text(found[name])
    for name in ("ours", "everywhere"):
        if f"{name}_to_torch" in found:
            lines.append(
                f"{name} to torch: {of(f'{name}_to_torch')}; by processor seconds {of(f'{name}_to_torch_cpu')}"
            )
    speed, ceiling = (found[name] / 1e9 for name in ("model_flops_per_second", "matmul_flops_per_second"))
    lines.append(f"model FLOPs: {speed:,.1f} GFLOP/s, {found['mfu']:.1%} of {ceiling:,.0f} GFLOP/s (matrix product)")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> None:
    """Runs the benchmark."""
    common.run_pair(common.paired_parser(__doc__, SIZES, 16, "rows").parse_args(argv), measure, table)
