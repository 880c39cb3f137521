"""Launchers: many jobs on this machine (`local`) or on a cluster (`slurm`), one training on many hosts (`hosts`)."""

import dataclasses
import pathlib
import shutil
from collections.abc import Sequence

from world_models.core.errors import UserError


@dataclasses.dataclass(frozen=True)
class Training:
    """One training to run on many hosts.

    Attributes:
      words: the command line after "launch.py", without --workdir and the launcher's flags.
      workdir: folder of the run, as the hosts see it: absolute, in a file system that all of them share.
      num_steps: of the training, which is finished when <workdir>/checkpoints/<num_steps> exists.
      nodes: how many hosts; None if not given.
      options: of the launcher, as the user gave them.
    """

    words: tuple[str, ...]
    workdir: pathlib.PurePosixPath
    num_steps: int
    nodes: int | None
    options: tuple[str, ...] = ()

    @property
    def last_checkpoint(self) -> str:
        """The folder that exists once training is finished."""
        return str(self.workdir / "checkpoints" / str(self.num_steps))


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
