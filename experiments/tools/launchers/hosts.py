"""Starts one training on many hosts, by the launcher that the user names."""

import dataclasses
import os
import pathlib
import sys

from experiments.tools.launchers import Training, gke, slurm_nodes, tpu_vm
from world_models.core.errors import UserError

LAUNCHERS = {"slurm": slurm_nodes.launch, "tpu_vm": tpu_vm.launch, "gke": gke.launch}


def launch(name: str, training: Training, *, dry_run: bool) -> None:
    """Submits a training, or only prints what would be submitted.

    Raises:
      UserError: if there is no such launcher, or the training does not suit it.
    """
    if name not in LAUNCHERS:
        raise UserError(f"--launch={name} must be one of {', '.join(LAUNCHERS)}.")
    if training.nodes is not None and training.nodes < 1:
        raise UserError(f"--nodes={training.nodes} must be at least 1.")
    if name == "slurm":  # whose nodes see this machine's files
        training = dataclasses.replace(training, workdir=pathlib.PurePosixPath(os.path.abspath(training.workdir)))
    if not training.workdir.is_absolute():
        raise UserError(
            f"--workdir={training.workdir} must be an absolute path for --launch={name}, in a file system that all "
            "hosts share (a bucket can be mounted as one)."
        )
    what = LAUNCHERS[name](training, dry_run=dry_run)
    if not dry_run:
        print(f"Submitted: {what}.", file=sys.stderr)
