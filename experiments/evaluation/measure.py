"""All evaluators of a trained run: the capability `eval` of every family."""

import pathlib
from typing import TYPE_CHECKING, Any

from experiments.runs.files import write_json
from experiments.runs.metrics import finite_or_none
from experiments.runs.values import numbers

if TYPE_CHECKING:
    from experiments.runs.loading import LoadedRun


def measure(run: "LoadedRun") -> dict[str, Any]:
    """The numbers of all evaluators: {"step": …, "eval/<name>/<metric>": value, "provenance": …}."""
    found = {
        f"eval/{name}/{metric}": value
        for name, evaluator in run.experiment.evaluators(run.workdir).items()
        for metric, value in evaluator(run.model).items()
    }
    return finite_or_none(
        {"step": run.step, **numbers(found), "provenance": run.provenance_of(run.config.data.validation_split)}
    )


def write(run: "LoadedRun") -> pathlib.Path:
    """Prints the metrics and writes them to eval/<step>.json."""
    found = measure(run)
    for name, value in found.items():
        if name.startswith("eval/"):
            print(f"{name:56} {'-' if value is None else format(value, '.6g')}")
    path = run.workdir / "eval" / f"{run.step}.json"
    write_json(path, found)
    return path
