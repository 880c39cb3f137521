"""Trains a model on the run's data -> checkpoints and metrics in <workdir>; goes on from the newest checkpoint."""

import argparse
import contextlib
import os
import pathlib
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from experiments.commands import common
from experiments.runs.files import ROOT
from world_models.core.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    common.add_config(parser)
    common.add_workdir(parser)
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--sweep", action="store_true", help="Train all settings of the config file's get_sweep().")
    one.add_argument("--local_processes", type=int, metavar="N", help="Train in N processes on this machine.")
    one.add_argument("--launch", metavar="LAUNCHER", help="Train on many hosts: slurm, tpu_vm or gke.")
    parser.add_argument(
        "--parallel", default="local", help="Of a sweep: local, local:N for N members at a time, or slurm."
    )
    parser.add_argument("--nodes", type=int, metavar="N", help="With --launch: how many hosts.")
    parser.add_argument(
        "--launch_options", default="", metavar="'…'", help="With --launch: options of the launcher, space-separated."
    )
    parser.add_argument("--dry_run", action="store_true", help="With --launch: only print what would be submitted.")
    common.add_processes(parser, one)


def run(args: argparse.Namespace, overrides: Sequence[str]) -> pathlib.Path | None:
    """Trains here or elsewhere; returns the path of the result, or None where another process prints it."""
    for name in ("nodes", "launch_options", "dry_run"):
        if getattr(args, name) and args.launch is None:
            raise UserError(f"--{name} goes with --launch=slurm, tpu_vm or gke.")
    config = common.load_config(args, overrides)
    from experiments.runs import runtime

    runtime.setup(config.runtime.xla_flags)
    if args.sweep:
        from experiments.runs.lock import exclusive
        from experiments.tools.sweep import sweep

        with exclusive(args.workdir, "running a sweep"):
            return sweep(args.config, config, args.workdir, overrides, args.parallel)
    words = ("train", f"--config={args.config}", *overrides)
    if args.local_processes is not None:
        from experiments.tools.launchers import processes

        command = [sys.executable, str(ROOT / "launch.py"), *words, f"--workdir={args.workdir}"]
        processes.run(command, args.local_processes)
        return None
    if args.launch is not None:
        return _launch(args, config, words)
    return _train(args, config)


def _launch(args: argparse.Namespace, config: Any, words: tuple[str, ...]) -> pathlib.Path | None:
    """Submits the training to many hosts."""
    from experiments.tools.launchers import Training, hosts

    options = tuple(shlex.split(args.launch_options))
    workdir = pathlib.PurePosixPath(os.fspath(args.workdir))
    hosts.launch(
        args.launch, Training(words, workdir, config.train.num_steps, args.nodes, options), dry_run=args.dry_run
    )
    return None if args.dry_run else args.workdir


def _train(args: argparse.Namespace, config: Any) -> pathlib.Path:
    """Trains in this process, perhaps one of several."""
    from experiments.runs import multihost, workdir
    from experiments.runs.lock import exclusive

    multihost.start(args.coordinator, args.num_processes, args.process_id)
    from experiments.training.loop import train
    from experiments.training.setup import log_once
    from world_models.checkpointing.checkpoints import Checkpoints

    # The first of several processes writes.
    with exclusive(args.workdir, "training") if multihost.is_main() else contextlib.nullcontext():
        checkpoints = args.workdir / "checkpoints"
        if (checkpoints / str(config.train.num_steps)).is_dir():
            workdir.claim(args.workdir, config, write=False)
            if Checkpoints(checkpoints, read_only=True).latest == config.train.num_steps:
                log_once(f"{args.workdir} is trained to config.train.num_steps={config.train.num_steps} already.")
                return checkpoints
        return train(config, args.workdir)
