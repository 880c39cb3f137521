"""Where runs are run: many on this machine (`local`) or a cluster (`slurm`), one on many hosts (`hosts`)."""

import dataclasses
import pathlib
import shutil
from collections.abc import Collection, Sequence

from experiments.runs.jobs import Job
from world_models.core.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[3]
"""The root of the repository, where jobs run."""


@dataclasses.dataclass(frozen=True)
class Training:
    """One training to run on many hosts.

    Attributes:
      words: the command line after "launch.py", without what says where it runs and without --workdir.
      workdir: folder of the run, as the hosts see it: absolute, in a file system that all of them share.
      num_steps: of the training, which is finished when <workdir>/checkpoints/<num_steps> is there.
      nodes: how many hosts; None if the user did not say.
      options: of the launcher, as the user gave them.
    """

    words: tuple[str, ...]
    workdir: pathlib.PurePosixPath
    num_steps: int
    nodes: int | None
    options: tuple[str, ...] = ()

    @property
    def last_checkpoint(self) -> str:
        """The folder whose presence says that training is finished."""
        return str(self.workdir / "checkpoints" / str(self.num_steps))


def check_names(jobs: Sequence[Job]) -> None:
    """Raises UserError where two jobs have the same name."""
    names = [job.name for job in jobs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"Two jobs are called {twice[0]!r}: give every job a name of its own.")


def without(words: Sequence[str], valued: Collection[str], switches: Collection[str] = ()) -> list[str]:
    """A command line without some flags: `valued` ones as --name=value or --name value, `switches` as --name."""
    kept: list[str] = []
    skip = False
    for word in words:
        name, equals, _ = word.lstrip("-").partition("=")
        if skip:
            skip = False
        elif word.startswith("-") and name in valued:
            skip = not equals
        elif not word.startswith("-") or name.removeprefix("no") not in switches:
            kept.append(word)
    return kept


def read_options(words: Sequence[str], known: dict[str, str], needed: Sequence[str], launcher: str) -> dict[str, str]:
    """The name=value words of --launch_options.

    Args:
      words: what the user gave.
      known: default by name.
      needed: names that have no sensible default.
      launcher: its name, for errors.

    Raises:
      UserError: if a word is no such option, or one is missing.
    """
    found = dict(known)
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in known:
            raise UserError(f"--launch_options has {word!r}; {launcher} takes name=value of: {', '.join(known)}.")
        found[name] = value
    for name in needed:
        if not found[name]:
            raise UserError(f"--launch_options lacks {name}=…, which {launcher} needs; it takes: {', '.join(known)}.")
    return found


def need(tool: str, advice: str) -> None:
    """Raises UserError with advice where a program is missing."""
    if not shutil.which(tool):
        raise UserError(f"There is no {tool} on PATH: {advice}.")


def last_line(text: str) -> str:
    """What a tool said last."""
    return (text.strip().splitlines() or ["it does not say why."])[-1]
