"""Imagines futures (or reconstructs) from held-out data -> metrics, videos and a report in <workdir>/imagine."""

import argparse
import pathlib
from collections.abc import Sequence

from experiments.commands import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    common.add_run(parser)


def run(args: argparse.Namespace, overrides: Sequence[str]) -> pathlib.Path:
    """Imagines; returns the path of the report."""
    opened = common.open_run(args, overrides)
    return opened.experiment.capability("imagine").write(opened)
