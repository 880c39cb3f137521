"""A picture of many settings and what came of each: one vertical axis a field, one line a setting."""

import dataclasses
import itertools
import math
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps, patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import LogLocator, MaxNLocator

LOG_FROM = 20
"""Positive values that span more than this factor are drawn on a logarithmic axis."""

MAX_TICKS = 8
SPREAD = 0.07  # of an axis, over which lines of one value are fanned out: on top of each other, only one would be seen
COLORS = colormaps["viridis"]  # which the colour-blind can read as well; its palest part is lost on white


@dataclasses.dataclass
class Scale:
    """Where the values of one axis are drawn.

    Attributes:
      title: name of the axis.
      heights: of every value, 0 (bottom) to 1 (top).
      ticks: (height, label).
    """

    title: str
    heights: np.ndarray
    ticks: list[tuple[float, str]]


def plot(
    path: str | pathlib.Path,
    fields: Mapping[str, Sequence[Any]],
    metric: str,
    values: Sequence[float | None],
    better: str,
) -> None:
    """Draws settings as lines over parallel axes, coloured by the metric, the best one thick, as a PNG on white.

    Args:
      path: the file to write.
      fields: {name: a value per setting}; one axis each.
      metric: name of the last axis.
      values: of the metric, per setting; a setting where it is None is left out. One at least is a number.
      better: "lower" or "higher".
    """
    shown = [i for i, value in enumerate(values) if value is not None]
    scales = [scale(name, [column[i] for i in shown]) for name, column in fields.items()]
    scales.append(scale(metric, [values[i] for i in shown]))
    goodness = 1 - scales[-1].heights if better == "lower" else scales[-1].heights
    figure = Figure(figsize=(max(6.0, 2.2 * len(scales)), 4.8), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    order = np.argsort(goodness, kind="stable")
    fan = SPREAD * (np.argsort(order) / max(1, len(order) - 1) - 0.5) * (1 if better == "higher" else -1)
    for rank, i in enumerate(order):
        heights = [*(s.heights[i] + fan[i] for s in scales[:-1]), scales[-1].heights[i]]
        _line(axes, heights, COLORS(0.85 * (1 - goodness[i])), best=rank == len(order) - 1)
    for x, s in enumerate(scales):
        _axis(axes, x, s)
    best = values[shown[order[-1]]]
    title = f"Best {metric}: {best:.4g} ({better} is better)"
    missing = len(values) - len(shown)
    axes.set_title(title + (f"; {missing} of {len(values)} not finished" if missing else ""), fontsize=11, pad=38)
    axes.set_xlim(-0.25, len(scales) - 0.6)
    axes.set_ylim(-0.05, 1.05)
    axes.axis("off")
    figure.savefig(path)


def scale(title: str, values: Sequence[Any]) -> Scale:
    """The axis for some values: logarithmic or linear for numbers, a place each for all else."""
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return _categories(title, values)
    low, high = min(values), max(values)
    logarithmic = low > 0 and high > LOG_FROM * low
    place = math.log if logarithmic else float
    bottom, top = place(low), place(high)

    def height(value: float) -> float:
        return (place(value) - bottom) / (top - bottom) if top > bottom else 0.5

    ticks = sorted(set(values))
    if len(ticks) > MAX_TICKS:
        locator = LogLocator(numticks=MAX_TICKS) if logarithmic else MaxNLocator(MAX_TICKS - 2)
        inner = [tick for tick in locator.tick_values(low, high) if min(height(tick), 1 - height(tick)) > 0.05]
        ticks = [low, *inner, high]
    heights = np.array([height(value) for value in values])
    return Scale(title, heights, [(height(tick), f"{tick:.4g}") for tick in ticks])


def _categories(title: str, values: Sequence[Any]) -> Scale:
    names = list(dict.fromkeys(map(str, values)))
    places = np.linspace(0, 1, len(names)) if len(names) > 1 else [0.5]
    at = dict(zip(names, places))
    labels = [(place, name if len(name) <= 18 else f"{name[:17]}…") for name, place in at.items()]
    return Scale(title, np.array([at[str(value)] for value in values]), labels)


def _line(axes: Axes, heights: Sequence[float], color: Any, *, best: bool) -> None:
    """A line that leaves every axis level, so that lines which meet there can be told apart."""
    points, codes = [(0, heights[0])], [Path.MOVETO]
    for x, (left, right) in enumerate(itertools.pairwise(heights)):
        points += [(x + 0.4, left), (x + 0.6, right), (x + 1, right)]
        codes += [Path.CURVE4] * 3
    width = 4 if best else 1.5
    halo = [patheffects.Stroke(linewidth=width + 3, foreground="white"), patheffects.Normal()] if best else []
    patch = PathPatch(Path(points, codes), fill=False, ec=color, lw=width, path_effects=halo, clip_on=False)
    axes.add_patch(patch)
    axes.plot(range(len(heights)), heights, "o", color=color, ms=9 if best else 4, clip_on=False)


def _axis(axes: Axes, x: int, s: Scale) -> None:
    axes.plot([x, x], [0, 1], color="#444444", lw=1)
    box = {"boxstyle": "square,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.8}
    for height, label in s.ticks:
        axes.plot([x - 0.02, x + 0.02], [height, height], color="#444444", lw=1)
        axes.text(x + 0.07, height, label, va="center", fontsize=9, bbox=box, zorder=5)
    head, separator, last = re.fullmatch(r"(?:(.*)([./]))?(.*)", s.title).groups(default="")
    axes.text(x, 1.07, f"{head}{separator}\n{last}", ha="center", va="bottom", fontsize=9)
