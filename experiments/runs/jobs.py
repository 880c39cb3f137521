"""Commands to run in other processes. Launchers of experiments/tools run them, passed in as a `Runner`."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from world_models.core.errors import UserError

Tick = Callable[[dict[str, str]], None]
"""Called now and then with the state of every job by name: "waiting", "running", "done" or "failed"."""


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
      run: runs jobs, with a folder for its own notes; returns exit statuses by name when all have ended, or None where
        jobs were only submitted and the caller is to ask again later.
      describe: prints what `run` would submit, if anything.
    """

    run: Callable[[Sequence[Job], pathlib.Path, Tick], Mapping[str, int] | None]
    describe: Callable[[Sequence[Job], pathlib.Path], Any] = lambda jobs, folder: None


def check_names(jobs: Sequence[Job]) -> None:
    """Raises UserError where two jobs have the same name."""
    names = [job.name for job in jobs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"Two jobs are called {twice[0]!r}: give every job a name of its own.")


def last_line(text: str) -> str:
    """The last line of a program's output."""
    return (text.strip().splitlines() or ["it gives no reason."])[-1].strip()


def last_log_line(path: pathlib.Path) -> str:
    """The last line of a log, and where the log is."""
    text = path.read_text(errors="replace").strip() if path.exists() else ""
    return f"{last_line(text) if text else 'no output'} (log: {path})"
