"""The runner of a command line's --parallel: on this machine or a SLURM cluster."""

import pathlib
import sys
from collections.abc import Sequence

from experiments.runs.jobs import Job, Runner, Tick
from experiments.tools.launchers import local, slurm
from world_models.core.errors import UserError


def make_runner(parallel: str, slurm_options: Sequence[str] = ()) -> Runner | None:
    """What runs jobs.

    Args:
      parallel: "local", "local:N" for N jobs at a time, "slurm" to submit and collect later, "none" for no runner.
      slurm_options: for sbatch.

    Raises:
      UserError: if `parallel` is none of these.
    """
    kind, _, count = parallel.partition(":")
    if kind not in ("local", "slurm", "none") or (count and (kind != "local" or not count.isdigit() or count == "0")):
        raise UserError(f"--parallel={parallel} must be local, local:N, slurm or none.")
    if kind == "none":
        return None
    if kind == "local":
        return Runner(lambda jobs, folder, tick: local.run(jobs, int(count or 1), tick))

    def submit(jobs: Sequence[Job], folder: pathlib.Path, tick: Tick) -> None:
        active = slurm.active(folder)
        waiting = [job for job in jobs if job.name not in active]
        if waiting:
            number = slurm.submit(waiting, folder, slurm_options)
            print(f"submitted {len(waiting)} jobs as SLURM job {number}; the same command collects.", file=sys.stderr)
        if active:
            print(f"{len(active)} jobs are still queued or running.", file=sys.stderr)

    return Runner(submit, lambda jobs, folder: slurm.submit(jobs, folder, slurm_options, dry_run=True))
