"""The command `eval`: a checkpoint's metrics."""

import pathlib

from experiments.evaluation.measure import evaluation
from experiments.runs import workdir as workdirs
from experiments.runs.loading import LoadedRun


def evaluate(run: LoadedRun) -> pathlib.Path:
    """Runs all evaluators of a run, prints what they say and writes it to eval/<step>.json."""
    found = evaluation(run)
    for name, value in found.items():
        if name.startswith("eval/"):
            print(f"{name:56} {'-' if value is None else format(value, '.6g')}")
    path = run.workdir / "eval" / f"{run.step}.json"
    workdirs.write_json(path, found)
    return path
