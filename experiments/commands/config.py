"""Prints every resolved value of a config file and where it comes from: a default, the file or the command line."""

import argparse
from collections.abc import Sequence

from experiments.commands import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    parser.add_argument("file", metavar="FILE", help="Config file, perhaps with a variant: configs/car_unet.py:debug.")
    parser.epilog = common.OVERRIDES


def run(args: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Prints a line a field: its dotted name, its value and its origin."""
    from experiments.runs.config import describe

    found = [(field, repr(value), origin) for field, value, origin in describe(args.file, overrides)]
    widths = [min(48, max(len(row[column]) for row in found)) for column in (0, 1)]
    for field, value, origin in found:
        print(f"{field:{widths[0]}}  {value:{widths[1]}}  {origin}")
