"""Commands to run in other processes, and what runs them: launchers live in experiments/tools, callers below that."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Tick = Callable[[dict[str, str]], None]
"""Called now and then with the state of every job: "waiting", "running", "done" or "failed"."""


@dataclasses.dataclass(frozen=True)
class Job:
    """A command to run.

    Attributes:
      name: unique among the jobs, shown to the user.
      command: argv; it runs from the root of the repository.
      log: file that its stdout and stderr are appended to; the folder is made where it is missing.
    """

    name: str
    command: tuple[str, ...]
    log: pathlib.Path


@dataclasses.dataclass(frozen=True)
class Runner:
    """Where jobs run.

    Attributes:
      run: runs jobs, with a folder for notes of its own; returns exit statuses by name when all have ended, or None
        where jobs were only submitted and the caller is to ask again later.
      describe: prints what `run` would submit, if anything.
    """

    run: Callable[[Sequence[Job], pathlib.Path, Tick], Mapping[str, int] | None]
    describe: Callable[[Sequence[Job], pathlib.Path], Any] = lambda jobs, folder: None
