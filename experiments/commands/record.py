"""Records experience as a data set: a simulator, a folder of videos or a source of images -> <workdir>/data.

The data set is in RLDS form, for TFDS. A recording that was interrupted goes on where it was.
"""

import argparse
import pathlib
from collections.abc import Sequence

from experiments.commands import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    common.add_config(parser)
    common.add_workdir(parser)


def run(args: argparse.Namespace, overrides: Sequence[str]) -> pathlib.Path:
    """Records; returns the directory of the data set."""
    from experiments.runs import workdir
    from experiments.runs.recording import record

    config = common.load_config(args, overrides)
    output = pathlib.Path(workdir.dataset_of(config, args.workdir))
    busy = f"{output}: another process is recording it; wait for it or stop it."
    with workdir.file_lock(output.with_name(f"{output.name}.lock"), busy):
        return record(config, output)
