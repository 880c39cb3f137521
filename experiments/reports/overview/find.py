"""Finds runs, tables and sweeps below a folder and reads them for the overview."""

import contextlib
import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Callable
from typing import Any

from experiments.runs.metrics import read_metrics
from world_models.core.errors import UserError

SKIPPED = {"checkpoints", "data", "tensorboard", "profile", "imagine", "eval", "results", "jobs", "__pycache__"}
POINTS = 400
"""Points of a curve that are kept."""


@dataclasses.dataclass
class Found:
    """Entries below a folder; `damaged` holds (path, reason) of those that could not be read."""

    runs: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    tables: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    sweeps: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    damaged: list[tuple[str, str]] = dataclasses.field(default_factory=list)


def find(root: pathlib.Path) -> Found:
    """Searches a folder.

    Raises:
      UserError: if it is not there or holds nothing to show.
    """
    if not root.is_dir():
        raise UserError(f"--workdir={root} must be a folder that holds runs or tables.")
    found = Found()
    readers: dict[str, tuple[Callable[[pathlib.Path], dict[str, Any]], list]] = {
        "config.json": (read_run, found.runs),
        "table.json": (_read_json, found.tables),
        "sweep.json": (_read_json, found.sweeps),
    }
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if f not in SKIPPED and not f.startswith(".") and ".replaced-" not in f)
        here = pathlib.Path(folder)
        for name in readers.keys() & set(files):
            read, into = readers[name]
            try:
                path = here.relative_to(root).as_posix()
                shown = root.absolute().name if path == "." else path
                into.append({**read(here / name), "path": path, "name": shown})
            except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
                found.damaged.append((f"{here.relative_to(root) / name}", f"{type(error).__name__}: {error}"))
    if not (found.runs or found.tables or found.sweeps or found.damaged):
        raise UserError(f"--workdir={root} holds no run, table or sweep: name a folder above some, such as runs.")
    for entries in (found.runs, found.tables, found.sweeps):
        entries.sort(key=lambda entry: entry["path"])
    _name_members(found)
    return found


def read_run(path: pathlib.Path) -> dict[str, Any]:
    """The entry of the run whose config.json is at `path`."""
    folder, config = path.parent, _read_json(path)
    origin = _read_json(folder / "provenance.json") if (folder / "provenance.json").exists() else {}
    series = _series(read_metrics(folder))
    last = {name: values[-1][1] for name, values in series.items()}
    return {
        "labels": [],
        "experiment": str(config.get("experiment", "")),
        "data": str(origin.get("data", config.get("data", {}).get("dataset", ""))),
        "seed": config.get("seed"),
        "step": max((values[-1][0] for values in series.values()), default=0),
        "num_steps": config.get("train", {}).get("num_steps"),
        "last": last,
        "revision": str(origin.get("revision", "")),
        "date": str(origin.get("date", "")),
        "device": str(origin.get("device", "")),
        "config": config,
        "series": {name: _thin(values) for name, values in series.items()},
        "futures": _futures(folder),
    }


def _series(lines: list[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    series: dict[str, list[tuple[int, float]]] = {}
    for line in lines:
        for name, value in line.items():
            if name != "step" and isinstance(value, int | float) and math.isfinite(value):
                series.setdefault(name, []).append((line["step"], value))
    return series


def _thin(values: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most about `POINTS` of the points, the first and the last among them."""
    stride = -(-len(values) // POINTS)
    kept = values[::stride]
    return kept if kept[-1] == values[-1] else [*kept, values[-1]]


def _futures(folder: pathlib.Path) -> dict[str, Any] | None:
    """The output of `imagine`: its files, and PSNR at a few horizons, where it imagined and did not reconstruct."""
    path = folder / "imagine" / "metrics.json"
    if not path.exists():
        return None
    metrics = _read_json(path)
    names = ("strip.png", "futures.mp4", "reconstructions.png", "reconstructions.mp4", "report.html")
    made = {"files": [name for name in names if (folder / "imagine" / name).exists()], "step": metrics.get("step")}
    if "horizon" not in metrics:
        return {**made, "psnr": []}
    horizons = metrics["horizon"]
    shown = sorted({horizons[0], horizons[len(horizons) // 2], horizons[-1]})
    psnr = metrics["psnr_changed"]
    rows = [(h, psnr["imagined"][horizons.index(h)], psnr["copy_last"][horizons.index(h)]) for h in shown]
    return {**made, "psnr": rows}


def _name_members(found: Found) -> None:
    """Labels the runs of tables, whose folders are content addresses, with the rows that they belong to."""
    by_address = {run["path"].rsplit("/", 1)[-1]: run for run in found.runs}
    for table in found.tables:
        with contextlib.suppress(KeyError, TypeError, AttributeError):  # the table is damaged, as its drawing will show
            for row in table["rows"]:
                for member in row["members"]:
                    run = by_address.get(pathlib.PurePath(member["run"]).name)
                    if run:
                        run["labels"].append(f"{table['table']} {table['scale']}: {row['name']}, seed {member['seed']}")


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    found = json.loads(path.read_text())
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    return found
