"""Sweeps: trains one config under many settings, its members, and ranks them by a metric."""

import csv
import json
import math
import os
import pathlib
import re
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from experiments.runs import workdir as workdirs
from experiments.runs.files import read_json, replaced, write_json, write_text
from experiments.runs.jobs import last_log_line
from experiments.runs.metrics import read_metrics
from experiments.runs.progress import Progress
from experiments.tools.launchers import local, slurm
from experiments.tools.sweep_settings import Member, Plan, at, make_members, read_plan
from world_models.core.errors import UserError

MEASURING = ("eval.",)  # fields that what metrics.jsonl holds depends on, but the weights do not
TAIL = 1 << 16  # bytes from the end of metrics.jsonl that hold its last line


def sweep(
    config_file: str,
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    overrides: Sequence[str],
    parallel: str,
) -> pathlib.Path:
    """Trains members that are not finished and writes sweep.md, .json and .csv.

    The config file's `get_sweep()` returns {"vary": {field: [values]} (all combinations) or [{field: value}, ...],
    "metric": name in metrics.jsonl, "better": "lower" or "higher", "slurm": options of sbatch}, all but "vary"
    optional. Members lie in <workdir>/members and share the data set of the sweep.

    Args:
      config_file: as given to --config, perhaps with ":variant".
      config: what it returned, with the user's overrides.
      workdir: folder of the sweep.
      overrides: the user's own --config.x=y words, for the members.
      parallel: "local" or "local:N", which returns when the members have ended, N at a time; or "slurm", which submits
        those that are missing, returns, and collects what has ended when called again.

    Returns:
      The path of sweep.md.

    Raises:
      UserError: if the sweep cannot work, or no member of a local one finished.
    """
    limit = _limit(parallel)
    plan = read_plan(config_file, config)
    workdir = workdir.absolute()
    members = make_members(plan, config_file, config, workdir, overrides)
    _collect(members, plan, {})
    for member in members:
        if (member.folder / "config.json").exists():
            _check_measured(member)
            workdirs.claim(member.folder, member.config)
    unfinished = [member for member in members if member.status != "done"]
    if limit is None:
        _submit(unfinished, workdir, plan.slurm)
    elif unfinished:
        _collect(members, plan, _run(members, unfinished, limit))
    path = _write(plan, members, config_file, workdir)
    failed = [member for member in members if member.status == "failed"]
    if len(failed) == len(members):
        raise UserError(f"All {len(members)} members failed, {failed[0].name} with: {failed[0].error}")
    for member in failed:
        print(f"{member.name} failed: {member.error}", file=sys.stderr)
    return path


def _limit(parallel: str) -> int | None:
    """How many members to run at a time here; None for SLURM."""
    match = re.fullmatch(r"local(?::([1-9]\d*))?|slurm", parallel)
    if not match:
        raise UserError(f"--parallel={parallel} is not known: choose local, local:N for N at a time, or slurm.")
    return None if parallel == "slurm" else int(match[1] or 1)


def _check_measured(member: Member) -> None:
    """Raises UserError if a finished member was evaluated with another config, which may change on resume."""
    old = read_json(member.folder / "config.json", "restore it or choose another --workdir")
    new = json.loads(json.dumps(member.config.to_dict()))
    for field, before, now in workdirs.differences(old, new):
        if member.status == "done" and field.startswith(MEASURING):
            raise UserError(
                f"{member.folder} was measured with config.{field}={before!r}, not {now!r}: "
                "choose another --workdir or undo that."
            )


def _collect(members: Sequence[Member], plan: Plan, statuses: Mapping[str, int]) -> None:
    """Updates the members from their folders; one with an exit status has just been run: it has finished or failed."""
    seen: set[str] = set()
    for member in members:
        newest = _newest_checkpoint(member.folder)
        lines = read_metrics(member.folder) if newest == member.steps else []
        values = [line[plan.metric] for line in lines if plan.metric in line]
        seen |= {name for line in lines for name in line}
        if values:
            member.status, member.value, member.error = "done", values[-1], ""
        elif member.name in statuses:
            member.status, member.error = "failed", _reason(member, statuses[member.name], newest)
    if seen and not any(member.status == "done" for member in members):
        there = ", ".join(sorted(seen - {"step"}))
        raise UserError(f"No member's metrics.jsonl has {plan.metric!r}, the metric of get_sweep(); it has {there}.")


def _newest_checkpoint(folder: pathlib.Path) -> int:
    """Step of the newest complete checkpoint; 0 where there is none."""
    return max((int(path.name) for path in (folder / "checkpoints").glob("*") if path.name.isdigit()), default=0)


def _reason(member: Member, status: int, newest: int) -> str:
    """The reason why a member failed, one line."""
    if status < 0:
        return f"It was killed by {signal.Signals(-status).name}."
    if status:
        return last_log_line(member.job.log)
    what = (
        "without the metric in its metrics.jsonl" if newest == member.steps else f"at step {newest} of {member.steps}"
    )
    return f"It ended {what}."


def _run(members: Sequence[Member], unfinished: Sequence[Member], limit: int) -> dict[str, int]:
    """Trains members here, with one line of progress over all of them; returns their exit statuses."""
    progress = Progress(sum(member.steps for member in members), _steps_done(members))

    def tick(states: dict[str, str]) -> None:
        done = sum(_newest_checkpoint(member.folder) == member.steps for member in members)
        left = [state for state in states.values() if state in ("waiting", "running")]
        text = f"{done} of {len(members)} members done, {left.count('running')} running"
        if failed := len(members) - done - len(left):
            text += f", {failed} failed"
        progress.show(_steps_done(members), text)

    try:
        return local.run([member.job for member in unfinished], limit, tick)
    finally:
        progress.close()


def _steps_done(members: Sequence[Member]) -> int:
    return sum(min(_last_step(member.folder / "metrics.jsonl"), member.steps) for member in members)


def _last_step(path: pathlib.Path) -> int:
    """The step of the last whole line of a metrics.jsonl, which may be long and is looked at every second."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.path.getsize(path) - TAIL))
            lines = file.read().split(b"\n")
        return json.loads(lines[-2])["step"]
    except (OSError, IndexError, ValueError):
        return 0


def _submit(unfinished: Sequence[Member], workdir: pathlib.Path, options: Sequence[str]) -> None:
    """Submits members to SLURM that are neither finished nor queued there."""
    queued = slurm.active(workdir)
    jobs = []
    for member in unfinished:
        member.error = "It is queued or running."
        if member.name not in queued:
            jobs.append(member.job)
            member.error = (
                f"Submitted again; last time: {last_log_line(member.job.log)}"
                if member.job.log.exists()
                else "Submitted."
            )
    text = f"{len(queued)} members are queued or running already" if queued else ""
    if jobs:
        text = f"SLURM job {slurm.submit(jobs, workdir, options)}: {len(jobs)} members{'; ' + text if text else ''}"
    if text:
        print(f"{text}. The same command collects what has finished.", file=sys.stderr)


def _write(plan: Plan, members: Sequence[Member], config_file: str, workdir: pathlib.Path) -> pathlib.Path:
    """Writes sweep.json, .csv and .md, best member first; returns the path of sweep.md."""
    sign = 1 if plan.better == "lower" else -1
    members = sorted(members, key=lambda member: math.inf if member.value is None else sign * member.value)
    columns = {field: [at(member.config, field) for member in members] for field in plan.fields}
    best = members[0] if members[0].value is not None else None
    found = {
        "config": config_file,
        "metric": plan.metric,
        "better": plan.better,
        "fields": plan.fields,
        "members": [
            {
                "name": member.name,
                "workdir": str(member.folder.relative_to(workdir)),
                "overrides": member.overrides,
                "status": member.status,
                "value": member.value,
                "error": member.error,
            }
            for member in members
        ],
        "best": best.name if best else None,
        "provenance": workdirs.provenance(),
    }
    write_json(workdir / "sweep.json", found)
    with replaced(workdir / "sweep.csv") as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["member", "status", plan.metric, *plan.fields, "error"])
        for member, *values in zip(members, *columns.values()):
            writer.writerow([member.name, member.status, member.value, *values, member.error])
    path = workdir / "sweep.md"
    write_text(path, _page(plan, members, columns, found))
    return path


def _page(plan: Plan, members: Sequence[Member], columns: dict[str, list[Any]], found: dict[str, Any]) -> str:
    """The text of sweep.md."""
    lines = [f"# Sweep of {found['config']}", ""]
    if found["best"]:
        lines += [f"Best of {len(members)}: {plan.metric} = {members[0].value:.4g} ({plan.better} is better) with", ""]
        lines += ["    python launch.py " + shlex.join(members[0].words), ""]
    else:
        lines += ["No member has finished.", ""]
    heads = [plan.metric, *plan.fields, "run"]
    lines += [_row(heads), _row(["---:", *["---"] * (len(heads) - 1)])]
    for member, *values in zip(members, *columns.values()):
        value = member.status if member.status != "done" else "not finite" if member.value is None else member.value
        lines.append(_row([value, *values, f"[{member.name}](members/{member.name})"]))
    unfinished = [member for member in members if member.status != "done"]
    if unfinished:
        lines += ["", "Not finished:", "", *(f"- {member.name}: {member.error}" for member in unfinished)]
    origin = found["provenance"]
    lines += ["", f"Revision {origin['revision'][:10]}, {origin['device']}, {origin['date'][:10]}; more in sweep.json."]
    return "\n".join([*lines, ""])


def _row(cells: Sequence[Any]) -> str:
    texts = (f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells)
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"
