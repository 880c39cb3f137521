"""What a report says of sets of imagined frames: distances from real clips, and drift over long rollouts."""

import pathlib
from typing import Any

from matplotlib.figure import Figure

from experiments.reports.pictures import PREDICTORS, as_floats, tidy

SETS = {
    "imagined": "imagined",
    "real": "other real clips",
    "copy_last": "copy last",
    "shuffled_pixels": "real, pixels shuffled",
}
DISTANCES = {
    "frechet_frames": "Fréchet, frames",
    "frechet_clips": "Fréchet, clips",
    "kernel_frames": "kernel, frames",
    "kernel_clips": "kernel, clips",
}
BASELINES = {
    "real": ("other real windows", "#009E73", "-"),
    "shuffled_pixels": ("control: real, pixels shuffled", "#D55E00", "--"),
    "noise": ("control: noise", "#6B6B6B", ":"),
}


def plot_drift(path: str | pathlib.Path, found: dict[str, Any]) -> None:
    """Draws the distance of imagined windows from real ones, and their motion, against time, as a PNG on white.

    Baselines stand beside both.

    Args:
      path: the file to write.
      found: what `experiments.evaluation.long_rollouts.LongRollouts.measure` returns.
    """
    figure = Figure(figsize=(9.6, 6.6), dpi=120, layout="constrained")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    frame, curve = found["frame"], {name: as_floats(values) for name, values in found["drift"].items()}
    _, color, style = PREDICTORS["imagined"]
    axes.plot(frame, curve["imagined"], style, color=color, label="imagined", ms=4, lw=2)
    axes.fill_between(frame, curve["low"], curve["high"], color=color, alpha=0.2, lw=0)
    for name, (label, color, style) in BASELINES.items():
        distance, low, high = as_floats([found["baselines"][name][key] for key in ("distance", "low", "high")])
        axes.axhline(distance, color=color, ls=style, lw=1.6, label=label)
        axes.axhspan(low, high, color=color, alpha=0.12, lw=0)
    axes.set_yscale("symlog", linthresh=max(1e-3, abs(found["baselines"]["real"]["high"] or 0)))
    axes.set_title("Kernel distance from real windows", loc="left", fontsize=12)
    tidy(axes, "")
    axes.legend(frameon=False)
    _, color, style = PREDICTORS["imagined"]
    below.plot(frame, as_floats(found["motion"]["imagined"]), style, color=color, label="imagined", ms=4, lw=2)
    below.axhline(found["motion"]["real"], color="#009E73", lw=1.6, label="what happened")
    below.set_ylim(bottom=0)
    below.set_title("Share of pixels that change from a frame to the next", loc="left", fontsize=12)
    tidy(below, "frame")
    below.legend(frameon=False)
    figure.savefig(path)


def distance_rows(found: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Titles of the measured ones of `DISTANCES`, and for each set of clips a row of them with their intervals."""
    sets, rows = found["sets"], []
    names = [name for name in DISTANCES if name in sets]
    for of, label in SETS.items():
        cells = [as_floats([sets[name][of][key] for key in ("distance", "low", "high")]) for name in names]
        rows.append([label, *(f"{value:.3g} ({low:.3g} to {high:.3g})" for value, low, high in cells)])
    return ["", *(DISTANCES[name] for name in names)], rows


def about_distances(found: dict[str, Any]) -> str:
    """What the distances are of, and what else was measured with them."""
    one = found["sets"]["frechet_clips"]["imagined"]
    text = (
        f"Features: {found['features']}. {found['num_clips']} clips of {found['clip_frames']} frames in each set, from "
        f"{one['reference_count']} of the {found['reference']} split, with 95 % jackknife intervals. Fréchet distances "
        f"from so few samples are too large ({one['dimension']} dimensions for clips): compare them within this table "
        "alone. "
    )
    if diversity := found.get("diversity"):
        text += (
            f"Diversity: {diversity['num_samples']} futures of one context are {_short(diversity['imagined'])} apart "
            f"({_short(diversity['low'])} to {_short(diversity['high'])}), two real clips {_short(diversity['real'])}. "
        )
    if perceptual := found.get("lpips"):
        last = [_short(perceptual[of][-1]) for of in ("imagined", "copy_last")]
        text += f"LPIPS ({perceptual['network']}) of the last frame: imagined {last[0]}, copy last {last[1]}."
    return text.strip()


def about_drift(found: dict[str, Any]) -> str:
    """The caption of the plot of drift, with action following."""
    text = (
        f"Features: {found['features']}. Windows of {found['window']} frames of {found['num_contexts']} futures at "
        f"each time, from {found['num_reference']} real windows; unbiased, with 95 % jackknife intervals. "
    )
    if not found["control_found"]:
        text += "The controls are not clearly farther than real windows: these features cannot tell. "
    following, before = found["action_following"], 0
    for i, horizon in enumerate(following["horizon"]):
        mean, low, high = (_short(following[key][i]) for key in ("mean", "low", "high"))
        text += f"Action following, frames {before + 1} to {horizon}: {mean} ({low} to {high}). "
        before = horizon
    share, real = found["last"]["motion"], found["motion"]["real"]
    text += f"At the end {share:.2%} of all pixels change from a frame to the next, {real:.2%} in what happened. "
    return text.strip()


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}"
