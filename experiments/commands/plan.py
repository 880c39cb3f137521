"""The command `plan`: episodes solved by planning in a trained model, counted and shown."""

import pathlib

from experiments.runs.loading import LoadedRun


def plan(run: LoadedRun) -> pathlib.Path:
    """Writes plan/ and returns its results.json. Raises UserError if the family does not offer it."""
    return run.experiment.capability("plan").write(run)
