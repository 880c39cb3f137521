"""What a running job tells: a live line on the terminal, JSON lines, TensorBoard and, if asked for, W&B."""

import contextlib
import json
import math
import pathlib
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

import ml_collections

from world_models.core.errors import UserError


class Progress:
    """One line that rewrites itself on a terminal, or a new line now and then where there is none."""

    def __init__(self, total: int, done: int = 0, *, every: float = 10.0, quiet: bool = False):
        """`total` and `done` count steps; without a terminal a line comes `every` so many seconds, none if `quiet`."""
        self.total, self.start, self._first = total, time.monotonic(), done
        self._live, self._every, self._last = sys.stderr.isatty(), every, -math.inf
        self._unsaid, self._quiet = "", quiet

    def show(self, done: int, text: str) -> None:
        """Shows `done` steps with the time left, and `text`."""
        if self._quiet:
            return
        now = time.monotonic()
        rate = (done - self._first) / max(now - self.start, 1e-9)
        left = clock((self.total - done) / rate) if rate > 0 else "--"
        self._unsaid = f"step {done}/{self.total} | {text} | {left} left"
        if now - self._last >= (0.1 if self._live else self._every) or done >= self.total:
            self._last = now
            self._say()

    def close(self) -> None:
        """Says what was shown last, if that has not been said, and leaves it standing."""
        if self._unsaid:
            self._say()
        if self._live and not self._quiet:
            print(file=sys.stderr, flush=True)

    def _say(self) -> None:
        line, self._unsaid = self._unsaid, ""
        print(f"\r{line}\033[K" if self._live else line, end="" if self._live else "\n", file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class Meter:
    """Throughput and the share of time spent waiting for data, since the last look."""

    def __init__(self, units_per_step: int, step: int, unit: str = "examples"):
        """`step` is the number of steps already done, `unit` the plural of what a batch is counted in."""
        self._units_per_step, self._step, self._unit = units_per_step, step, unit
        self._start, self._waited = time.monotonic(), 0.0
        self._shown = {f"{unit}_per_second": math.nan, "data_wait": math.nan}

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """The time of this block counts as waiting for data."""
        begin = time.monotonic()
        yield
        self._waited += time.monotonic() - begin

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """The time of this block does not count."""
        begin = time.monotonic()
        yield
        self._start += time.monotonic() - begin

    def rates(self, step: int) -> dict[str, float]:
        """The rates since the last call."""
        elapsed = max(time.monotonic() - self._start, 1e-9)
        units = (step - self._step) * self._units_per_step
        self._shown = {f"{self._unit}_per_second": units / elapsed, "data_wait": self._waited / elapsed}
        self._step, self._start, self._waited = step, time.monotonic(), 0.0
        return self._shown

    def __str__(self) -> str:
        rate, wait = self._shown.values()
        if math.isnan(rate):
            return "measuring"
        return f"{rate:.0f} {self._unit}/s | data wait {100 * wait:.0f} %"


class Writers:
    """Metrics by step, to `metrics.jsonl`, TensorBoard events, and Weights & Biases if the config asks for it."""

    def __init__(self, workdir: pathlib.Path, config: ml_collections.ConfigDict, *, from_step: int):
        """Opens the files for appending; lines of steps after `from_step`, which will be done again, are dropped."""
        from tensorboardX import SummaryWriter

        self._path = workdir / "metrics.jsonl"
        lines = read_metrics(workdir)
        kept = [line for line in lines if line["step"] <= from_step]
        if len(kept) != len(lines):
            self._path.write_text("".join(json.dumps(line) + "\n" for line in kept))
        self._file = open(self._path, "a", buffering=1)  # noqa: SIM115
        self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=from_step + 1)
        self._wandb = _start_wandb(workdir, config) if config.runtime.wandb else None

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Writes one line; a number that is not finite becomes null in JSON."""
        plain = {name: float(value) for name, value in values.items()}
        self._file.write(json.dumps({"step": step, **finite_or_none(plain)}) + "\n")
        for name, value in plain.items():
            self._board.add_scalar(name, value, step)
        if self._wandb:
            self._wandb.log(plain, step=step)

    def close(self) -> None:
        """Flushes everything."""
        self._file.close()
        self._board.close()
        if self._wandb:
            self._wandb.finish()


def finite_or_none(value: Any) -> Any:
    """Replaces NaN and infinities, which JSON does not know, by None, at any depth."""
    if isinstance(value, dict):
        return {key: finite_or_none(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_none(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def read_metrics(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`; a last line that a crash cut short is left out."""
    path = workdir / "metrics.jsonl"
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def _start_wandb(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> Any:
    try:
        import wandb
    except ImportError as error:
        raise UserError(
            "config.runtime.wandb=True needs the extra: pip install -e '.[wandb]', or set it to False."
        ) from error
    return wandb.init(dir=str(workdir), name=workdir.name, config=config.to_dict(), resume="allow")


class StopSignal:
    """Turns the first SIGTERM or Ctrl-C into a wish that the loop sees; a second one exits at once.

    What comes within a second of the first is the same wish: schedulers may send it to a step and to its parent.
    """

    def __init__(self):
        self.received: str | None = None
        self._when = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: Any) -> None:
        if self.received and time.monotonic() - self._when < 1:
            return
        if self.received:
            print("\nSecond signal: exiting at once, without saving.", file=sys.stderr, flush=True)
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.received, self._when = signal.Signals(number).name, time.monotonic()
        print(f"\n{self.received}: saving after this step; once more to exit at once.", file=sys.stderr, flush=True)
