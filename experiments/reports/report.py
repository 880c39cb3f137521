"""The report of `imagine`: one self-contained HTML file, for desktop and phone."""

import base64
import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from experiments.reports import html, sets
from experiments.reports.pictures import (
    METRICS,
    PREDICTORS,
    Futures,
    as_floats,
    plot_metrics,
    plot_training,
    write_media,
)
from experiments.runs.files import write_text

__all__ = [
    "Futures",
    "figure",
    "heading",
    "paragraph",
    "plot_metrics",
    "plot_training",
    "verdict",
    "write_media",
    "write_page",
    "write_report",
]

# (heading, file of `write_media`, caption).
SECTIONS = (
    (
        "Imagined beside what happened",
        "futures.mp4",
        "Held-out contexts, the same actions as in the truth. Left: what happened. Middle: the model, shown the frames "
        "framed in orange and then on its own. Right: the absolute error, from black (none) to pale yellow (a quarter "
        "of the range or more). Look at whether the things that move end up where they did.",
    ),
    (
        None,
        "strip.png",
        "Moments of two of these contexts; the numbers are horizons in steps, 0 is the last frame the model saw.",
    ),
    (
        "A long rollout",
        "long.mp4",
        "Under recorded actions the imagined world and the true one are different ones after some seconds; a policy "
        "steers by what is imagined. Look at whether it stays a world, and still follows the actions.",
    ),
    (
        "One context, different actions",
        "branches.mp4",
        "Every panel starts from the same frames (orange) and differs only in the actions. Look at whether each future "
        "does what its actions say; panels that all look alike mean that the model ignores them.",
    ),
    (None, "branches.png", "The same futures, moment by moment."),
    (
        "One context, same actions, different noise",
        "samples.mp4",
        "What differs between samples is what the model is unsure of. Last panel: the standard deviation of every "
        "pixel over the samples (pale yellow: a quarter of the range or more). Look at whether it lights up only where "
        "chance, or what the context hides, decides.",
    ),
    (None, "samples.png", "The same samples, moment by moment."),
)


ACTION_NOTE = (
    "Paired over contexts: the mean squared error (images in 0..1, changing pixels) under shuffled actions, minus that "
    "under the true ones; the interval is a bootstrap over contexts. A model that ignores its actions scores zero."
)


def write_report(
    folder: str | pathlib.Path,
    *,
    title: str,
    config: dict[str, Any],
    provenance: dict[str, Any],
    metrics: dict[str, Any],
    history: Sequence[dict[str, Any]],
    fps: float,
) -> pathlib.Path:
    """Writes `folder`/report.html, self-contained, with the media that `write_media` put into the same folder.

    Also writes metrics.png, training.png where the history has a training loss, and drift.png where that was measured.

    Args:
      folder: where the media are and the report goes.
      title: heading, plain text.
      config: the resolved config, anything `json.dumps` or `str` can show.
      provenance: git revision, device, versions, seeds, data set fingerprint and the like.
      metrics: `{"horizon": [1, 2, …], "psnr": {"imagined": […], "copy_last": […], "mean_frame": […]}, "psnr_changed":
        {same}, "ssim": {same}, "ssim_changed": {same}, "action_following": {"mean", "low", "high"}, "num_contexts",
        "num_context_frames", "changed_threshold"}`, perhaps with "distances" and "long_rollout" of those evaluators;
        None stands for NaN.
      history: lines of metrics.jsonl.
      fps: of the videos.

    Returns:
      The path of the report.

    Raises:
      FileNotFoundError: a file of `write_media` is missing.
    """
    folder = pathlib.Path(folder)
    plot_metrics(folder / "metrics.png", metrics)
    parts = [_parts().verdict(*verdict(metrics))]
    for section, name, caption in SECTIONS:
        if name == "long.mp4" and not (folder / name).exists():
            continue
        parts += [heading(section)] if section else []
        caption += f" {fps:g} frames a second." if name.endswith(".mp4") else ""
        parts.append(figure(folder / name, caption))
    parts += [heading("Numbers"), figure(folder / "metrics.png", _metrics_caption(metrics)), _table(metrics)]
    parts += [heading("Action following"), paragraph(_action_following(metrics)[1]), _parts().note(ACTION_NOTE)]
    parts += _sets(folder, metrics)
    if plot_training(folder / "training.png", history):
        parts += [heading("Training"), figure(folder / "training.png", "The minimized loss by training step.")]
    parts += _before_and_after(history)
    return write_page(folder / "report.html", title, parts, provenance, config)


def _sets(folder: pathlib.Path, metrics: dict[str, Any]) -> list[Markup]:
    """Distances and drift, where they were measured."""
    parts = []
    if found := metrics.get("distances"):
        heads, rows = sets.distance_rows(found)
        table = _parts().rows(heads, rows)
        parts += [heading("Distances from real clips"), table, paragraph(sets.about_distances(found))]
    if found := metrics.get("long_rollout"):
        sets.plot_drift(folder / "drift.png", found)
        parts += [heading("Long rollouts"), figure(folder / "drift.png", sets.about_drift(found))]
    return parts


def write_page(
    path: pathlib.Path, title: str, parts: Sequence[Markup | str], provenance: dict[str, Any], config: dict[str, Any]
) -> pathlib.Path:
    """Writes a report of parts under a heading, with provenance and config at its end.

    Args:
      path: the file to write.
      title: heading, plain text.
      parts: as `heading`, `paragraph` and `figure` make them; a plain string is escaped.
      provenance, config: anything that `json.dumps` or `str` can show.

    Returns:
      `path`.
    """
    style, style_source = html.inline("report.css")
    page = html.render(
        "report.html",
        title=title,
        step=provenance.get("step"),
        num_steps=config.get("train", {}).get("num_steps"),
        parts=parts,
        provenance=[(key, value if isinstance(value, str) else _json(value)) for key, value in provenance.items()],
        config=_json(config),
        style=style,
        style_source=style_source,
    )
    write_text(path, page)
    return path


def _before_and_after(history: Sequence[dict[str, Any]]) -> list[Markup]:
    """What training made of the weights that it began with, where `config.eval.first` had them measured."""
    start, name = "eval/open_loop/psnr_changed_imagined_", "PSNR over changing pixels, {} ahead (dB)"
    found = [line for line in history if any(key.startswith(start) for key in line)]
    if len(found) < 2 or found[0]["step"]:
        return []
    found = [found[0], found[-1]]
    keys = sorted((key for key in found[0] if key.startswith(start)), key=lambda key: int(key.removeprefix(start)))
    shown = lambda value: "–" if value is None else f"{value:.2f}"
    table = [[name.format(key.removeprefix(start)), *(shown(line.get(key)) for line in found)] for key in keys]
    heads = ["of held-out contexts, during training", *(f"step {line['step']}" for line in found)]
    return [heading("Before and after"), _parts().rows(heads, table)]


def heading(text: str) -> Markup:
    """A heading of a part of a report."""
    return _parts().heading(text)


def paragraph(text: str) -> Markup:
    """A paragraph of plain text."""
    return _parts().paragraph(text)


def _parts() -> Any:
    return html.macros("report_parts.html")


def verdict(metrics: dict[str, Any]) -> tuple[bool, str]:
    """Says in a few sentences what the metrics show.

    Returns:
      Whether the imagined frames beat copy-last over changing pixels at every horizon with such pixels and the action-
      following interval lies above zero; and the text.
    """
    beats_copy, copy_text = _compare(metrics, "copy_last", "copying the last frame", "the imagined frames")
    _, mean_text = _compare(metrics, "mean_frame", "the mean frame", "they")
    follows, action_text = _action_following(metrics)
    return (
        beats_copy and follows,
        f"Over pixels that change in the truth, {copy_text}, and {mean_text}. {action_text}",
    )


def _compare(metrics: dict[str, Any], baseline: str, name: str, subject: str) -> tuple[bool, str]:
    """Whether the imagined frames beat a baseline over changing pixels at every horizon; a clause that says where."""
    horizon = np.array(metrics["horizon"])
    gain = as_floats(metrics["psnr_changed"]["imagined"]) - as_floats(metrics["psnr_changed"][baseline])
    known = np.isfinite(gain)
    if not known.any():
        return False, f"there is nothing to compare with {name}"
    won = horizon[known & (gain > 0)].tolist()
    first, last = horizon[known][[0, -1]]
    ends = f"{gain[known][0]:+.2f} dB at horizon {first}, {gain[known][-1]:+.2f} dB at {last}"
    if len(won) == known.sum():
        return True, f"{subject} beat {name} at every horizon from {first} to {last} ({ends})"
    if not won:
        return False, f"{subject} beat {name} at no horizon ({ends})"
    return False, f"{subject} beat {name} at {len(won)} of {known.sum()} horizons: {_ranges(won)} ({ends})"


def _ranges(numbers: list[int]) -> str:
    """[1, 2, 3, 8] to "1–3, 8"."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], n]
        else:
            runs.append([n, n])
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in runs)


def _action_following(metrics: dict[str, Any]) -> tuple[bool, str]:
    """Whether the model is shown to follow its actions, and a sentence about it."""
    mean, low, high = as_floats([metrics["action_following"][key] for key in ("mean", "low", "high")])
    if not np.isfinite([mean, low, high]).all():
        return False, "Whether the model follows its actions could not be measured."
    change = f"{'raises' if mean >= 0 else 'lowers'} the squared error over changing pixels by {abs(mean):.2g}"
    interval = f"95 % interval {low:.2g} to {high:.2g}"
    if low > 0:
        return True, f"Shuffling the actions {change} ({interval}, above zero): the model follows its actions."
    if high < 0:
        return (
            False,
            f"Shuffling the actions {change} ({interval}, below zero): wrong actions predict better than right ones.",
        )
    return (
        False,
        f"Shuffling the actions {change} ({interval}, which holds zero): not shown that the model follows them.",
    )


def _metrics_caption(metrics: dict[str, Any]) -> str:
    return (
        f"Means over {metrics['num_contexts']} held-out contexts of {metrics['num_context_frames']} frames; PSNR and "
        "SSIM are computed per frame and then averaged (SSIM: 11x11 Gaussian window, σ 1.5; images in 0..1). Changing "
        f"pixels: those that have changed by more than {metrics['changed_threshold']} of 255 between two frames of the "
        "truth since the context ended."
    )


def _table(metrics: dict[str, Any]) -> Markup:
    """A row per horizon, a column per metric and predictor; the best predictor in bold."""
    names = [name for name in METRICS if name in metrics]
    rows = []
    for i, horizon in enumerate(metrics["horizon"]):
        cells = []
        for name in names:
            values = as_floats([metrics[name][predictor][i] for predictor in PREDICTORS])
            best = np.nanmax(values) if np.isfinite(values).any() else math.nan
            digits = 2 if name.startswith("psnr") else 3
            cells += [("–" if math.isnan(value) else f"{value:.{digits}f}", value == best) for value in values]
        rows.append((horizon, cells))
    labels = [label for label, *_ in PREDICTORS.values()]
    return _parts().table([METRICS[name] for name in names], labels, rows)


def figure(path: pathlib.Path, caption: str) -> Markup:
    """A video or picture, embedded, with its caption; wide pictures scroll sideways on a narrow screen."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: call write_media on {path.parent} before write_report")
    is_video = path.suffix == ".mp4"
    source = f"data:{'video/mp4' if is_video else 'image/png'};base64,{base64.b64encode(path.read_bytes()).decode()}"
    return _parts().figure(is_video, source, path.stem, caption)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)
