"""Runs jobs on a SLURM cluster: one array job, one task a job."""

import pathlib
import shlex
import shutil
import subprocess
from collections.abc import Sequence

from experiments.runs.files import ROOT, read_json, write_json, write_text
from experiments.runs.jobs import Job, check_names, last_line
from experiments.tools.launchers import need
from world_models.core.errors import UserError

NOTES = "slurm.json"
WHERE = "submit from a login node of a SLURM cluster, or run locally"


def submit(jobs: Sequence[Job], folder: pathlib.Path, options: Sequence[str] = (), *, dry_run: bool = False) -> str:
    """Submits jobs as one array job.

    A task that SLURM preempts or that nears its time limit gets SIGTERM in time to save. A preempted task is queued
    by SLURM again; the caller submits those again that ended in another way.

    Args:
      jobs: one task each; the folders of their logs are made.
      folder: where the script, `slurm.json` and SLURM's own output (`slurm.out`) go; all nodes must see it.
      options: of sbatch, such as "--partition=gpu", "--gres=gpu:1", "--time=4:00:00"; they override those set here.
      dry_run: only print the script.

    Returns:
      The job id; "" for a dry run.

    Raises:
      UserError: if there is no `sbatch` or it fails.
    """
    check_names(jobs)
    folder = folder.absolute()
    text = _script(jobs, folder, options)
    if not dry_run:
        need("sbatch", WHERE)
        for job in jobs:
            job.log.parent.mkdir(parents=True, exist_ok=True)
    return submit_script(text, folder, [job.name for job in jobs], dry_run=dry_run)


def submit_script(text: str, folder: pathlib.Path, names: Sequence[str], *, dry_run: bool) -> str:
    """Submits a batch script and notes it in `folder`, or only prints it; see `submit`."""
    if dry_run:
        print(text, end="")
        return ""
    need("sbatch", WHERE)
    notes = _notes(folder)
    path = folder / f"slurm-{len(notes) + 1}.sbatch"
    write_text(path, text)
    answer = subprocess.run(["sbatch", "--parsable", str(path)], cwd=ROOT, capture_output=True, text=True)
    if answer.returncode:
        raise UserError(f"sbatch failed on {path}: {last_line(answer.stderr)}")
    job_id = answer.stdout.strip().splitlines()[-1].partition(";")[0]  # ID;CLUSTER where there are several clusters
    write_json(folder / NOTES, [*notes, {"id": job_id, "script": path.name, "names": list(names)}])
    return job_id


def directives(folder: pathlib.Path, options: Sequence[str], *own: str) -> list[str]:
    """The first lines of a script that appends its output to `folder`/slurm.out and may be requeued.

    Args:
      folder: its last part names the job.
      options: of the user; they override all others.
      own: options of this kind of script.

    Raises:
      UserError: if a word is no option of sbatch.
    """
    bad = [option for option in options if not option.startswith("-") or not option.isprintable()]
    if bad:
        raise UserError(f"{bad[0]!r} is no option of sbatch: write one such as --partition=gpu.")
    if not str(folder).isprintable():  # a newline would end the directive and begin a command
        raise UserError(f"--workdir={str(folder)!r} must have no control characters for SLURM.")
    lines = [
        f"--job-name={shlex.quote(folder.name)}",
        f"--output={shlex.quote(str(folder / 'slurm.out').replace('%', '%%'))}",
        "--open-mode=append",
        "--requeue",
        *own,
        *options,
    ]
    return ["#!/bin/bash", *(f"#SBATCH {line}" for line in lines), ""]


def active(folder: pathlib.Path) -> set[str]:
    """Names of the jobs submitted from `folder` that are still queued or running.

    Raises:
      UserError: if there were submissions and squeue fails.
    """
    names = {f"{note['id']}_{i}": name for note in _notes(folder) for i, name in enumerate(note["names"])}
    names |= {note["id"]: note["names"][0] for note in _notes(folder)}  # of those that are no arrays
    if not names:
        return set()
    if not shutil.which("squeue"):
        raise UserError(
            f"{folder} has SLURM jobs and there is no squeue on PATH: run this on a login node of the cluster."
        )
    ids = ",".join(note["id"] for note in _notes(folder))
    # -r and %i: a line ID_INDEX for every task, also for those still waiting, which are else written ID_[2-5].
    answer = subprocess.run(["squeue", "-h", "-r", "-j", ids, "-o", "%i"], capture_output=True, text=True)
    if answer.returncode and "Invalid job id" not in answer.stderr:  # SLURM forgets jobs some time after their end
        raise UserError(f"squeue failed: {last_line(answer.stderr)}")
    return {names[line.strip()] for line in answer.stdout.splitlines() if line.strip() in names}


def _script(jobs: Sequence[Job], folder: pathlib.Path, options: Sequence[str]) -> str:
    """The text of a batch script."""
    lines = directives(folder, options, f"--array=0-{len(jobs) - 1}", "--signal=B:TERM@120")
    lines += [
        "# exec: the command takes this shell's place, so that SLURM's SIGTERM reaches it, and reaches it once",
        "# (a second one would make it end without saving).",
        f"cd {shlex.quote(str(ROOT))} || exit 1",
        'case "$SLURM_ARRAY_TASK_ID" in',
    ]
    for i, job in enumerate(jobs):
        lines += [
            f"  {i})  # {' '.join(job.name.split())}",
            f"    exec >> {shlex.quote(str(job.log.absolute()))} 2>&1",
            f"    exec {shlex.join(job.command)}",
            "    ;;",
        ]
    return "\n".join([*lines, "esac", ""])


def _notes(folder: pathlib.Path) -> list[dict]:
    path = folder / NOTES
    return read_json(path, "move it away; squeue lists your jobs", None) if path.exists() else []
