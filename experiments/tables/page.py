"""The page of a table for readers, in Markdown: published numbers and ours, and what follows from ours."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from experiments.tables.cells import cells
from experiments.tables.summary import count_sentence

VERDICTS = {True: "holds", False: "does not hold", None: "not run"}
INTERVALS = {
    "proportion": "interval over {} (Wilson)",
    "bootstrap": "interval over {} (bootstrap)",
    "seeds": "interval over seeds only (Student); episodes were not stored",
    "": "no interval",
}
BOLD = (
    "**Bold**: the best mean of comparable rows, and every mean within its interval. Nothing is bold in a column of "
    "baselines, where all comparable rows are within that interval, or where there is a single one."
)


def as_markdown(tables: Sequence[dict[str, Any]], plot: Callable[[dict[str, Any]], str], missing: str = "") -> str:
    """The page of one table.

    Args:
      tables: what `summarize` made, at every scale that has a result; at least one.
      plot: the address of a scale's plot.
      missing: Markdown on the scales that have no result.
    """
    first = tables[0]
    numbers = "" if first["published_columns"] else "There are no published numbers for these rows. "
    lines = [
        f"# {first['title']}",
        "",
        first["about"],
        "",
        f"- **Question**: {first['question']}",
        f"- **Paper**: {first['paper']}, {first['number']}.",
        f"- **Setting of the paper**: {numbers}{first['setting']}.",
        *(f"- **Published numbers** were read in: {source}." for source in _sources(first)),
        "",
    ]
    for table in tables:
        lines += _scale(table, plot(table))
    return "\n".join([*lines, *([missing, ""] if missing else [])])


def _scale(table: dict[str, Any], plot: str) -> list[str]:
    head, rows = cells(table, "**{}**", "†")
    statement = table["statement"]
    return [
        f"## Scale `{table['scale']}`",
        "",
        f"Ours: {table['data']}.",
        "",
        *markdown_table(head, rows),
        "",
        *(f"{note}\n" for note in _notes(table)),
        "### How each column is measured",
        "",
        *(_measured(table, key, column) for key, column in table["columns"].items()),
        "",
        *_conclusions(statement, "paper", "### Conclusions of the paper", "where the paper draws it"),
        *(f"{text}\n" for text in statement["rankings"]),
        *_conclusions(statement, "ours", "### Hypotheses of ours", "where it comes from"),
        "### Plot",
        "",
        f"![{table['title']}: our means with 95 % intervals, and published numbers, where there are any]({plot})",
        "",
        "### Provenance",
        "",
        *_provenance(table),
        "",
    ]


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    line = lambda cells: "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    return [line(head), "|---" * len(head) + "|", *map(line, rows)]


def held(count: dict[str, int]) -> str:
    """How many conclusions hold: "2 of 3", with those that could not be tested."""
    left = count["all"] - count["tested"]
    return (f"{count['held']} of {count['tested']}" if count["all"] else "–") + (f" ({left} not run)" if left else "")


def _sources(table: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(row["source"] for row in table["rows"] if row["published"]))


def _notes(table: dict[str, Any]) -> list[str]:
    """What a reader must know about the cells."""
    found = [cell for row in table["rows"] for cell in row["ours"].values() if cell]
    notes = []
    if found:
        least, most = min(cell["n"] for cell in found), max(cell["n"] for cell in found)
        seeds = f"{least} seed{'s' if least > 1 else ''}" if least == most else f"{least} to {most} seeds"
        interval = " [95 % interval]" if any(cell["interval"] for cell in found) else ""
        notes.append(f"Ours: mean over {seeds}{interval}; arrows say which direction is better.")
    if any(cell["best"] for cell in found):
        notes.append(BOLD)
    elif found:
        notes.append("No cell is bold: no rows are comparable, or none differ by more than the interval of the best.")
    if len({row["group"] for row in table["rows"]}) > 1:
        groups = sorted({row["group"] for row in table["rows"]})
        notes.append(f"Rows are comparable within each of these groups only: {', '.join(groups)}.")
    if any(key not in row["published"] for row in table["rows"] for key in table["published_columns"]):
        notes.append("–: nothing is published.")
    if any(row["unverified"] and row["published"] for row in table["rows"]):
        notes.append("†: published number not verified in the paper itself.")
    if any(row["stale"] for row in table["rows"]):
        notes.append("(stale): measured by other code than today's; left out of all conclusions.")
    for row in table["rows"]:
        for member in row["members"]:
            if member["status"] != "done":
                reason = f": {member['error']}" if member["error"] else ""
                notes.append(f"{row['name']}, seed {member['seed']}: {member['status']}{reason}")
    return notes


def _measured(table: dict[str, Any], key: str, column: dict[str, Any]) -> str:
    """How a column is measured, on how many episodes, with which interval, and what it is compared with."""
    found = [row["ours"][key] for row in table["rows"] if row["ours"][key]]
    parts = [f"**{column['title']}**: {column['about']}"]
    if column["baseline_for"]:
        parts.append(f"a baseline for {table['columns'][column['baseline_for']]['title']}")
    episodes = sorted({cell["episodes"] for cell in found if cell["episodes"]})
    if episodes:
        parts.append(f"{' or '.join(f'{n:,.0f}' for n in episodes)} {table['samples']}, the same for every seed")
    same = found and all(cell["interval"] == "seeds" and cell["low"] == cell["high"] for cell in found)
    parts += ["equal for all seeds"] if same else sorted({_interval(table, cell) for cell in found})
    titles = [table["published_columns"][name]["title"] for name in column["published"]]
    if table["published_columns"] and not column["baseline_for"]:
        parts.append(f"beside the published {' and '.join(titles)}" if titles else "nothing published to compare with")
    return f"- {'; '.join(parts)}."


def _interval(table: dict[str, Any], cell: dict[str, Any]) -> str:
    """Which interval a cell has, and over what."""
    over = f"{table['samples']} and seeds" if cell["n"] > 1 else f"{table['samples']} only, of one seed"
    return INTERVALS[cell["interval"]].format(over)


def _conclusions(statement: dict[str, Any], kind: str, title: str, source: str) -> list[str]:
    found = [conclusion for conclusion in statement["conclusions"] if conclusion["kind"] == kind]
    sentence = count_sentence(kind, statement["counts"][kind])
    if not found:
        return [title, "", sentence, ""]
    rows = [
        (
            f"**{VERDICTS[one['holds']]}**",
            f"{one['seeds_held']} of {one['seeds']}" if one["seeds"] else "–",
            one["text"],
            one["source"],
        )
        for one in found
    ]
    return [title, "", sentence, "", *markdown_table(["", "in seeds", "conclusion", source], rows), ""]


def _provenance(table: dict[str, Any]) -> list[str]:
    origin = table["provenance"]
    made = "; ".join(origin["measured_by"]) or "nothing measured yet"
    rows = [
        ("command at that revision", f"`{origin['command']}`"),
        ("measured by", re.sub(r"\b([0-9a-f]{10})[0-9a-f]{30}\b", r"\1", made)),  # revisions, whole in the JSON
        ("collected", f"{origin['date'][:10]} at revision {origin['revision'][:10]}"),
        ("device", f"{origin['device']}, {origin['host_cores']} host cores"),
        ("seeds", ", ".join(map(str, origin["seeds"]))),
        ("data fingerprint", origin["data_fingerprint"]),
        ("software", ", ".join(f"{name} {version}" for name, version in origin["versions"].items())),
        ("every seed", f"`results/{table['table']}/{table['scale']}.json`"),
    ]
    return markdown_table(["", ""], rows)
