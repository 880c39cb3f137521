"""A table as a plot: a row of the table is a row of every panel, its mean a dot with its interval."""

import itertools
import pathlib
from typing import Any

import matplotlib.ticker
import numpy as np
from matplotlib.figure import Figure

OURS, PUBLISHED, BASELINE = "#0072B2", "#D55E00", "#777777"
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
PUBLISHED_MARKS, BASELINE_MARKS = ("D", "s", "^", "v", "p"), ("*", "x", "+", "1", "2", "3", "4")


def plot(path: pathlib.Path, table: dict[str, Any]) -> None:
    """Draws ours with published numbers and baselines of the same unit; and the curve, if any.

    The panels are the columns that the table names, by default those that stand beside published ones, or else the
    first three that are no baselines; published columns of another unit get panels of their own. A table of one row has
    one panel for its columns, and one with columns that are drawn against each other has a panel for these alone.
    """
    figure = draw(table)
    figure.suptitle(f"{table['title']} (scale {table['scale']})", fontsize=11)
    figure.savefig(path)


def draw(table: dict[str, Any]) -> Figure:
    """The figure without its title; one axes a panel."""
    if len(table["rows"]) == 1:
        return _draw_columns(table)
    if table["against"]:
        return _draw_against(table)
    ours = {key: column for key, column in table["columns"].items() if not column["baseline_for"]}
    chosen = table["panels"] or [key for key, column in ours.items() if column["published"]] or list(ours)[:3]
    alone = [
        name
        for key in chosen
        for name in table["columns"][key]["published"]
        if table["published_columns"][name]["unit"] != table["columns"][key]["unit"]
    ]
    curves = [row for row in table["rows"] if row["curve"]]
    widths = [1.0] * (len(chosen) + len(alone)) + [1.25] * bool(curves)
    size = (max(7.0, 2.2 + 3.1 * sum(widths)), 1.9 + 0.3 * len(table["rows"]))
    figure = Figure(size, dpi=120, layout="constrained")
    panels = figure.subplots(1, len(widths), squeeze=False, width_ratios=widths)[0]
    # The legend shows every label once, so a mark has one label in all panels.
    titles = dict.fromkeys(column["title"] for column in table["columns"].values() if column["baseline_for"] in chosen)
    marks = dict(zip(titles, itertools.cycle(BASELINE_MARKS)))
    same = {key: [name for name in table["columns"][key]["published"] if name not in alone] for key in chosen}
    published = dict.fromkeys([*itertools.chain(*same.values()), *alone], ("published", PUBLISHED_MARKS[0]))
    if any(len(names) > 1 for names in same.values()):
        labels = {name: f"published: {table['published_columns'][name]['title']}" for name in published}
        published = {name: (labels[name], mark) for name, mark in zip(published, itertools.cycle(PUBLISHED_MARKS))}
    for axes, key in zip(panels, chosen):
        _draw_panel(axes, table, key, {name: published[name] for name in same[key]}, marks)
    for axes, name in zip(panels[len(chosen) :], alone):
        _draw_published(axes, table, name, *published[name])
    for i, axes in enumerate(panels[: len(chosen) + len(alone)]):
        _name_rows(axes, [row["name"] for row in table["rows"]] if i == 0 else [""] * len(table["rows"]))
    if curves:
        _draw_curves(panels[-1], table, curves)
    _add_legend(figure, panels[: len(chosen) + len(alone)])
    return figure


def _draw_panel(
    axes: Any, table: dict[str, Any], key: str, published: dict[str, tuple[str, str]], marks: dict[str, str]
) -> None:
    """One of our columns: published numbers above each dot, baselines below it."""
    column = table["columns"][key]
    for y, row in enumerate(table["rows"]):
        _draw_cell(axes, y, row, key)
    for name, (label, mark) in published.items():
        points = [(row["published"][name], y) for y, row in enumerate(table["rows"]) if name in row["published"]]
        _draw_points(axes, points, -0.22, mark, PUBLISHED, label)
    for name, baseline in table["columns"].items():
        if baseline["baseline_for"] == key:
            points = [(row["ours"][name]["mean"], y) for y, row in enumerate(table["rows"]) if row["ours"][name]]
            _draw_points(axes, points, 0.22, marks[baseline["title"]], BASELINE, baseline["title"])
    _scale_axis(axes, column)


def _draw_published(axes: Any, table: dict[str, Any], name: str, label: str, mark: str) -> None:
    column = table["published_columns"][name]
    points = [(row["published"][name], y) for y, row in enumerate(table["rows"]) if name in row["published"]]
    _draw_points(axes, points, 0, mark, PUBLISHED, label)
    unit = f" ({column['unit']})" if column["unit"] else ""
    axes.set_xlabel(f"published: {column['title']}{unit}\n{column['better']} is better", fontsize=9)
    axes.margins(x=0.15)
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5, steps=[1, 2, 5, 10]))


def _draw_columns(table: dict[str, Any]) -> Figure:
    """The columns of the first one's unit below each other, baselines in grey below what they are baselines for."""
    (row,), columns = table["rows"], table["columns"]
    unit = next(iter(columns.values()))["unit"]
    keys = [key for key, column in columns.items() if column["unit"] == unit and row["ours"][key]]
    figure = Figure((6.4, 1.6 + 0.3 * len(keys)), dpi=120, layout="constrained")
    axes = figure.subplots()
    for y, key in enumerate(keys):
        _draw_cell(axes, y, row, key, BASELINE if columns[key]["baseline_for"] else OURS)
    _name_rows(axes, [columns[key]["title"] for key in keys])
    if keys:
        _scale_axis(axes, {**columns[keys[0]], "title": row["name"]})
    _add_legend(figure, [axes])
    return figure


def _draw_against(table: dict[str, Any]) -> Figure:
    """A column against another on logarithmic axes, a point a row, with lines beside them."""
    figure = Figure((6.4, 4.4), dpi=120, layout="constrained")
    axes, (x, y) = figure.subplots(), (table["against"][axis] for axis in "xy")
    for color, (label, points) in zip(COLORS[1:], table["against"]["laws"].items()):
        axes.plot(*zip(*points), "--", color=color, lw=1.4, label=label)
    for row in table["rows"]:
        if not (row["ours"][x] and row["ours"][y]):
            continue
        at, found = row["ours"][x]["mean"], row["ours"][y]
        ends = [found["mean"] if found[end] is None else found[end] for end in ("low", "high")]
        label = f"ours{', 95 % interval' if found['interval'] else ''}"
        axes.plot([at, at], ends, "-", color=OURS, lw=1.6)
        axes.plot([at], [found["mean"]], "x" if row["stale"] else "o", color=OURS, ms=6, label=label)
        axes.annotate(row["name"], (at, found["mean"]), (6, 6), textcoords="offset points", fontsize=8)
    axes.set_xscale("log")
    axes.set_yscale("log")
    name = lambda column: f"{column['title']}{column['unit'] and ' (' + column['unit'] + ')'}"
    axes.set_xlabel(name(table["columns"][x]), fontsize=9)
    axes.set_ylabel(f"{name(table['columns'][y])}, {table['columns'][y]['better']} is better", fontsize=9)
    for axis in (axes.xaxis, axes.yaxis):
        low, high = axis.get_view_interval()
        steps = (1, 2, 5) if high > 10 * low else (1, 1.5, 2, 2.5, 3, 4, 5, 7)
        axis.set_major_locator(matplotlib.ticker.LogLocator(subs=steps))
        axis.set_minor_locator(matplotlib.ticker.NullLocator())
        axis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    axes.margins(x=0.12)
    _tidy(axes, "both")
    handles = _handles([axes])
    axes.legend(handles.values(), handles, frameon=False, fontsize=8)
    return figure


def _draw_cell(axes: Any, y: float, row: dict[str, Any], key: str, color: str = OURS) -> None:
    """The mean with its interval, and every seed; nothing where there is no number."""
    found = row["ours"][key]
    if not found:
        return
    ends = [found["mean"] if found[end] is None else found[end] for end in ("low", "high")]
    interval = ", 95 % interval" if found["interval"] else ""
    label = "baseline" if color == BASELINE else f"ours{interval}"
    axes.plot(ends, [y, y], "-", color=color, lw=1.6)
    axes.plot([found["mean"]], [y], "x" if row["stale"] else "o", color=color, ms=6, label=label)
    shown = [member for member in row["members"] if member["status"] == ("stale" if row["stale"] else "done")]
    seeds = [member["values"][key] for member in shown if member["values"].get(key) is not None]
    axes.plot(seeds, [y] * len(seeds), "|", color=color, alpha=0.6, ms=9, label="single seeds")


def _draw_points(axes: Any, points: list[tuple[float, float]], shift: float, mark: str, color: str, label: str) -> None:
    fill = {} if mark in BASELINE_MARKS else {"mfc": "white"}
    axes.plot([x for x, _ in points], [y + shift for _, y in points], mark, color=color, ms=5, label=label, **fill)


def _draw_curves(axes: Any, table: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """One line a row, in the colours of `COLORS`, dashed where they are used again.

    The axis is logarithmic beyond the flattest line's greatest value if another's is over 20 times that.
    """
    greatest = []
    for i, row in enumerate(rows):
        values = np.array([np.nan if value is None else value for value in row["curve"]["mean"]], float)
        greatest.append(np.nanmax(np.abs(values), initial=0))
        style = ("-", "--", ":", "-.")[i // len(COLORS) % 4]
        axes.plot(row["curve"]["horizon"], values, style, color=COLORS[i % len(COLORS)], label=row["name"], lw=1.6)
    if max(greatest) > 20 * min(greatest) > 0:
        axes.set_yscale("symlog", linthresh=min(greatest))
    axes.set_xlabel("frames ahead", fontsize=9)
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(6, integer=True))
    axes.set_title(table["curve_title"], fontsize=9)
    axes.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    _tidy(axes, "both")


def _scale_axis(axes: Any, column: dict[str, Any]) -> None:
    """Names the axis, which goes no more than a margin beyond the possible range."""
    unit = f" ({column['unit']})" if column["unit"] else ""
    axes.set_xlabel(f"{column['title']}{unit}\n{column['better']} is better", fontsize=9)
    low, high = axes.get_xlim()
    margin = 0.03 * (high - low)
    least, greatest = column["range"]
    axes.set_xlim(
        low if least is None else max(low, least - margin), high if greatest is None else min(high, greatest + margin)
    )
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5, steps=[1, 2, 5, 10]))


def _name_rows(axes: Any, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_ylim(len(names) - 0.5, -0.5)
    _tidy(axes, "both")


def _add_legend(figure: Figure, panels: Any) -> None:
    """One legend below all panels."""
    handles = _handles(panels)
    columns = max(1, int(figure.get_figwidth() / 2))
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)


def _handles(panels: Any) -> dict[str, Any]:
    """What a legend shows, by label, every label once."""
    return {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}


def _tidy(axes: Any, which: str) -> None:
    axes.grid(color="#E5E5E5", lw=0.8, axis=which)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
