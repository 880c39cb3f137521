"""What `plan` draws: real rollouts beside the plans, success rate over path length and over FLOPs."""

import functools
import pathlib
from typing import TYPE_CHECKING, Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from experiments.reports import media
from experiments.reports.pictures import tidy
from world_models.core.types import Array
from world_models.planning.model import PlanningModel

if TYPE_CHECKING:
    from experiments.planning.evaluation import PlanningEvaluation
    from experiments.planning.gymnasium import GymnasiumPlanning
    from experiments.planning.worlds import WorldPlanning

MIN_SIDE = 160  # of a frame in the video, in pixels
GOAL_COLOR, PATH_COLOR = (0xD5, 0x5E, 0x00), (0x00, 0x9E, 0x73)
LEVEL_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")


def rollouts(planning: "WorldPlanning", rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The video of some tasks, uint8 [steps + 1, height, width, 3], and of each the moment half way to its goal.

    A row an episode: the world with the path so far and the goal's position, the goal, and, where the model has a
    decoder, the subgoal of each level and the end of its plan, from the top down.
    """
    played = jax.tree.map(np.asarray, planning.rows(planning.settings, rows, shown=True))
    model, world = planning.run.model, planning.world
    goals = planning.tasks._replace(start=planning.tasks.goal)
    look = jax.jit(jax.vmap(lambda task: world.render(world.reset(task))))
    goal_frames = np.asarray(look(jax.tree.map(lambda x: jnp.asarray(x)[rows], goals)))
    columns = _plan_columns(planning, played.plan_infos) if model.can_decode else []
    cells, stills = [], []
    for i, row in enumerate(rows):
        seen = _with_path(planning, played.frames[i], played.positions[i], planning.tasks.goal[row])
        line, still = _line(seen, goal_frames[i], played.reached[i], [(text, frames[i]) for text, frames in columns])
        cells.append(line)
        stills.append(still)
    return media.grid(cells, gutter=6), media.grid(stills, gutter=6)[0]


def host_rollouts(planning: "GymnasiumPlanning", rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same of a Gymnasium environment, as the model is shown it; an episode that ends early stands still."""
    cells, stills = [], []
    last = max(len(planning.episodes[row].frames) for row in rows) - 1
    for row in rows:
        played, goal = planning.episodes[row], planning.tasks[row].goal.frame
        columns = []
        if planning.run.model.can_decode:
            plan_infos = jax.tree.map(lambda x: x[None], played.plan_infos[2])
            columns = [(text, frames[0]) for text, frames in _plan_columns(planning, plan_infos)]
        line, still = _line(_fit(played.frames), goal, np.array([False, *planning.hits[row]]), columns)
        stills.append(still)
        cells.append([cell[np.minimum(np.arange(last + 1), len(cell) - 1)] for cell in line])
    return media.grid(cells, gutter=6), media.grid(stills, gutter=6)[0]


def _line(
    seen: np.ndarray, goal: np.ndarray, reached: np.ndarray, columns: list[tuple[str, np.ndarray]]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """An episode's cells, and the same at the moment half way to the goal, or at the end if it was not reached.

    Args:
      seen: uint8 [steps + 1, h, w, 3], enlarged.
      goal: its frame, uint8 [h, w, 3].
      reached: bool [steps + 1].
      columns: captions and frames uint8 [steps, h, w, c]: plan_infos are had before a step, the last frame has none.
    """
    there = np.where(np.cumsum(reached) > 0, "reached", "not yet reached")
    head = np.concatenate([media.text_cell(f"step {t}: {word}", seen.shape[2]) for t, word in enumerate(there)])
    line = [media.grid([[head], [seen]], gutter=0), media.labelled("goal", _fit(goal[None]))]
    for text, frames in columns:
        line.append(media.labelled(text, _fit(np.concatenate([frames, frames[-1:]]))))
    half = int(np.argmax(reached)) // 2 if reached.any() else len(seen) - 1
    return line, [cell[np.minimum(half, len(cell) - 1)][None] for cell in line]  # the goal stands still


def _plan_columns(planning: "PlanningEvaluation", plan_infos: Any) -> list[tuple[str, np.ndarray]]:
    """Captions and decoded frames uint8 [rows, steps, h, w, c] of subgoals and ends of plans, highest level first."""
    model, settings, found = planning.run.model, planning.settings, []
    for level in range(len(settings), 0, -1):
        if level < len(settings):
            of = level + 1 if settings[level - 1].cost_space == "above" else level
            found.append((f"subgoal of level {level}", _decode(model, of, plan_infos.subgoals[level - 1])))
        found.append((f"end of plan {level}", _decode(model, level, plan_infos.ends[level - 1])))
    return [(text, np.asarray(frames)) for text, frames in found]


@functools.partial(jax.jit, static_argnames="level")
def _decode(model: PlanningModel, level: int, z: Array) -> jax.Array:
    return jax.lax.map(lambda z: model.decode_level(level, z), z)


def _with_path(planning: "WorldPlanning", frames: np.ndarray, positions: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Frames enlarged, with a ring at the goal and the path so far drawn on them."""
    large = _fit(frames)
    scale = large.shape[1] / frames.shape[1]
    # Eight units of `shift` a pixel make lines between pixels; a pixel of a frame became `scale` of them.
    places = (np.asarray(planning.world.pixel(jnp.asarray(np.concatenate([positions, goal[None]])))) + 0.5) * scale
    points = np.round(8 * (places - 0.5)).astype(np.int32)
    for t, frame in enumerate(large):
        cv2.circle(frame, tuple(map(int, points[-1])), 8 * 6, GOAL_COLOR, 2, cv2.LINE_AA, 3)
        cv2.polylines(frame, [points[: t + 1, None]], False, PATH_COLOR, 1, cv2.LINE_AA, 3)
    return large


def _fit(frames: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(media.fit(frames, MIN_SIDE, 2 * MIN_SIDE))


def plot_distance(path: pathlib.Path, bins: list[dict[str, Any]]) -> None:
    """Success over the length of the shortest path, with Wilson's intervals."""
    figure = Figure(figsize=(5, 3.4), layout="constrained")
    axes = figure.subplots()
    labels = [f"{found['from']:.0f} to {found['to']:.0f}\nn = {found['episodes']}" for found in bins]
    for name, text, color, side in (
        ("success", "at any step", LEVEL_COLORS[0], -0.08),
        ("terminal_success", "at the final step", LEVEL_COLORS[1], 0.08),
    ):
        _bars(axes, np.arange(len(bins)) + side, bins, name, text, color)
    axes.set_xticks(range(len(bins)), labels)
    tidy(axes, "length of the shortest path from start to goal")
    axes.set_ylim(0, 103)
    axes.set_ylabel("success rate (%)")
    axes.legend(frameon=False, loc="lower left")
    figure.savefig(path, dpi=150)


def plot_pareto(path: pathlib.Path, points: list[dict[str, Any]]) -> None:
    """Success over FLOPs of an episode, a line for each number of levels."""
    figure = Figure(figsize=(5, 3.4), layout="constrained")
    axes = figure.subplots()
    for level in sorted({point["levels"] for point in points}):
        own = sorted((point for point in points if point["levels"] == level), key=lambda point: point["flops"])
        text = f"{level} level{'s' if level > 1 else ''}"
        _bars(axes, [point["flops"] / 1e9 for point in own], own, "success", text, LEVEL_COLORS[level - 1], line="-")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda cost, _: f"{cost:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    tidy(axes, "planning, GFLOP an episode")
    axes.set_ylim(0, 103)
    axes.set_ylabel("success rate (%)")
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=150)


def _bars(axes: Any, x: Any, found: list[dict[str, Any]], name: str, label: str, color: str, line: str = "") -> None:
    value = 100 * np.array([one[name] for one in found])
    low, high = 100 * np.array([one[f"{name}_interval"] for one in found]).T
    axes.errorbar(x, value, [value - low, high - value], fmt=f"o{line}", color=color, capsize=3, label=label)
