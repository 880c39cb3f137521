"""Measures a checkpoint with all evaluators of its config -> <workdir>/eval/<step>.json."""

import argparse
import pathlib
from collections.abc import Sequence

from experiments.commands import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    common.add_run(parser)


def run(args: argparse.Namespace, overrides: Sequence[str]) -> pathlib.Path:
    """Measures, prints and writes the metrics; returns their file."""
    opened = common.open_run(args, overrides)
    return opened.experiment.capability("eval").write(opened)
