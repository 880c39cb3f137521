"""The progress of something long: a bar on a terminal, a line now and then elsewhere, and rates for training."""

import contextlib
import math
import sys
import time
from collections.abc import Iterator

from tqdm import tqdm

LINE = "{unit} {n_fmt}/{total_fmt} | {desc} | {rate_fmt} | {remaining} left"
BAR = "{unit} {n_fmt}/{total_fmt} {bar:24} {desc} | {rate_fmt} | {remaining} left"


class Progress:
    """What is done of a number of units, how fast it goes and how long it will take.

    On a terminal a bar that redraws itself; elsewhere a line every few seconds, and one for the last state.
    """

    def __init__(self, total: int, done: int = 0, *, unit: str = "step", every: float = 10.0, quiet: bool = False):
        """Starts the clock.

        Args:
          total, done: number of units in all, and of those that were done before.
          unit: what is counted, in the singular.
          every: seconds between lines where there is no terminal.
          quiet: show nothing, as on all processes but the first.
        """
        self.total, self._first, self._unit = total, done, unit
        self._start, self._last, self._unsaid = time.monotonic(), -math.inf, ""
        self._quiet = quiet
        live = sys.stderr.isatty() and not quiet
        self._every = 0.1 if live else every
        form = BAR.replace("{unit}", unit)
        self._bar = tqdm(total=total, initial=done, unit=unit, bar_format=form, dynamic_ncols=True) if live else None

    def show(self, done: int, text: str) -> None:
        """Shows that `done` units are done, and `text`; if fewer than at first, rates begin anew."""
        if self._quiet:
            return
        now = time.monotonic()
        if done < self._first:  # trainings that are resumed have lost what no checkpoint has
            self._first, self._start = done, now
            if self._bar is not None:
                self._bar.reset()
                self._bar.initial = done
        if self._bar is not None:
            self._bar.n = done
            self._bar.set_description_str(text, refresh=False)
        else:
            self._unsaid = tqdm.format_meter(
                done,
                self.total,
                now - self._start,
                prefix=text,
                unit=self._unit,
                initial=self._first,
                bar_format=LINE.replace("{unit}", self._unit),
            )
        if now - self._last >= self._every or done >= self.total:
            self._last = now
            self._draw()

    def close(self) -> None:
        """Shows the last state, if that has not been shown, and leaves it standing."""
        self._draw()
        if self._bar is not None:
            self._bar.close()

    def _draw(self) -> None:
        if self._bar is not None:
            self._bar.refresh()
        elif self._unsaid:
            print(self._unsaid, file=sys.stderr, flush=True)
            self._unsaid = ""


class Meter:
    """Examples' units (frames, tokens) per second and the share of time spent waiting for data, since the last look."""

    def __init__(self, units_per_step: int, step: int, unit: str = "frames"):
        """`units_per_step` of the global batch; `step` is the number of steps already done."""
        self._units_per_step, self._step, self._unit = units_per_step, step, unit
        self._start, self._waited = time.monotonic(), 0.0
        self._rate = self._share = math.nan

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
        """The rates since the last call: "<unit>_per_second" and "data_wait", a share of 1."""
        elapsed = max(time.monotonic() - self._start, 1e-9)
        self._rate = (step - self._step) * self._units_per_step / elapsed
        self._share = self._waited / elapsed
        self._step, self._start, self._waited = step, time.monotonic(), 0.0
        return {f"{self._unit}_per_second": self._rate, "data_wait": self._share}

    def __str__(self) -> str:
        if math.isnan(self._rate):
            return "measuring"
        return f"{self._rate:.0f} {self._unit}/s | data wait {100 * self._share:.0f} %"
