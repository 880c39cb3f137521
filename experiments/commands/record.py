"""Records experience as a data set: a simulator, a folder of videos or a source of images -> <workdir>/data.

The data set is in RLDS form, for TFDS. A recording that was interrupted goes on where it was.
"""

import argparse
import pathlib
from collections.abc import Sequence

from experiments.commands import common
from world_models.core.paths import local_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    common.add_config(parser)
    common.add_workdir(parser)


def run(args: argparse.Namespace, overrides: Sequence[str]) -> pathlib.Path:
    """Records; returns the directory of the data set."""
    from experiments.runs import workdir
    from experiments.runs.lock import file_lock
    from experiments.runs.recording import record

    config = common.load_config(args, overrides)
    output = local_path(workdir.dataset_of(config, args.workdir), "config.data.dataset")
    busy = f"{output}: another process is recording it; wait for it or stop it"
    with file_lock(output.with_name(f"{output.name}.lock"), busy, "recording"):
        return record(config, output)
