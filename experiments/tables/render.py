"""A table as CSV and LaTeX, its text cells, and all files of the command `table`."""

import csv
import io
import pathlib
import re
from collections.abc import Callable
from typing import Any

from experiments.runs.files import replaced, write_json, write_text
from experiments.tables import page
from experiments.tables.cells import cells
from experiments.tables.plot import plot


def write(folder: pathlib.Path, table: dict[str, Any]) -> pathlib.Path:
    """Writes table.json, .md, .csv, .tex and .png into `folder`; returns the path of table.md.

    Args:
      folder: made where it is missing.
      table: what `summarize` made.
    """
    write_json(folder / "table.json", table)
    write_text(folder / "table.csv", as_csv(table))
    write_text(folder / "table.tex", as_latex(table))
    with replaced(folder / "table.png") as temporary:
        plot(temporary, table)
    write_text(folder / "table.md", page.as_markdown([table], lambda _: "table.png"))
    return folder / "table.md"


def as_csv(table: dict[str, Any]) -> str:
    """One line a member, with its seed, status, published numbers and ours."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    published, ours = list(table["published_columns"]), list(table["columns"])
    heads = [f"published_{key}" for key in published] + ours
    writer.writerow(["table", "scale", "row", "seed", "status", *heads, "revision", "device", "date"])
    for row in table["rows"]:
        for member in row["members"]:
            values = [row["published"].get(key, "") for key in published]
            values += ["" if member["values"].get(key) is None else repr(member["values"][key]) for key in ours]
            where = [table["table"], table["scale"], row["name"], member["seed"], member["status"]]
            writer.writerow([*where, *values, member["revision"], member["device"], member["date"]])
    return stream.getvalue()


def as_latex(table: dict[str, Any]) -> str:
    """A booktabs table; published columns first."""
    head, rows = cells(table, "\\textbf{{{}}}", "$^\\dagger$", _escape)
    origin = table["provenance"]
    columns = "l" + "r" * (len(head) - 1)
    lines = [
        f"% {_escape(origin['command'])}; revision {origin['revision']}; data {origin['data_fingerprint']}",
        "\\begin{table}\n\\centering",
        f"\\caption{{{_escape(table['title'])}. Published: {_escape(table['paper'])}, {_escape(table['number'])} "
        f"({_escape(table['setting'])}). Ours: {_escape(table['data'])}; mean [95\\,\\% interval].}}",
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule",
    ]
    lines += [" & ".join(head) + " \\\\\n\\midrule", *(" & ".join(row) + " \\\\" for row in rows)]
    return "\n".join([*lines, "\\bottomrule\n\\end{tabular}\n\\end{table}", ""])


def _escape(text: str) -> str:
    special = {"\\": "\\textbackslash{}", "↑": "$\\uparrow$", "↓": "$\\downarrow$"}
    special |= {char: f"\\{char}" for char in "&%$#_{}"}
    replaced: Callable[[re.Match], str] = lambda match: special[match.group()]
    return re.sub("|".join(map(re.escape, special)), replaced, text)
