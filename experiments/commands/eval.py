"""The command `eval`: a checkpoint's metrics."""

import pathlib

from experiments.runs.loading import LoadedRun


def evaluate(run: LoadedRun) -> pathlib.Path:
    """Runs all evaluators of a run, prints their metrics and writes them to eval/<step>.json."""
    return run.experiment.capability("eval").write(run)
