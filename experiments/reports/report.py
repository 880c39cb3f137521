"""The report of `imagine`: one HTML file with everything in it, which opens from disk on a desk or a phone."""

import base64
import html
import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.reports.pictures import (
    METRICS,
    PREDICTORS,
    Futures,
    as_floats,
    plot_metrics,
    plot_training,
    write_media,
)

__all__ = ["Futures", "figure", "plot_metrics", "plot_training", "verdict", "write_media", "write_page", "write_report"]

# What to say under each video and strip; the file names are those of `write_media`.
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

    Also writes metrics.png, and training.png where the history has a training loss.

    Args:
      folder: where the media are and the report goes.
      title: heading, plain text.
      config: the resolved config, anything `json.dumps` or `str` can show.
      provenance: git revision, device, versions, seeds, data set fingerprint and the like.
      metrics: `{"horizon": [1, 2, …], "psnr": {"imagined": […], "copy_last": […], "mean_frame": […]}, "psnr_changed":
        {same}, "ssim": {same}, "ssim_changed": {same}, "action_following": {"mean", "low", "high"}, "num_contexts",
        "num_context_frames", "changed_threshold"}`; None stands for NaN.
      history: lines of metrics.jsonl.
      fps: of the videos.

    Returns:
      The path of the report.

    Raises:
      FileNotFoundError: a file of `write_media` is missing.
    """
    folder = pathlib.Path(folder)
    plot_metrics(folder / "metrics.png", metrics)
    parts = [_verdict(metrics)]
    for heading, name, caption in SECTIONS:
        parts.append(f"<h2>{html.escape(heading)}</h2>" if heading else "")
        caption += f" {fps:g} frames a second." if name.endswith(".mp4") else ""
        parts.append(figure(folder / name, caption))
    parts += ["<h2>Numbers</h2>", figure(folder / "metrics.png", _metrics_caption(metrics)), _table(metrics)]
    parts += ["<h2>Action following</h2>", f"<p>{html.escape(_action_following(metrics)[1])}</p>", _ACTION_NOTE]
    if plot_training(folder / "training.png", history):
        parts += [
            "<h2>Training</h2>",
            figure(folder / "training.png", "The loss that was minimised, by training step."),
        ]
    return write_page(folder / "report.html", title, parts, provenance, config)


def write_page(
    path: pathlib.Path, title: str, parts: Sequence[str], provenance: dict[str, Any], config: dict[str, Any]
) -> pathlib.Path:
    """Writes a report of `parts`, HTML, under a heading and with how it was made at its end; returns its path."""
    made = [
        _details("Provenance", _mapping(provenance)),
        _details("Config", f"<pre>{html.escape(_json(config))}</pre>"),
    ]
    body = "\n".join([f"<h1>{html.escape(title)}</h1>", *parts, "<h2>How it was made</h2>", *made])
    path.write_text(_PAGE.format(title=html.escape(title), style=_STYLE, body=body), encoding="utf-8")
    return path


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


def _verdict(metrics: dict[str, Any]) -> str:
    good, text = verdict(metrics)
    return f'<p class="verdict {"good" if good else "bad"}">{html.escape(text)}</p>'


def _metrics_caption(metrics: dict[str, Any]) -> str:
    return (
        f"Means over {metrics['num_contexts']} held-out contexts of {metrics['num_context_frames']} frames; PSNR and "
        "SSIM are computed per frame and then averaged (SSIM: 11x11 Gaussian window, σ 1.5; images in 0..1). Changing "
        f"pixels: those that have changed by more than {metrics['changed_threshold']} of 255 between two frames of the "
        "truth since the context ended."
    )


def _table(metrics: dict[str, Any]) -> str:
    """A row per horizon, a column per metric and predictor; the best predictor in bold."""
    names = [name for name in METRICS if name in metrics]
    head = "".join(f'<th colspan="{len(PREDICTORS)}">{html.escape(METRICS[name])}</th>' for name in names)
    labels = "".join(f"<th>{html.escape(label)}</th>" for _ in names for label, *_ in PREDICTORS.values())
    rows = []
    for i, horizon in enumerate(metrics["horizon"]):
        cells = [f"<th>{horizon}</th>"]
        for name in names:
            values = as_floats([metrics[name][predictor][i] for predictor in PREDICTORS])
            best = np.nanmax(values) if np.isfinite(values).any() else np.nan
            cells += [_number(value, 2 if name.startswith("psnr") else 3, value == best) for value in values]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head = f'<thead><tr><th rowspan="2">horizon</th>{head}</tr><tr>{labels}</tr></thead>'
    return f'<div class="scroll table"><table>{head}<tbody>{"".join(rows)}</tbody></table></div>'


def _number(value: float, digits: int, bold: bool) -> str:
    if math.isnan(value):
        return "<td>–</td>"
    return f"<td><b>{value:.{digits}f}</b></td>" if bold else f"<td>{value:.{digits}f}</td>"


def figure(path: pathlib.Path, caption: str) -> str:
    """A video or picture, embedded, with its caption; wide pictures scroll sideways on a narrow screen."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: call write_media on {path.parent} before write_report")
    data = base64.b64encode(path.read_bytes()).decode()
    if path.suffix == ".mp4":
        source = f"data:video/mp4;base64,{data}"
        shown = f'<video controls loop autoplay muted playsinline src="{source}"></video>'
    else:
        shown = f'<div class="scroll"><img alt="{html.escape(path.stem)}" src="data:image/png;base64,{data}"></div>'
    return f"<figure>{shown}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _details(summary: str, content: str) -> str:
    return f'<details><summary>{html.escape(summary)}</summary><div class="scroll">{content}</div></details>'


def _mapping(values: dict[str, Any]) -> str:
    rows = []
    for key, value in values.items():
        text = value if isinstance(value, str) else _json(value)
        rows.append(f"<tr><th>{html.escape(str(key))}</th><td><pre>{html.escape(text)}</pre></td></tr>")
    return f'<table class="mapping">{"".join(rows)}</table>'


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


_ACTION_NOTE = """<p class="note">Paired over contexts: the mean squared error (images in 0..1, changing pixels) under
shuffled actions, minus that under the true ones; the interval is a bootstrap over contexts. A model that ignores its
actions scores zero.</p>"""

_STYLE = """
:root { color-scheme: light dark; --ink: #1d1f23; --soft: #5b6068; --paper: #fbfbfa; --card: #fff; --line: #dcdee2;
  --good: #0072b2; --bad: #d55e00 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e7ea; --soft: #a2a7b0; --paper: #16181c; --card: #1f2227;
  --line: #3a3e46; --good: #56b4e9; --bad: #f0883e } }
* { box-sizing: border-box }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem;
  margin: 0 auto; padding: 1rem }
h1 { font-size: 1.6rem; line-height: 1.2; overflow-wrap: anywhere } h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem }
.verdict { background: var(--card); border: 1px solid var(--line); border-left: 5px solid var(--bad);
  border-radius: 6px; padding: .8rem 1rem; font-size: 1.05rem } .verdict.good { border-left-color: var(--good) }
figure { margin: 0 0 1.4rem } figcaption, .note { color: var(--soft); font-size: .9rem; margin-top: .4rem }
video { display: block; max-width: 100%; max-height: 90vh; margin: 0 auto; border-radius: 6px; background: #fff }
.scroll { overflow-x: auto; border-radius: 6px }
img { display: block; width: 100%; min-width: 44rem; background: #fff }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right; font-weight: normal }
thead th { color: var(--soft); vertical-align: bottom; border-bottom-width: 2px }
.table { max-height: 32rem; overflow-y: auto } .table td:nth-child(3n+2) { border-left: 1px solid var(--line) }
tbody th { position: sticky; left: 0; background: var(--paper) }
.mapping th, .mapping td { text-align: left; vertical-align: top } .mapping pre { margin: 0 }
details { border: 1px solid var(--line); border-radius: 6px; padding: .6rem 1rem; margin: .6rem 0;
  background: var(--card) }
details th { background: none; color: var(--soft) } summary { cursor: pointer }
pre { font-size: .8rem; line-height: 1.4 }
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""
