"""Runs one training on many nodes of a SLURM cluster, as one job with a task on each node."""

import os
import pathlib
import shlex
import sys

from experiments.runs.files import ROOT
from experiments.tools.launchers import Training
from experiments.tools.launchers.slurm import active, directives, submit_script
from world_models.core.errors import UserError

# Statuses 0 and 143 without the last checkpoint: stopped by SIGTERM. 1 and 2: invalid input. Any other failure is
# retried if this attempt wrote a checkpoint.
_AFTER = """\
status=$?
[ -d {last} ] && exit $status
now=$(newest)
if [ $status -eq 0 ] || [ $status -eq 143 ] || {{ [ $status -gt 2 ] && [ "$now" != "$before" ]; }}; then
    echo "Not finished (exit status $status, newest checkpoint: $now): back into the queue."
    exec scontrol requeue "$SLURM_JOB_ID"
fi
echo "Not finished, and not restarted (exit status $status, newest checkpoint: $now)."
exit $status
"""


def launch(training: Training, *, dry_run: bool) -> str:
    """Submits a job, or only prints its script.

    Preemption and the time limit send SIGTERM to the training processes in time to save; then, and when a node fails,
    the job goes back into the queue until the last checkpoint is there. The script, the output of
    SLURM and all processes (`slurm.out`, each line after the number of its task), and `slurm.json` are in the workdir.

    Args:
      training: its options are those of sbatch, such as "--partition=gpu", "--gpus-per-node=8", "--time=24:00:00",
        "--exclusive"; "--ntasks-per-node=8" for a process a GPU instead of one a node.
      dry_run: print only.

    Returns:
      What was submitted, in words.

    Raises:
      UserError: if there is no sbatch, it fails, or a job of this workdir is queued or running.
    """
    folder = pathlib.Path(training.workdir)
    text = _script(training, folder)
    if not dry_run and active(folder):
        raise UserError(f"A SLURM job of {folder} is queued or running (see {folder}/slurm.json): wait, or scancel it.")
    return f"SLURM job {submit_script(text, folder, [folder.name], dry_run=dry_run)}, log: {folder}/slurm.out"


def _script(training: Training, folder: pathlib.Path) -> str:
    """The text of the batch script."""
    own = (f"--nodes={training.nodes or 1}", "--ntasks-per-node=1", "--signal=TERM@120")
    command = [sys.executable, str(ROOT / "launch.py"), *training.words, f"--workdir={folder}"]
    checkpoints = shlex.quote(str(folder / "checkpoints"))
    lines = directives(folder, training.options, *own)
    lines += [
        f"cd {shlex.quote(os.getcwd())} || exit 1",
        f"newest() {{ ls {checkpoints} 2>/dev/null | grep -x '[0-9][0-9]*' | sort -n | tail -n 1; }}",
        "before=$(newest)",
        "# Steps do not take --cpus-per-task from the job by themselves.",
        'if [ -n "$SLURM_CPUS_PER_TASK" ]; then export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK; fi',
        "# SLURM sends its SIGTERM to the tasks, not to this shell: they save the same step and exit with 0.",
        f"srun --kill-on-bad-exit=1 --label {shlex.join(command)}",
    ]
    return "\n".join(lines) + "\n" + _AFTER.format(last=shlex.quote(training.last_checkpoint))
