"""The verb `eval`: a checkpoint's metrics."""

import pathlib

from experiments import workdir as workdirs
from experiments.loading import LoadedRun
from experiments.progress import finite_or_none


def evaluate(run: LoadedRun) -> pathlib.Path:
    """Runs all evaluators of a run and writes eval/<step>.json: {"eval/<name>/<metric>": value, "provenance": …}."""
    found = {}
    for name, evaluator in run.experiment.evaluators(run.workdir).items():
        for metric, value in evaluator(run.graphdef, run.weights).items():
            found[f"eval/{name}/{metric}"] = float(value)
            print(f"{f'eval/{name}/{metric}':56} {value:.6g}")
    path = run.workdir / "eval" / f"{run.step}.json"
    provenance = workdirs.provenance(step=run.step, seed=run.config.seed)
    workdirs.write_json(path, finite_or_none({"step": run.step, **found}) | {"provenance": provenance})
    return path
