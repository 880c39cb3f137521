"""The verb `eval`: a checkpoint's metrics."""

import pathlib

from experiments import workdir as workdirs
from experiments.loading import LoadedRun
from experiments.measure import evaluation


def evaluate(run: LoadedRun) -> pathlib.Path:
    """Runs all evaluators of a run, prints what they say and writes it to eval/<step>.json."""
    found = evaluation(run)
    for name, value in found.items():
        if name.startswith("eval/"):
            print(f"{name:56} {'-' if value is None else format(value, '.6g')}")
    path = run.workdir / "eval" / f"{run.step}.json"
    workdirs.write_json(path, found)
    return path
