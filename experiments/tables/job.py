"""Runs the members of a table that share a training: `python -m experiments.tables.job JOB.json`."""

import argparse
import json
import pathlib
import sys

import ml_collections

from experiments.runs import runtime
from experiments.runs import workdir as workdirs
from experiments.runs.loading import load
from experiments.tables import members as plan
from experiments.training.loop import train
from world_models.core.errors import UserError


def run_job(path: pathlib.Path) -> None:
    """Trains where that is not finished, then measures what has not been measured.

    Args:
      path: a job: {"run": folder, "command": …, "code": …, "results": [{"path": …, "config": …}, …]}, the first
        config's training; "pretraining" may be {"run": folder, "config": …}, a training that comes first.

    Raises:
      UserError: if the code is not that of the job's addresses, the training was interrupted, or anything cannot work.
    """
    job = workdirs.with_tuples(json.loads(path.read_text()))
    folder, configs = pathlib.Path(job["run"]), [result["config"] for result in job["results"]]
    if plan.measuring_code(configs, job["command"]) != job["code"]:
        raise UserError("The code has changed since the table was started: the same command goes on with the new code.")
    runtime.setup(configs[0]["runtime"]["xla_flags"])
    if job.get("pretraining"):
        first = pathlib.Path(job["pretraining"]["run"])
        with workdirs.file_lock(first / "lock"):  # several jobs may be initialised from it
            _train(ml_collections.ConfigDict(job["pretraining"]["config"]), first)
    with workdirs.file_lock(folder / "lock"):  # so may rows of another table
        for result in job["results"]:
            config = ml_collections.ConfigDict(result["config"])
            _train(config, folder)
            if not pathlib.Path(result["path"]).exists():
                run = load(folder, config=config)
                measured = run.experiment.capability(job["command"]).measure(run)
                workdirs.write_json(pathlib.Path(result["path"]), measured)
                print(f"measured {result['path']}", flush=True)


def _train(config: ml_collections.ConfigDict, folder: pathlib.Path) -> None:
    """Trains where that is not finished."""
    last = folder / "checkpoints" / str(config.train.num_steps)
    if not last.is_dir():
        train(config, folder)
    if not last.is_dir():
        raise UserError(f"{folder} was interrupted; the same command goes on from there.")


def main(argv: list[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m experiments.tables.job", description=__doc__)
    parser.add_argument("job", type=pathlib.Path, metavar="JOB.json", help="File that `launch.py table` writes.")
    run_job(parser.parse_args(argv).job)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(str(error))
