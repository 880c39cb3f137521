"""Trains and measures the rows of a paper's table -> ours beside the published numbers, as Markdown, CSV and LaTeX."""

import argparse
import pathlib
from collections.abc import Sequence

from experiments.commands import common
from world_models.core.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    add = parser.add_argument
    add("name", nargs="?", metavar="NAME", help="Table: a file of configs/tables/.")
    add("--list", action="store_true", help="List all tables with their scales and rows.")
    add(
        "--workdir",
        type=common.folder,
        default="runs/tables",
        metavar="DIR",
        help="Folder of all tables' data, runs and results; runs/tables by default.",
    )
    add("--scale", default="cpu", help="One of the table's scales; cpu by default.")
    add("--rows", default="", help="Names of rows, comma-separated; all by default.")
    add("--seeds", type=int, default=1, metavar="N", help="How many seeds, from 0; 1 by default.")
    add("--parallel", default="local", help="local, local:N for N trainings at a time, slurm, or none to collect only.")
    add("--slurm", default="", metavar="'…'", help="Options of sbatch, space-separated.")
    add("--data", default="", metavar="DIR", help="Data set to use instead of the one that the table records.")
    add("--force", action="store_true", help="Train and measure again; what was made before is moved aside.")
    add("--dry_run", action="store_true", help="Only say what would be run.")
    add("--publish", action="store_true", help="Also write results/NAME/SCALE.json, for the documentation.")


def run(args: argparse.Namespace, overrides: Sequence[str]) -> pathlib.Path:
    """Makes the table; returns the path of its Markdown."""
    common.no_overrides(overrides, "table")
    from experiments.tables import definition

    if args.list:
        print(definition.list_tables())
        return definition.FOLDER
    if not args.name:
        raise UserError(f"name one table ({', '.join(definition.names())}), or --list them.")
    from experiments.runs import runtime
    from experiments.runs.recording import record
    from experiments.tables.run import table
    from experiments.tools.launchers.runner import make_runner

    runtime.setup()
    return table(
        args.name,
        args.workdir,
        scale=args.scale,
        rows=[row.strip() for row in args.rows.split(",") if row.strip()],
        seeds=args.seeds,
        dataset=args.data,
        force=args.force,
        dry_run=args.dry_run,
        publish=args.publish,
        runner=make_runner(args.parallel, args.slurm.split()),
        record=record,
    )
