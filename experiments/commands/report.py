"""Gathers all tables, runs, sweeps and imagined futures below a folder on one static page -> <workdir>/index.html."""

import argparse
import pathlib
from collections.abc import Sequence

from experiments.commands import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    parser.add_argument(
        "--workdir", type=common.folder, default="runs", metavar="DIR", help="Folder to look through; runs by default."
    )


def run(args: argparse.Namespace, overrides: Sequence[str]) -> pathlib.Path:
    """Writes the page; returns its path."""
    common.no_overrides(overrides, "report")
    from experiments.reports.overview.build import build

    return build(args.workdir)
