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
    from experiments.evaluation.measure import evaluation
    from experiments.runs.files import write_json

    found = evaluation(opened)
    for name, value in found.items():
        if name.startswith("eval/"):
            print(f"{name:56} {'-' if value is None else format(value, '.6g')}")
    path = opened.workdir / "eval" / f"{opened.step}.json"
    write_json(path, found)
    return path
