"""What watches a long run: incidents worth reading later, a watchdog for steps that hang, and where the time went."""

import contextlib
import faulthandler
import json
import math
import os
import pathlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from experiments.runs.files import end_line, replaced

HUNG = 75  # exit status of a hung run: "temporary failure", so that a scheduler may start it again
WARMUP = 20  # losses seen before one can be a spike
DECAY = 0.98  # of the running mean and variance of the loss


class Incidents:
    """What went wrong and was survived: a JSON line each in `incidents.jsonl`, batches in `incidents/`."""

    def __init__(self, workdir: pathlib.Path, process: int = 0):
        """Every process but the first writes to files with its number in their names."""
        self._folder, self._suffix = workdir, f".{process}" if process else ""
        self._seen: set[Any] = set()

    def add(self, kind: str, step: int, **facts: Any) -> None:
        """Notes one: kind ("nonfinite", "spike", "damaged_record"), training step, and what is known of it."""
        path = self._folder / f"incidents{self._suffix}.jsonl"
        end_line(path)
        with open(path, "a") as file:
            file.write(json.dumps({"kind": kind, "step": step, **facts}) + "\n")

    def is_new(self, key: Any) -> bool:
        """Whether this is the first time that `key` is asked about."""
        known = key in self._seen
        self._seen.add(key)
        return not known

    def keep(self, step: int, batch: Any) -> pathlib.Path:
        """Writes the rows [rows, ...] of a batch that this process has, for inspection.

        Arrays are named by their path in the batch: "frames", "text.tokens"; "batch" is a batch of one array.
        """
        path = self._folder / "incidents" / f"batch_{step}{self._suffix}.npz"
        leaves = jax.tree_util.tree_leaves_with_path(batch)
        name = lambda where: jax.tree_util.keystr(where, simple=True, separator=".") or "batch"
        with replaced(path) as temporary:
            np.savez_compressed(temporary, **{name(where): values for where, values in leaves})
        return path


class Spikes:
    """Tells a loss that lies far above its running mean."""

    def __init__(self, sigmas: float):
        """`sigmas`: how many running standard deviations above the mean are a spike; 0 for none."""
        self._sigmas, self._count, self.mean, self._variance = sigmas, 0, 0.0, 0.0

    def __call__(self, loss: float) -> bool:
        """Whether `loss` is a spike; it joins the running mean only where it is none."""
        distance = loss - self.mean
        if self._sigmas and self._count >= WARMUP and distance > self._sigmas * math.sqrt(self._variance):
            return True
        self._count += 1
        share = max(1 - DECAY, 1 / self._count)
        self.mean += share * distance
        self._variance = (1 - share) * (self._variance + share * distance**2)
        return False


class Watchdog:
    """Ends the process when no step has ended for too long: a dead peer or device would else be waited for for ever."""

    def __init__(self, seconds: float):
        """`seconds` without a sign of life until the end; 0 for never."""
        self._seconds, self._last, self._paused = seconds, 0.0, 0
        self._closed = threading.Event()

    def alive(self) -> None:
        """Says that a step has ended. The first begins the watch: until then peers may still be compiling."""
        if self._seconds and not self._last:
            threading.Thread(target=self._watch, daemon=True).start()
        self._last = time.monotonic()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is a hang inside this block."""
        self._paused += 1
        yield
        self._paused -= 1
        self.alive()

    def close(self) -> None:
        """Ends the watch."""
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(min(1.0, self._seconds / 4)):
            if not self._paused and time.monotonic() - self._last > self._seconds:
                print(
                    f"\nNo step ended for {self._seconds:g} s (config.runtime.watchdog_seconds): a process or a device "
                    "of this run hangs or is dead. What every thread was doing follows; the same command goes on from "
                    "the newest checkpoint.",
                    file=sys.stderr,
                    flush=True,
                )
                faulthandler.dump_traceback(sys.stderr, all_threads=True)
                sys.stderr.flush()
                os._exit(HUNG)


class Goodput:
    """Where the wall time of a launch goes: useful steps are what is left of it by everything that is counted."""

    def __init__(self, start: float):
        """`start`: of the launch, as `time.monotonic` gives it."""
        self._start = start
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def spent_on(self, what: str) -> Iterator[None]:
        """The time of this block is not spent on useful steps but on "start", "compile", "data", "checkpoint"…"""
        begin = time.monotonic()
        yield
        self.seconds[what] = self.seconds.get(what, 0.0) + time.monotonic() - begin

    def shares(self) -> dict[str, float]:
        """Shares of the wall time so far, `steps` first; they add up to 1."""
        total = max(time.monotonic() - self._start, 1e-9)
        found = {what: seconds / total for what, seconds in self.seconds.items()}
        return {"steps": 1 - sum(found.values()), **found}

    def __str__(self) -> str:
        steps, *rest = (f"{what} {100 * share:.0f} %" for what, share in self.shares().items())
        return f"goodput: {steps} of {time.monotonic() - self._start:.0f} s ({', '.join(rest)})"
