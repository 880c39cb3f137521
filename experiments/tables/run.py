"""The command `table`: trains and measures every row of a paper's table, and puts ours beside the published one."""

import os
import pathlib
import sys
from collections.abc import Sequence

from experiments.commands.record import record
from experiments.runs import workdir as workdirs
from experiments.runs.fingerprint import modules_named, of_code, of_value
from experiments.runs.progress import Progress, read_metrics
from experiments.tables import collect, definition, render
from experiments.tables import members as plan
from experiments.tables.definition import Table
from experiments.tools.launchers import ROOT, Job, local, slurm, without
from world_models.core.errors import UserError
from world_models.data.sources import MODULES

RESULTS = ROOT / "results"


def list_tables(folder: pathlib.Path = definition.FOLDER) -> str:
    """All tables with their papers, scales and rows, for reading."""
    lines = []
    for name in definition.names(folder):
        table = definition.load(name, folder)
        lines += [f"{name}", f"    {table.title} ({table.paper}, {table.number})"]
        for scale, what in table.scales.items():
            lines.append(f"    --scale={scale:8}{what.about}{'' if what.config else ' (cannot be run from here)'}")
        lines.append(f"    --rows='{','.join(table.rows)}'")
    return "\n".join(lines)


def table(
    name: str,
    workdir: pathlib.Path,
    *,
    scale: str = "cpu",
    rows: Sequence[str] = (),
    seeds: int = 1,
    parallel: str = "local",
    slurm_options: Sequence[str] = (),
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
      scale: one that the table has.
      rows: which rows; all of them if empty.
      seeds: how many, from 0.
      parallel: "local", "local:N" for N at a time, "slurm" to submit and collect later, "none" only to collect.
      slurm_options: for sbatch.
      dataset: instead of the data set that the table's config records.
      force: make the members again; what they had made is moved aside.
      dry_run: say what would be run, and run nothing.
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
    limit = _check(found, scale, seeds, parallel)
    workdir = workdir.absolute()  # jobs run from the root of the repository
    if os.path.isdir(dataset):
        dataset = os.path.abspath(dataset)
    only_look = dry_run or parallel == "none"
    data = dict.fromkeys(found.rows, dataset) if dataset else _data(found, scale, workdir, only_look)
    whole = plan.make(found, scale, workdir, data, range(seeds))
    chosen = [m for m in whole.members if not rows or m.row in rows]
    if force and not dry_run:
        plan.set_aside(chosen, whole.members)
    out = workdir / name / scale
    jobs = _jobs(found, scale, chosen, workdir)
    failures: dict[str, str] = {}
    if dry_run:
        _describe(chosen, jobs, out, parallel, slurm_options)
    elif jobs and parallel == "slurm":
        _submit(jobs, out, slurm_options)
    elif jobs and parallel != "none":
        failures = _run(jobs, limit)
    result = collect.collect(found, scale, whole, failures)
    path = render.write(out, result)
    print(path.read_text())
    if failures:
        sentences = "; ".join(f"{name}: {reason}" for name, reason in failures.items())
        raise UserError(f"{len(failures)} of {len(chosen)} members failed ({sentences}); {path} has the others.")
    if publish and not dry_run:
        _publish(result)
    return path


def _check(table: Table, scale: str, seeds: int, parallel: str) -> int:
    """How many jobs to run at a time."""
    if not table.scales[scale].config:
        raise UserError(f"--scale={scale} of {table.name} cannot be run from here: {table.scales[scale].about}.")
    if seeds < 1:
        raise UserError(f"--seeds={seeds} must be at least 1.")
    kind, _, count = parallel.partition(":")
    if kind not in ("local", "slurm", "none") or (count and (kind != "local" or not count.isdigit() or count == "0")):
        raise UserError(f"--parallel={parallel} must be local, local:N, slurm or none.")
    return int(count or 1)


def _data(table: Table, scale: str, workdir: pathlib.Path, only_look: bool) -> dict[str, str]:
    """The data set of every row, recorded now if it is not there; rows that record the same share one."""
    found = {}
    for row in table.rows:
        config = definition.resolve(table, scale, row, 0)
        if config.data.dataset:
            found[row] = config.data.dataset
            continue
        options = {k: v for k, v in config.record.to_dict().items() if k != "num_workers"}
        code = of_code([MODULES.get(config.record.source, "experiments.commands.record"), *modules_named(options)])
        path = workdir / "data" / of_value({**options, "code": code})
        found[row] = str(path)
        if path.exists():
            continue
        if only_look:
            raise UserError(f"{workdir} has no data set for {table.name} at scale {scale} yet: run the table first.")
        with workdirs.file_lock(path.with_name(f"{path.name}.lock")):  # another table may record it at the same time
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
        begin = group[0].begin and {"run": str(group[0].begin.run.absolute()), "config": group[0].begin.config}
        code = plan.measuring_code([m.config for m in group], table.command)
        job = {"run": str(run.absolute()), "begin": begin, "command": table.command, "code": code, "results": results}
        workdirs.write_json(path, job)
        command = (sys.executable, "-m", "experiments.tables.job", str(path.absolute()))
        jobs[Job(run.name, command, run / "log.txt")] = group
    return jobs


def _run(jobs: dict[Job, list[plan.Member]], limit: int) -> dict[str, str]:
    """Runs jobs on this machine and shows how far they are; returns why members failed."""
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
            measuring = measuring or Progress(len(results), measured())
            measuring.show(min(measured(), measuring.total - 1), f"measuring | jobs: {text}")

    try:
        statuses = local.run(list(jobs), limit, tick)
    finally:
        (measuring or training).close()
    missing = lambda job, member: statuses[job.name] or not member.result.exists()
    return {m.name: _last_line(job.log) for job, group in jobs.items() for m in group if missing(job, m)}


def _last_line(path: pathlib.Path) -> str:
    """What a job said last."""
    lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    return f"{lines[-1] if lines else 'it said nothing'} (log: {path})"


def _submit(jobs: dict[Job, list[plan.Member]], out: pathlib.Path, options: Sequence[str]) -> None:
    active = slurm.active(out)
    waiting = [job for job in jobs if job.name not in active]
    if waiting:
        number = slurm.submit(waiting, out, options)
        print(f"submitted {len(waiting)} trainings as SLURM job {number}; the same command collects.", file=sys.stderr)
    if active:
        print(f"{len(active)} trainings are still queued or running.", file=sys.stderr)


def _describe(
    members: Sequence[plan.Member],
    jobs: dict[Job, list[plan.Member]],
    out: pathlib.Path,
    parallel: str,
    options: Sequence[str],
) -> None:
    for member in members:
        print(f"{'measured' if member.result.exists() else 'to do':9}{member.name:32}{member.run}")
    if parallel == "slurm" and jobs:
        slurm.submit(list(jobs), out, options, dry_run=True)


def _publish(result: dict) -> None:
    """Keeps a result in the repository, without the paths of this machine."""
    if result["not_run"]:
        raise UserError(f"--publish: {', '.join(result['not_run'])} have not been run; a result is kept whole.")
    origin = {**result["provenance"], "data": [pathlib.Path(path).name for path in result["provenance"]["data"]]}
    origin["command"] = " ".join(without(origin["command"].split(), ("data", "workdir")))
    path = RESULTS / result["table"] / f"{result['scale']}.json"
    workdirs.write_json(path, {**result, "provenance": origin})
    print(f"kept {path}; `make results` brings it into the README.", file=sys.stderr)
