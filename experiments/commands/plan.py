"""Plans in the model and acts in the real environment -> success rates and videos in <workdir>/plan."""

import argparse
import pathlib
from collections.abc import Sequence

from experiments.commands import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    common.add_run(parser)


def run(args: argparse.Namespace, overrides: Sequence[str]) -> pathlib.Path:
    """Plans; returns the path of the results."""
    opened = common.open_run(args, overrides)
    return opened.experiment.capability("plan").write(opened)
