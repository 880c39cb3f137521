"""Runs the members of a table that share a training: `python -m experiments.tables.job JOB.json`."""

import argparse
import pathlib
import sys

import ml_collections

from experiments.runs import lock, runtime, trust
from experiments.runs import workdir as workdirs
from experiments.runs.files import read_json, write_json
from experiments.runs.loading import load
from experiments.tables import members as plan
from experiments.training.loop import train
from world_models.checkpointing import checksums
from world_models.core.errors import UserError


def run_job(path: pathlib.Path) -> None:
    """Trains where that is not finished, then measures what has not been measured.

    Args:
      path: a job: {"run": folder, "command": …, "code": …, "results": [{"path": …, "config": …}, …]}, the first
        config's training; "pretraining" may be {"run": folder, "config": …}, a training that comes first.

    Raises:
      UserError: if the code is not that of the job's addresses, the training was interrupted, or anything cannot work.
    """
    job = workdirs.with_tuples(read_json(path, "start the table again", ("run", "command", "code", "results")))
    folder, configs = pathlib.Path(job["run"]), [result["config"] for result in job["results"]]
    if plan.measuring_code(configs, job["command"]) != job["code"]:
        raise UserError("The code has changed since the table was started: the same command goes on with the new code.")
    runtime.setup(configs[0]["runtime"]["xla_flags"])
    if job.get("pretraining"):
        first = pathlib.Path(job["pretraining"]["run"])
        with lock.file_lock(first / lock.NAME, doing="training"):  # several jobs may be initialised from it
            _train(ml_collections.ConfigDict(job["pretraining"]["config"]), first)
    with lock.file_lock(folder / lock.NAME, doing="training and measuring"):  # so may rows of another table
        for result in job["results"]:
            config = ml_collections.ConfigDict(result["config"])
            _train(config, folder)
            if not pathlib.Path(result["path"]).exists():
                run = load(folder, config.train.num_steps, config, trusted=trust.modules(config))
                measured = run.experiment.capability(job["command"]).measure(run)
                write_json(pathlib.Path(result["path"]), measured)
                print(f"measured {result['path']}", flush=True)


def _train(config: ml_collections.ConfigDict, folder: pathlib.Path) -> None:
    """Trains where the last checkpoint is not there or not whole.

    Raises:
      UserError: if it is not there afterwards, or nobody can say whether it is whole.
    """
    checkpoints, last = folder / "checkpoints", config.train.num_steps
    if not (checkpoints / str(last)).is_dir() or checksums.newest_whole(checkpoints) != last:
        train(config, folder)
    if not (checkpoints / str(last)).is_dir():
        raise UserError(f"{folder} was interrupted; the same command goes on from there.")
    if not checksums.is_verifiable(checkpoints, last):
        raise UserError(
            f"{checkpoints} has no readable checksums/{last}.json, so that its weights cannot be verified: move "
            f"{folder} away to have it trained again."
        )


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
