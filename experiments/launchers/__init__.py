"""Where many runs are run: `local` on this machine, `slurm` on a cluster."""

import dataclasses
import pathlib
from collections.abc import Sequence

from world_models.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
"""The root of the repository, where jobs run."""


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


def check_names(jobs: Sequence[Job]) -> None:
    """Raises UserError where two jobs have the same name."""
    names = [job.name for job in jobs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"Two jobs are called {twice[0]!r}: give every job a name of its own.")
