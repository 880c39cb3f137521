"""A table as Markdown, CSV, LaTeX and a plot, from the content of its table.json."""

import csv
import io
import itertools
import math
import pathlib
import re
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from experiments.runs.workdir import write_json

MARKS = {True: "holds", False: "does not hold", None: "not run"}
SLANTED = {"rotation": 35, "ha": "right", "fontsize": 8}
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def write(folder: pathlib.Path, table: dict[str, Any]) -> pathlib.Path:
    """Writes table.json, .md, .csv, .tex and .png into `folder`; returns the path of table.md."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "table.json", table)
    (folder / "table.csv").write_text(as_csv(table))
    (folder / "table.tex").write_text(as_latex(table))
    plot(folder / "table.png", table)
    (folder / "table.md").write_text(as_markdown(table))
    return folder / "table.md"


def heading(table: dict[str, Any]) -> str:
    """What it is and whose."""
    return f"{table['title']} ({table['paper']}, {table['number']})"


def as_markdown(table: dict[str, Any]) -> str:
    """The table for people: published numbers and ours, each with its setting, and what follows from ours."""
    lines = [f"### {heading(table)}", "", table["about"], ""]
    if table["published_columns"]:
        lines.append(f"- *Published*: {table['setting']}.")
    else:
        lines.append(f"- *Published*: no numbers. {table['setting']}.")
    lines += [f"- *Ours*, scale `{table['scale']}`: {table['data']}.", ""]
    head, cells = _cells(table, "**{}**", "†")
    lines += [_markdown_row(head), "|---" * len(head) + "|", *map(_markdown_row, cells), ""]
    lines += [f"- {note}" for note in _notes(table)]
    lines += ["", *(f"{text}" for text in table["statement"]["text"]), ""]
    for found in table["statement"]["conclusions"]:
        seeds = f", in {found['seeds_held']} of {found['seeds']} seeds" if found["seeds"] else ""
        lines.append(f"- **{MARKS[found['holds']]}**{seeds}: {found['text']} ({found['source']})")
    return "\n".join([*lines, "", provenance_line(table), ""])


def provenance_line(table: dict[str, Any]) -> str:
    """One line on where the numbers come from."""
    origin = table["provenance"]
    made = "; ".join(origin["measured_by"]) or "nothing measured yet"
    made = re.sub(r"\b([0-9a-f]{10})[0-9a-f]{30}\b", r"\1", made)  # revisions, which the JSON has whole
    seeds = ", ".join(map(str, origin["seeds"]))
    return (
        f"`{origin['command']}`; seeds {seeds}; {made}; jax {origin['versions']['jax']}; "
        f"data {origin['data_fingerprint']}."
    )


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
            values += [_plain(member["values"].get(key)) for key in ours]
            where = [table["table"], table["scale"], row["name"], member["seed"], member["status"]]
            writer.writerow([*where, *values, member["revision"], member["device"], member["date"]])
    return stream.getvalue()


def as_latex(table: dict[str, Any]) -> str:
    """A booktabs table; published columns first."""
    head, cells = _cells(table, "\\textbf{{{}}}", "$^\\dagger$", _escape)
    count = len(table["published_columns"])
    lines = [
        f"% {_escape(provenance_line(table))}",
        "\\begin{table}\n\\centering",
        f"\\caption{{{_escape(table['title'])}. Published: {_escape(table['paper'])}, {_escape(table['number'])} "
        f"({_escape(table['setting'])}). Ours: {_escape(table['data'])}; mean [95\\,\\% interval over seeds].}}",
        f"\\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}\n\\toprule",
    ]
    if count:
        ours = len(head) - 1 - count
        lines.append(f" & \\multicolumn{{{count}}}{{c}}{{published}} & \\multicolumn{{{ours}}}{{c}}{{ours}} \\\\")
    lines += [" & ".join(head) + " \\\\\n\\midrule", *(" & ".join(row) + " \\\\" for row in cells)]
    return "\n".join([*lines, "\\bottomrule\n\\end{tabular}\n\\end{table}", ""])


def plot(path: pathlib.Path, table: dict[str, Any]) -> None:
    """Draws published against ours where a column stands against published numbers, else ours; and the curve if any.

    A table of one row compares its columns, in one panel.
    """
    if len(table["rows"]) == 1 and not table["published_columns"]:
        figure = Figure(figsize=(7.8, 4.4), dpi=120, layout="constrained")
        _plot_row(figure.subplots(), table)
        figure.suptitle(f"{table['title']} - ours: {table['scale']} scale", fontsize=11)
        figure.savefig(path)
        return
    compared = [key for key, column in table["columns"].items() if _known(table, column["published"])]
    columns = compared or list(table["columns"])[:2]
    curves = [row for row in table["rows"] if row["curve"]]
    figure = Figure(figsize=(5.2 * (len(columns) + bool(curves)), 4.4), dpi=120, layout="constrained")
    panels = figure.subplots(1, len(columns) + bool(curves), squeeze=False)[0]
    points = [_plot_column(axes, table, key) for axes, key in zip(panels, columns)]
    if curves:
        _plot_curves(panels[-1], table, curves)
    figure.suptitle(f"{table['title']} - ours: {table['scale']} scale", fontsize=11)
    figure.draw_without_rendering()  # where things are, for names to keep clear of them
    for axes, named in zip(panels, points):
        _name_points(axes, named)
    figure.savefig(path)


def _against(table: dict[str, Any], key: str) -> dict[str, Any] | None:
    """The published column that one of ours is drawn over: if there are two numbers or more in it."""
    published = table["columns"][key]["published"]
    return table["published_columns"][published] if len(_known(table, published)) > 1 else None


def _known(table: dict[str, Any], published: str | None) -> set[float]:
    """The different numbers of a published column."""
    return {row["published"][published] for row in table["rows"] if published in row["published"]}


def _plot_column(axes: Any, table: dict[str, Any], key: str) -> list[tuple[str, float, dict[str, Any], str]]:
    """Draws one; returns the points that are to be named: (name, published, ours, color)."""
    column, against = table["columns"][key], _against(table, key)
    rows = [row for row in table["rows"] if row["ours"][key]]
    lines: list[tuple[float, str, str]] = []
    points = []
    for i, row in enumerate(rows):
        if against and column["published"] not in row["published"]:  # a line, for it has no place along the axis
            lines.append((row["ours"][key]["mean"], row["name"], COLORS[i % len(COLORS)]))
            continue
        where = row["published"][column["published"]] if against else i
        _plot_cell(axes, where, row, key, COLORS[i % len(COLORS)])
        if against:
            points.append((row["name"], where, row["ours"][key], COLORS[i % len(COLORS)]))
    if against:
        axes.margins(x=0.25)
        _draw_lines(axes, lines)
        dotted = "; dotted: no number" if lines else ""
        axes.set_xlabel(f"published {against['title']}\n{against['better']} is better{dotted}", fontsize=9)
    else:
        axes.set_xticks(range(len(rows)), [row["name"] for row in rows], **SLANTED)
        for name, published in table["published_columns"].items():  # of one number for all rows
            if len(_known(table, name)) == 1 and published["title"].endswith(f"({column['unit']})"):
                lines.append((*_known(table, name), f"published {published['title']}", "#555555"))
        _draw_lines(axes, lines)
    axes.set_ylabel(f"ours: {column['title']} ({column['unit']}; {column['better']} is better)", fontsize=9)
    axes.ticklabel_format(axis="y", useOffset=False)
    _tidy(axes)
    return points


def _name_points(axes: Any, points: list[tuple[str, float, dict[str, Any], str]]) -> None:
    """Writes each name where it covers least of points, intervals and other names; call it when the layout is known."""
    taken, frame = [text.get_window_extent() for text in axes.texts], axes.get_window_extent()
    for _, where, ours, _ in points:
        ends = [ours["mean"] if end is None else end for end in (ours["low"], ours["high"])]
        low, middle, high = axes.transData.transform([(where, y) for y in (ends[0], ours["mean"], ends[1])])
        taken += [Bbox([low - 2, high + 2]), Bbox([middle - 6, middle + 6])]

    def covered(text: Any) -> float:
        box = text.get_window_extent().padded(1)
        shared = [Bbox.intersection(box, other) for other in taken]
        inside = Bbox.intersection(box, frame)
        outside = box.width * box.height - (inside.width * inside.height if inside else 0)
        return outside + sum(both.width * both.height for both in shared if both)

    for name, where, ours, color in points:
        sides = itertools.product(("left", "right"), (0, 8, -8, 16, -16, 24, -24))  # heights in points
        tried = [
            axes.annotate(
                name,
                (where, ours["mean"]),
                (8 if side == "left" else -8, height),
                textcoords="offset points",
                ha=side,
                va="center",
                fontsize=9,
                color=color,
            )
            for side, height in sides
        ]
        best = min(tried, key=covered)
        taken.append(best.get_window_extent())
        for text in tried:
            if text is not best:
                text.remove()


def _draw_lines(axes: Any, lines: list[tuple[float, str, str]]) -> None:
    """Dotted lines at (height, name, color), named at the left, or at the right where a name below is near."""
    low, high = axes.get_ylim()
    heights = [low, high, *(mean for mean, _, _ in lines)]
    near, last = (max(heights) - min(heights)) / 25, {"left": -math.inf, "right": -math.inf}
    for mean, name, color in sorted(lines):
        axes.axhline(mean, color=color, lw=1.2, ls=":")
        side = "left" if mean - last["left"] > near else min(last, key=last.get)
        at = {"xycoords": ("axes fraction", "data"), "va": "bottom", "ha": side}
        axes.annotate(name, (0.01 if side == "left" else 0.99, mean), fontsize=7, color=color, **at)
        last[side] = mean


def _plot_row(axes: Any, table: dict[str, Any]) -> None:
    """The columns of the first one's unit, side by side."""
    (row,), first = table["rows"], next(iter(table["columns"].values()))
    keys = [key for key, column in table["columns"].items() if column["unit"] == first["unit"] and row["ours"][key]]
    for i, key in enumerate(keys):
        _plot_cell(axes, i, row, key, COLORS[i % len(COLORS)])
    axes.set_xticks(range(len(keys)), [table["columns"][key]["title"] for key in keys], **SLANTED)
    axes.set_ylabel(f"{row['name']} ({first['unit']}; {first['better']} is better)", fontsize=9)
    _tidy(axes)


def _plot_cell(axes: Any, where: float, row: dict[str, Any], key: str, color: str) -> None:
    """The mean with its interval, and every seed."""
    found = row["ours"][key]
    error = None if found["low"] is None else [[found["mean"] - found["low"]], [found["high"] - found["mean"]]]
    axes.errorbar(where, found["mean"], error, fmt="x" if row["stale"] else "o", color=color, capsize=4, ms=7)
    shown = [m for m in row["members"] if m["status"] == ("stale" if row["stale"] else "done")]
    singles = [m["values"][key] for m in shown if m["values"].get(key) is not None]
    axes.plot([where] * len(singles), singles, "_", color=color, alpha=0.6, ms=12)


def _plot_curves(axes: Any, table: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    for i, row in enumerate(rows):
        style = "-" if i < len(rows) / 2 else "--"
        values = np.array([np.nan if v is None else v for v in row["curve"]["mean"]], float)
        axes.plot(row["curve"]["horizon"], values, style, color=COLORS[i % len(COLORS)], label=row["name"], lw=1.6)
    axes.set_xlabel("frames ahead")
    axes.set_ylabel(table["curve_title"], fontsize=9)
    axes.legend(frameon=False, fontsize=7, ncols=2)
    _tidy(axes)


def _tidy(axes: Any) -> None:
    axes.grid(color="#DDDDDD", lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _cells(table: dict[str, Any], bold: str, dagger: str, escape=str) -> tuple[list[str], list[list[str]]]:
    """(head, rows) of text cells; ours with the best mean in bold."""
    published, ours = table["published_columns"], table["columns"]
    head = ["", *(escape(f"{c['title']}") for c in published.values())]
    head += [escape(f"{c['title']} ({c['unit']})" if c["unit"] else c["title"]) for c in ours.values()]
    best = {key: _best(table, key) for key in ours}
    cells = []
    for row in table["rows"]:
        mark = dagger if row["unverified"] and row["published"] else ""
        line = [escape(row["name"])]
        line += [f"{row['published'][key]:g}{mark}" if key in row["published"] else "-" for key in published]
        for key, column in ours.items():
            text = escape(_ours(row["ours"][key], column["digits"], row["stale"]))
            is_best = bool(row["ours"][key]) and not row["stale"] and row["ours"][key]["mean"] == best[key]
            line.append(bold.format(text) if is_best else text)
        cells.append(line)
    return head, cells


def _ours(found: dict[str, Any] | None, digits: int, stale: bool) -> str:
    if not found:
        return "not run"
    text = f"{found['mean']:.{digits}f}"
    if found["low"] is not None:
        text += f" [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"
    return text + (" (stale)" if stale else "")


def _best(table: dict[str, Any], key: str) -> float | None:
    """The best mean of rows that differ."""
    means = {row["ours"][key]["mean"] for row in table["rows"] if row["ours"][key] and not row["stale"]}
    choose = max if table["columns"][key]["better"] == "higher" else min
    return choose(means) if len(means) > 1 else None


def _notes(table: dict[str, Any]) -> list[str]:
    """What a reader must know about the cells."""
    notes = [f"{c['title']}: {c['about']}" for c in table["columns"].values()]
    counts = sorted({found["n"] for row in table["rows"] for found in row["ours"].values() if found})
    if counts:
        notes.append(
            f"Ours: mean over {'-'.join(map(str, counts))} seed(s), with Student's 95 % interval where there are two "
            "or more; the best mean in bold."
        )
    sources = sorted({row["source"] for row in table["rows"] if row["published"]})
    notes += [f"Published numbers: {source}" for source in sources]
    if any(row["unverified"] and row["published"] for row in table["rows"]):
        notes.append("†: published number not verified in the paper itself.")
    if any(row["stale"] for row in table["rows"]):
        notes.append("(stale): measured by other code than today's; left out of every statement below.")
    for row in table["rows"]:
        for member in row["members"]:
            if member["status"] != "done":
                reason = f": {member['error']}" if member["error"] else ""
                notes.append(f"{row['name']}, seed {member['seed']}: {member['status']}{reason}")
    return notes


def _plain(value: float | None) -> str:
    return "" if value is None else repr(value)


def _markdown_row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _escape(text: str) -> str:
    for char in "\\&%$#_{}":
        text = text.replace(char, "\\textbackslash{}" if char == "\\" else f"\\{char}")
    return text
