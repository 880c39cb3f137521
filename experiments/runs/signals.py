"""Stopping on request: SIGTERM and Ctrl-C become a flag that a loop looks at."""

import signal
import sys
import time
from typing import Any


class StopSignal:
    """Turns the first SIGTERM or Ctrl-C into a request that the training loop sees; a second one exits at once.

    Signals within a second of the first are the same request: schedulers may send it to a step and to its parent.

    Attributes:
      received: name of the signal, such as "SIGTERM"; None before.
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
