"""Runs the members of a table that share a training: `python -m experiments.tables.job JOB.json`."""

import contextlib
import fcntl
import json
import pathlib
import sys
from collections.abc import Iterator

import ml_collections

from experiments import runtime
from experiments import workdir as workdirs
from experiments.loading import load
from experiments.measure import MEASURES
from experiments.train import train
from world_models.errors import UserError


def run(path: pathlib.Path) -> None:
    """Trains where that is not finished, then measures what has not been measured.

    Args:
      path: a job: {"run": folder, "verb": …, "results": [{"path": …, "config": …}, …]}, the first config's training;
        "begin" may be {"run": folder, "config": …}, a training that comes first.

    Raises:
      UserError: if another process has the run, it was interrupted, or anything in it cannot work.
    """
    job = json.loads(path.read_text())
    folder = pathlib.Path(job["run"])
    runtime.setup(job["results"][0]["config"].get("xla_flags", ""))
    if job.get("begin"):
        begin = pathlib.Path(job["begin"]["run"])
        with _alone(begin, wait=True):  # several jobs may begin with it
            _train(ml_collections.ConfigDict(job["begin"]["config"]), begin)
    with _alone(folder):
        for result in job["results"]:
            config = ml_collections.ConfigDict(result["config"])
            _train(config, folder)
            if not pathlib.Path(result["path"]).exists():
                measured = MEASURES[job["verb"]](load(folder, config=config))
                workdirs.write_json(pathlib.Path(result["path"]), measured)
                print(f"measured {result['path']}", flush=True)


def _train(config: ml_collections.ConfigDict, folder: pathlib.Path) -> None:
    """Trains where that is not finished."""
    last = folder / "checkpoints" / str(config.train.num_steps)
    if not last.is_dir():
        train(config, folder)
    if not last.is_dir():
        raise UserError(f"{folder} was interrupted; the same command goes on from there.")


@contextlib.contextmanager
def _alone(folder: pathlib.Path, wait: bool = False) -> Iterator[None]:
    """Keeps a second process out of a run, or has it wait."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            raise UserError(f"{folder} is being worked on by another process: wait for it, or stop it.") from None
        yield


if __name__ == "__main__":
    try:
        run(pathlib.Path(sys.argv[1]))
    except UserError as error:
        sys.exit(str(error))
