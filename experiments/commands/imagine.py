"""The command `imagine`: what a trained model imagines or reconstructs of held-out data, measured and shown."""

import pathlib

from experiments.runs.loading import LoadedRun


def imagine(run: LoadedRun) -> pathlib.Path:
    """Writes imagine/ and returns its report. Raises UserError if the family does not offer it."""
    return run.experiment.capability("imagine").write(run)
