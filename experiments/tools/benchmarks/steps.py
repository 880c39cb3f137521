"""Steps that run in turn, each side in a process of its own: what `benchmarks mae` and `benchmarks video` share.

A process imports a module with a function `make_steps`, which gets what was asked for and returns steps by name and
facts, which are printed as JSON. A line on standard input is the name of a step; it is answered by a line of JSON:
seconds of wall clock and of processor a step, and the last loss. Neither JAX nor PyTorch is imported here.
"""

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from experiments.runs.files import ROOT
from world_models.core.errors import UserError

LEARNING_RATE, BETAS, WEIGHT_DECAY = 1e-3, (0.9, 0.95), 0.05  # of AdamW, on both sides

# Variables of glibc: what `runtime.disable_malloc_trim` sets, and a default value that stops that function.
KEEP = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}
MEMORY = {"ours": ({}, {}), "both": ({}, KEEP), "neither": ({"MALLOC_ARENA_TEST": "8"}, {})}  # ours, the peer's

Step = Callable[[], float]


class Process:
    """A process that runs steps."""

    def __init__(self, who: str, module: str, environment: dict[str, str], **asked: Any):
        """Starts it with additional environment variables, and reads its facts.

        Args:
          who: its name in errors.
          module: name of the module in this package that makes its steps.
          environment: added to that of this process.
          asked: of `make_steps`, and `seconds` that a step runs for when it is asked to; JSON.
        """
        environment = os.environ | environment
        environment.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # two processes share a GPU
        command = [sys.executable, "-m", "experiments.tools.benchmarks.steps", module, json.dumps(asked)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, cwd=ROOT, text=True)
        self._who = who
        self.facts = self._answer()

    def run(self, name: str) -> dict[str, Any]:
        """Runs a step for a while."""
        self._process.stdin.write(name + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            raise UserError(f"The process of {self._who!r} ended with status {self._process.wait()}: see above.")
        return json.loads(line)

    def close(self) -> None:
        """Ends it."""
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def take_turns(turns: Sequence[tuple[Process, str]], rounds: int) -> dict[str, list[dict[str, Any]]]:
    """The answers of every step in `rounds` rounds, in each of which all steps run once; a first one warms them up."""
    for process, name in turns:
        process.run(name)
    found = {name: [] for _, name in turns}
    for _ in range(rounds):
        for process, name in turns:
            found[name].append(process.run(name))
    return found


def serve(steps: dict[str, Step], facts: dict[str, Any], seconds: float) -> None:
    """Prints `facts`, then runs requested steps, about `seconds` at a time, until standard input ends."""
    counts: dict[str, int] = {}
    print(json.dumps(facts), flush=True)
    for name in map(str.strip, sys.stdin):
        step = steps[name]
        if name == "ceiling":
            print(json.dumps({"flops_per_second": step()}), flush=True)
            continue
        if name not in counts:
            step()  # compiles
            start = time.perf_counter()
            step()
            counts[name] = max(1, round(seconds / (time.perf_counter() - start)))
        start, used = time.perf_counter(), time.process_time()
        for _ in range(counts[name]):
            loss = step()
        wall, cpu = time.perf_counter() - start, time.process_time() - used
        steps_run = counts[name]
        print(json.dumps({"seconds": wall / steps_run, "cpu_seconds": cpu / steps_run, "loss": loss}), flush=True)


if __name__ == "__main__":
    asked = json.loads(sys.argv[2])
    pace = asked.pop("seconds")
    serve(*importlib.import_module(f"experiments.tools.benchmarks.{sys.argv[1]}").make_steps(**asked), pace)
