"""Builds the page of the command `report` from the tables, runs and sweeps that `find` returns."""

import datetime
import json
import pathlib
import re
import urllib.parse
from collections.abc import Callable, Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from experiments.reports import html
from experiments.reports.overview.find import Found, find
from experiments.runs.files import write_text

MARKS = {True: ("holds", "holds"), False: ("fails", "does not hold"), None: ("open", "not run")}
KINDS = {"paper": "conclusion of the paper", "ours": "hypothesis of ours"}
NUM_EVALS, NUM_CURVES = 5, 4  # columns of evaluators, and curves that are shown at first


def build(folder: pathlib.Path) -> pathlib.Path:
    """Writes `folder`/index.html, which shows everything below the folder and opens from disk.

    Raises:
      UserError: if there is nothing to show.
    """
    found, parts = find(folder), html.macros("overview_parts.html")
    tables = _drawn(lambda table: _table(parts, table), found.tables, found)
    sweeps = _drawn(lambda sweep: parts.sweep(_words(_sweep_words(sweep)), sweep), found.sweeps, found)
    futures = [run for run in found.runs if run["futures"]]
    cards = _drawn(lambda run: _card(parts, run), futures, found)
    runs = _runs(parts, found)
    counts = {"tables": tables, "runs": found.runs, "sweeps": sweeps, "futures": cards}
    sections = [
        ("tables", "Tables", tables),
        ("curves", "Curves", [parts.curves()] if found.runs else []),
        ("runs", "Runs", [runs] if found.runs else []),
        ("sweeps", "Sweeps", sweeps),
        ("futures", "Imagined futures", [parts.cards(cards)] if cards else []),
        ("damaged", "Could not be read", [parts.damaged(found.damaged)] if found.damaged else []),
    ]
    style, style_source = html.inline("overview.css")
    script, script_source = html.inline("overview.js")
    page = html.render(
        "overview.html",
        title=f"World models: {folder.absolute().name}",
        counts=[(name, len(entries)) for name, entries in counts.items() if entries],
        built=datetime.datetime.now().strftime("%Y-%m-%d %H:%M"),
        sections=[section for section in sections if section[2]],
        curves=[{"name": run["name"], "series": run["series"]} for run in found.runs],
        style=style,
        style_source=style_source,
        script=script,
        script_source=script_source,
    )
    path = folder / "index.html"
    write_text(path, page)
    return path


def _drawn(draw: Callable[[Any], Markup], entries: Sequence[dict[str, Any]], found: Found) -> list[Markup]:
    """The parts for some entries; entries that lack something are added to those that are damaged."""
    parts = []
    for entry in entries:
        try:
            parts.append(draw(entry))
        except (KeyError, TypeError, ValueError, AttributeError, jinja2.UndefinedError) as error:
            found.damaged.append((entry["path"], f"{type(error).__name__}: {error}"))
    return parts


def _words(words: Sequence[Any]) -> str:
    """What the search box finds an item by."""
    return " ".join(map(str, words)).lower()


def _link(*parts: str) -> str:
    """A relative address."""
    return urllib.parse.quote("/".join(part for part in parts if part not in ("", ".")))


def _table(parts: Any, table: dict[str, Any]) -> Markup:
    rows = [(row, _published(table, row), _ours(table, row)) for row in table["rows"]]
    about = [table["table"], table["scale"], table["title"], table["paper"], table["data"], table["path"]]
    words = [*about, *table["published_columns"], *(row["name"] for row in table["rows"])]
    verdicts = [_verdict(found) for found in table["statement"]["conclusions"]]
    provenance = json.dumps(table["provenance"], indent=1)
    return parts.table(_words(words), table, rows, _notes(table), verdicts, provenance, _link(table["path"]) or ".")


def _published(table: dict[str, Any], row: dict[str, Any]) -> list[str]:
    values = [row["published"].get(key) for key in table["published_columns"]]
    return ["–" if value is None else f"{value:g}{'†' if row['unverified'] else ''}" for value in values]


def _ours(table: dict[str, Any], row: dict[str, Any]) -> list[dict[str, str] | None]:
    cells: list[dict[str, str] | None] = []
    for key, column in table["columns"].items():
        found, digits = row["ours"][key], column["digits"]
        if not found:
            cells.append(None)
            continue
        known = found["low"] is not None
        interval = f"[{found['low']:.{digits}f}, {found['high']:.{digits}f}]" if known else ""
        seeds = f"{found['n']} seed{'s' if found['n'] > 1 else ''}"
        cells.append({"mean": f"{found['mean']:.{digits}f}", "interval": interval, "seeds": seeds})
    return cells


def _notes(table: dict[str, Any]) -> list[tuple[str, str]]:
    """(head, text) of notes on how a table was measured."""
    notes = [(column["title"], column["about"]) for column in table["columns"].values()]
    notes += sorted({("", f"Published numbers: {row['source']}") for row in table["rows"] if row["published"]})
    if any(row["unverified"] and row["published"] for row in table["rows"]):
        notes.append(("", "† not verified in the paper itself"))
    for row in table["rows"]:
        for member in row["members"]:
            if member["status"] != "done":
                reason = f": {member['error']}" if member["error"] else ""
                notes.append((f"{row['name']}, seed {member['seed']}", f"{member['status']}{reason}"))
    return notes


def _verdict(found: dict[str, Any]) -> tuple[str, str, str, str, str]:
    """(class, verdict, seeds, text, source) of a conclusion."""
    seeds = f" ({found['seeds_held']} of {found['seeds']} seeds)" if found["seeds"] else ""
    kind = KINDS[found["kind"]]
    return *MARKS[found["holds"]], seeds, found["text"], f"{kind}: {found['source']}" if found["source"] else kind


def _runs(parts: Any, found: Found) -> Markup:
    """A sortable table; of the evaluators' columns those that most runs have, bounds and baselines left out."""
    counted: dict[str, int] = {}
    for run in found.runs:
        for name in run["last"]:
            if name.startswith("eval/") and not re.search("_low$|_high$|copy_last", name):
                counted[name] = counted.get(name, 0) + 1
    evals = sorted(counted, key=lambda name: (-counted[name], name))[:NUM_EVALS]
    shown = [name.removeprefix("eval/") for name in evals]
    heads = ["", "run", "experiment", "steps", "train loss", *shown, "frames/s", "seed", "data", "revision", "date",
             "device"]  # fmt: skip
    first = sorted(range(len(found.runs)), key=lambda i: -found.runs[i]["step"])[:NUM_CURVES]
    numbered = [{**run, "index": i} for i, run in enumerate(found.runs)]
    draw = lambda run: _run(parts, run, evals, run["index"] in first)
    return parts.runs(heads, _drawn(draw, numbered, found))


def _run(parts: Any, run: dict[str, Any], evals: Sequence[str], chosen: bool) -> Markup:
    numbers = [run["last"].get(key) for key in ("train/loss", *evals, "frames_per_second")]
    data, seed = pathlib.PurePath(run["data"]).name, "" if run["seed"] is None else run["seed"]
    texts = [seed, data, run["revision"][:10], run["date"][:16], run["device"]]
    words = [run["path"], run["experiment"], run["data"], run["revision"], *run["labels"], *_flat(run["config"])]
    return parts.run(_words(words), run, run["index"], chosen, numbers, texts)


def _flat(config: dict[str, Any], prefix: str = "") -> list[str]:
    words = []
    for key, value in config.items():
        words += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}={value}"]
    return words


def _sweep_words(sweep: dict[str, Any]) -> list[Any]:
    return [sweep["path"], sweep["config"], sweep["metric"], *sweep["fields"]]


def _card(parts: Any, run: dict[str, Any]) -> Markup:
    words = [run["path"], run["experiment"], run["data"], *run["labels"]]
    return parts.card(_words(words), run, _link(run["path"], "imagine"))
