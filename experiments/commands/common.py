"""What several commands share: flags, config overrides, and errors as sentences. No JAX here."""

import argparse
import errno
import pathlib
from collections.abc import Sequence
from typing import Any, NoReturn

from world_models.core.errors import UserError, is_disk_full
from world_models.core.paths import local_path

OVERRIDES = "Any field of the config is set by --config.some.field=value."
UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)


class Parser(argparse.ArgumentParser):
    """A parser whose errors reach the user as one sentence."""

    def error(self, message: str) -> NoReturn:
        """Raises UserError."""
        raise UserError(f"{message} ({self.prog} --help lists all flags).")


def split_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits a command line into its own words and those that set fields of the config.

    Args:
      words: overrides are "--config.field=value", or "--config.field" and "value".

    Returns:
      (the other words, overrides as "--config.field=value").
    """
    own: list[str] = []
    overrides: list[str] = []
    last: list[str] = []
    for word in words:
        if word.startswith("--config."):
            overrides.append(word)
            last = overrides
        elif last is overrides and "=" not in overrides[-1] and not word.startswith("--"):
            overrides[-1] += f"={word}"
        else:
            own.append(word)
            last = own
    return own, overrides


def no_overrides(overrides: Sequence[str], command: str) -> None:
    """Raises UserError if a command that reads no config is given some."""
    if overrides:
        raise UserError(f"{overrides[0]} sets a field of a config, and {command} reads none.")


def folder(text: str) -> pathlib.Path:
    """A local folder, as the type of the flag --workdir."""
    try:
        return local_path(text, "--workdir")
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("--workdir=").removesuffix(".")) from error


def add_workdir(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Declares --workdir."""
    parser.add_argument("--workdir", type=folder, required=required, metavar="DIR", help="Folder of the run.")


def add_config(parser: argparse.ArgumentParser) -> None:
    """Declares --config."""
    parser.add_argument(
        "--config",
        required=True,
        metavar="FILE",
        help=f"Config file, perhaps with a variant: configs/car_unet.py or configs/car_unet.py:debug. {OVERRIDES}",
    )


def add_processes(parser: Any, others: Any = None) -> None:
    """Declares the flags of one of several processes; `others` is a group that excludes --coordinator, if any."""
    (others or parser).add_argument(
        "--coordinator", metavar="HOST:PORT", help="Where several processes meet; SLURM, TPUs and GKE need no flags."
    )
    parser.add_argument("--num_processes", type=int, metavar="N", help="How many processes meet there.")
    parser.add_argument("--process_id", type=int, metavar="I", help="Which of them this is, from 0.")


def add_run(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Declares the flags of a command that opens a trained run, which may be `required`."""
    add_workdir(parser, required=required)
    parser.add_argument(
        "--weights", metavar="NAME", help="Weights that come with the repository, to copy to a new --workdir first."
    )
    parser.add_argument("--step", type=int, metavar="N", help="Checkpoint to use; the newest by default.")
    parser.add_argument(
        "--trust",
        default="",
        metavar="PACKAGES",
        help="Python packages outside this repository, comma-separated, that the run's config may import.",
    )
    add_processes(parser)
    parser.epilog = f"{OVERRIDES} The config is that of the run."


def load_config(args: argparse.Namespace, overrides: Sequence[str]) -> Any:
    """The config of --config with overrides."""
    from experiments.runs import config as configs

    config = configs.load_file(args.config)
    configs.override(config, overrides)
    return config


def open_run(args: argparse.Namespace, overrides: Sequence[str]) -> Any:
    """The run of --workdir at --step, with overrides of its config, ready to compute."""
    from experiments.runs import config as configs
    from experiments.runs import multihost, runtime, shipped, trust, workdir
    from experiments.runs.files import check_writable, read_json

    if args.weights:
        shipped.unpack(args.weights, args.workdir)
    config = workdir.load_config(args.workdir)
    read_json(args.workdir / "provenance.json", "restore it from a copy", ["revision"])  # now, not after computing
    configs.override(config, overrides)
    check_writable(args.workdir)
    # A workdir may be somebody else's: its flags of XLA are used only if this command line repeats them.
    given = any(word.partition("=")[0].endswith(".xla_flags") for word in overrides)
    runtime.setup(config.runtime.xla_flags if given else "")
    multihost.start(args.coordinator, args.num_processes, args.process_id)
    from experiments.runs.loading import load

    named = trust.overridden(config, overrides) | {name.strip() for name in args.trust.split(",") if name.strip()}
    return load(args.workdir, args.step, config, trusted=named)


def explained(error: Exception) -> str:
    """An error as a sentence for the user; empty if it is a bug, which needs a traceback."""
    if isinstance(error, UserError):
        return str(error)
    name = f" of {error.filename}" if isinstance(error, OSError) and error.filename else ""
    if is_disk_full(error):
        return f"No space left on the disk{name}: free some and run the same command again."
    if isinstance(error, OSError) and error.errno in UNWRITABLE and name:
        return f"{error.filename} cannot be written or read ({error.strerror}): change its permissions or place."
    return ""
