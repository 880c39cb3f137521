"""Makes a table: trains and measures every row of a paper's table, and puts ours beside the published numbers."""

import os
import pathlib
import shlex
import sys
from collections.abc import Callable, Collection, Sequence
from typing import Any

from experiments.runs.files import read_json, write_json
from experiments.runs.fingerprint import modules_named, of_code, of_value
from experiments.runs.jobs import Job, Runner, last_log_line
from experiments.runs.lock import file_lock
from experiments.runs.metrics import read_metrics
from experiments.runs.progress import Progress
from experiments.tables import collect, definition, render
from experiments.tables import members as plan
from experiments.tables.schema import Table
from experiments.tables.summary import summarize
from world_models.core.errors import UserError
from world_models.data.sources import MODULES

RESULTS = definition.ROOT / "results"


def table(
    name: str,
    workdir: pathlib.Path,
    *,
    runner: Runner | None,
    record: Callable[[Any, pathlib.Path], Any],
    scale: str = "cpu",
    rows: Sequence[str] = (),
    seeds: int = 1,
    dataset: str = "",
    force: bool = False,
    dry_run: bool = False,
    publish: bool = False,
    folder: pathlib.Path = definition.FOLDER,
) -> pathlib.Path:
    """Makes a table; what has been measured by the same config, code and data before is used again.

    Args:
      name: of a file in configs/tables/.
      workdir: folder of all tables' data, runs and results.
      runner: what runs the trainings that are still to do; None only to collect.
      record: records the data set of a config into a folder.
      scale: one that the table has.
      rows: which rows; all of them if empty.
      seeds: how many, from 0.
      dataset: instead of the data set that the table's config records.
      force: make the members again; what they had made is renamed.
      dry_run: print what would be run, and run nothing.
      publish: also write results/<name>/<scale>.json into the repository.
      folder: where the tables' files lie.

    Returns:
      Path of the Markdown; JSON, CSV, LaTeX and a plot are beside it.

    Raises:
      UserError: if anything asked for does not exist or cannot run, or members failed (the table is written then).
    """
    found = definition.load(name, folder)
    definition.check_known("scale", scale, found.scales)
    for row in rows:
        definition.check_known("row", row, found.rows)
    _check(found, scale, seeds)
    workdir = workdir.absolute()  # jobs run from the root of the repository
    if os.path.isdir(dataset):
        dataset = os.path.abspath(dataset)
    only_look = dry_run or runner is None
    data = (
        dict.fromkeys(found.rows, dataset) if dataset else _data(found, scale, workdir, None if only_look else record)
    )
    whole = plan.make(found, scale, workdir, data, range(seeds))
    chosen = [m for m in whole.members if not rows or m.row in rows]
    if force and not dry_run:
        plan.set_aside(chosen, whole.members)
    out = workdir / name / scale
    jobs = _jobs(found, scale, chosen, workdir)
    failures: dict[str, str] = {}
    if dry_run:
        for member in chosen:
            print(f"{'measured' if member.result.exists() else 'to do':9}{member.name:32}{member.run}")
        if runner and jobs:
            runner.describe(list(jobs), out)
    elif jobs and runner:
        failures = _run(jobs, runner, out)
    result = collect.collect(found, scale, whole, failures)
    path = render.write(out, summarize(found, result))
    print(path.read_text())
    if failures:
        sentences = "; ".join(f"{name}: {reason}" for name, reason in failures.items())
        raise UserError(f"{len(failures)} of {len(chosen)} members failed ({sentences}); {path} has the others.")
    if publish and not dry_run:
        _publish(result, rows or found.rows)
    return path


def _check(table: Table, scale: str, seeds: int) -> None:
    if not table.scales[scale].config:
        raise UserError(f"--scale={scale} of {table.name} cannot be run from here: {table.scales[scale].about}.")
    if seeds < 1:
        raise UserError(f"--seeds={seeds} must be at least 1.")


def _data(
    table: Table, scale: str, workdir: pathlib.Path, record: Callable[[Any, pathlib.Path], Any] | None
) -> dict[str, str]:
    """The data set of every row, recorded if it is not there and may be; rows that record the same share one."""
    found = {}
    for row in table.rows:
        config = definition.resolve(table, scale, row, 0)
        if config.data.dataset:
            found[row] = config.data.dataset
            continue
        options = {k: v for k, v in config.record.to_dict().items() if k != "num_workers"}
        code = of_code([MODULES.get(config.record.source, "experiments.runs.recording"), *modules_named(options)])
        path = workdir / "data" / of_value({**options, "code": code})
        found[row] = str(path)
        if path.exists():
            continue
        if record is None:
            raise UserError(f"{workdir} has no data set for {table.name} at scale {scale} yet: run the table first.")
        with file_lock(path.with_name(f"{path.name}.lock")):  # another table may record it at the same time
            if not path.exists():
                print(f"recording a data set of {table.name} to {path}", file=sys.stderr, flush=True)
                record(config, path)
    return found


def _jobs(
    table: Table, scale: str, members: Sequence[plan.Member], workdir: pathlib.Path
) -> dict[Job, list[plan.Member]]:
    """A job for every training that members still need, or whose outcome has not been measured."""
    groups: dict[pathlib.Path, list[plan.Member]] = {}
    for member in members:
        if not member.result.exists():
            groups.setdefault(member.run, []).append(member)
    jobs = {}
    for run, group in groups.items():
        path = workdir / "jobs" / f"{table.name}-{scale}-{run.name}.json"  # other tables may have the same training
        results = [{"path": str(m.result.absolute()), "config": m.config} for m in group]
        first = group[0].pretraining
        code = plan.measuring_code([m.config for m in group], table.command)
        job = {
            "run": str(run.absolute()),
            "pretraining": first and {"run": str(first.run.absolute()), "config": first.config},
            "command": table.command,
            "code": code,
            "results": results,
        }
        write_json(path, job)
        command = (sys.executable, "-m", "experiments.tables.job", str(path.absolute()))
        jobs[Job(run.name, command, run / "log.txt")] = group
    return jobs


def _run(jobs: dict[Job, list[plan.Member]], runner: Runner, out: pathlib.Path) -> dict[str, str]:
    """Runs jobs and shows their progress; returns why members failed, empty where jobs were only submitted."""
    wanted = {run: steps for group in jobs.values() for run, steps in group[0].trainings.items()}
    results = [member.result for group in jobs.values() for member in group]

    def steps() -> int:
        return sum(max([line["step"] for line in read_metrics(run)], default=0) for run in wanted)

    def measured() -> int:
        return sum(path.exists() for path in results)

    training, measuring = Progress(sum(wanted.values()), steps()), None

    def tick(states: dict[str, str]) -> None:
        nonlocal measuring
        counts = {state: list(states.values()).count(state) for state in ("done", "running", "failed", "waiting")}
        text = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        if measuring is None and steps() < training.total:
            training.show(steps(), f"jobs: {text} | measured: {measured()} of {len(results)}")
        else:
            measuring = measuring or Progress(len(results), measured(), unit="result")
            measuring.show(min(measured(), measuring.total - 1), f"measuring | jobs: {text}")

    try:
        statuses = runner.run(list(jobs), out, tick)
    finally:
        (measuring or training).close()
    if statuses is None:
        return {}
    missing = lambda job, member: statuses[job.name] or not member.result.exists()
    return {m.name: last_log_line(job.log) for job, group in jobs.items() for m in group if missing(job, m)}


def _publish(result: dict[str, Any], asked: Collection[str]) -> None:
    """Keeps a result in the repository, without the paths of this machine.

    Rows that were not run here, or not all seeds of a row that was not asked for, stay as they are there, if their
    config, code and data are the same: a table may be made in parts, or on several machines.
    """
    path = RESULTS / result["table"] / f"{result['scale']}.json"
    kept = {row["name"]: row for row in read_json(path, "restore it from git")["rows"]} if path.exists() else {}
    whole = {row["name"] for row in result["rows"] if len(collect.done(row)) == len(row["members"])}
    partly = [row["name"] for row in result["rows"] if collect.done(row) and row["name"] in set(asked) - whole]
    if partly or not whole:
        what = f"some seeds of {', '.join(partly)}" if partly else "all rows"
        raise UserError(f"--publish: {what} have not been run; all seeds of a row must have been.")
    addresses = lambda row: [(member["run"], member.get("address")) for member in row["members"]]
    rows, fewer, lost = [], [], []
    for row in result["rows"]:
        name, before = row["name"], kept.get(row["name"])
        before = before if before and collect.done(before) else None
        if name in whole:
            fewer += [name] if before and len(collect.done(row)) < len(collect.done(before)) else []
        elif before:
            lost += [name] if addresses(row) != addresses(before) else []
            row = before
        else:
            row = collect.unmeasured(row)
        rows.append(row)
    if fewer:
        raise UserError(f"--publish: {path} has more seeds of {', '.join(fewer)}: run as many, by --seeds.")
    if lost:
        raise UserError(
            f"--publish: {', '.join(lost)} have not been run; {path} has them, but not by the same code, config, data "
            "and seeds, or from before their addresses were kept: run them too."
        )
    origin = {**result["provenance"], "data": [pathlib.Path(path).name for path in result["provenance"]["data"]]}
    origin["command"] = _command_anywhere(sys.argv)
    origin["measured_by"] = collect.measured_by(rows)
    write_json(path, {**result, "rows": rows, "not_run": collect.not_run(rows), "provenance": origin})
    print(f"kept {path}; `make results` writes its page.", file=sys.stderr)


def _command_anywhere(argv: Sequence[str]) -> str:
    """The command that makes the whole table anywhere: without its rows, and without what is of this machine."""
    kept, words = [], iter(argv[1:])
    for word in words:
        name, assigned, _ = word.partition("=")
        if name not in ("--data", "--parallel", "--rows", "--slurm", "--workdir"):
            kept.append(word)
        elif not assigned:
            next(words)
    return f"{argv[0]} {shlex.join(kept)}"
