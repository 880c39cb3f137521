"""Videos and picture strips of imagined futures, and plots of their metrics, for `imagine`."""

import dataclasses
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.reports import media

MAX_FUTURES = 4
"""Contexts in the video of futures; half as many in the strip."""

MAX_BRANCHES = 7
"""Branches and samples drawn; with the truth they fill two rows of four."""

# Colours that the colour-blind tell apart on white (Okabe and Ito), and marks for those who print in grey.
PREDICTORS = {
    "imagined": ("imagined", "#0072B2", "o-"),
    "copy_last": ("copy last", "#D55E00", "s--"),
    "mean_frame": ("mean frame", "#6B6B6B", "^:"),
}
METRICS = {
    "psnr_changed": "PSNR over changing pixels (dB)",
    "ssim_changed": "SSIM over changing pixels",
    "psnr": "PSNR over all pixels (dB)",
    "ssim": "SSIM over all pixels",
}


@dataclasses.dataclass
class Futures:
    """Imagined futures beside what happened; all frames uint8 (0..255) with 1 or 3 channels.

    Attributes:
      num_context: number of frames the model was shown.
      truth: [n, num_context + horizon, h, w, c], what happened.
      imagined: [n, horizon, h, w, c], under the same actions as the truth.
      branch_truth: [num_context (+ horizon), h, w, c], the context that all branches share (and what came of it).
      branches: [k, horizon, h, w, c], one context under k action sequences.
      branch_labels: k names of these sequences.
      sample_truth: [num_context + horizon, h, w, c].
      samples: [s, horizon, h, w, c], one context, the same actions, different noise.
      long_truth, long: as `truth` and `imagined`, over a longer horizon, or None; without the truth, a policy steered.
    """

    num_context: int
    truth: np.ndarray
    imagined: np.ndarray
    branch_truth: np.ndarray
    branches: np.ndarray
    branch_labels: list[str]
    sample_truth: np.ndarray
    samples: np.ndarray
    long_truth: np.ndarray | None = None
    long: np.ndarray | None = None


def write_media(folder: str | pathlib.Path, futures: Futures, *, fps: float) -> dict[str, pathlib.Path]:
    """Writes futures, branches and samples, each as .mp4, .gif and a strip .png (futures': strip.png), and long.mp4.

    Args:
      folder: made where it is missing.
      futures: what to show; of many contexts, branches or samples the first few are drawn.
      fps: of the videos.

    Returns:
      Paths by file name: futures.mp4, futures.gif, strip.png, branches.mp4, and so on.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    draw_futures = lambda f: futures_video(f.num_context, f.truth[:MAX_FUTURES], f.imagined[:MAX_FUTURES])
    videos = {"futures": draw_futures, "branches": _branches_video, "samples": _samples_video}
    if futures.long is not None:
        videos["long"] = _long_video
    strips = {"strip": _futures_strip, "branches": _branches_strip, "samples": _samples_strip}
    paths = {}
    for name, draw in videos.items():
        steered = name == "long" and futures.long_truth is None
        frames = media.with_clock(draw(futures), 0 if steered else futures.num_context)
        writers = {".mp4": media.write_mp4} | ({".gif": media.write_gif} if name != "long" else {})
        for suffix, write in writers.items():
            paths[name + suffix] = folder / (name + suffix)
            write(paths[name + suffix], frames, fps)
    for name, draw in strips.items():
        paths[name + ".png"] = folder / (name + ".png")
        media.write_png(paths[name + ".png"], draw(futures))
    return paths


def plot_metrics(path: str | pathlib.Path, metrics: dict[str, Any]) -> None:
    """Draws PSNR and SSIM, over changing and over all pixels, against the horizon, as a PNG on white.

    Args:
      path: the file to write.
      metrics: as in `write_report`; metrics that are missing are left out.
    """
    names = [name for name in METRICS if name in metrics]
    figure = Figure(figsize=(9.6, 3.6 * math.ceil(len(names) / 2)), dpi=120, layout="constrained")
    for i, name in enumerate(names):
        axes = figure.add_subplot(math.ceil(len(names) / 2), 2, i + 1)
        for predictor, (label, color, style) in PREDICTORS.items():
            values = as_floats(metrics[name].get(predictor, []))
            if values.size:
                mark_every = max(1, values.size // 16)
                axes.plot(metrics["horizon"], values, style, color=color, label=label, markevery=mark_every, ms=5, lw=2)
        axes.set_title(METRICS[name], loc="left", fontsize=12)
        axes.xaxis.get_major_locator().set_params(integer=True)
        tidy(axes, "horizon (steps)")
        if i == 0:
            axes.legend(frameon=False)
    figure.savefig(path)


def plot_training(path: str | pathlib.Path, history: Sequence[dict[str, Any]]) -> bool:
    """Draws the training loss, as logged and smoothed, as a PNG on white; returns False where there is none to draw.

    Args:
      path: the file to write.
      history: lines of metrics.jsonl; those with "step" and "train/loss" count.
    """
    points = [(line["step"], line["train/loss"]) for line in history if line.get("train/loss") is not None]
    if not points:
        return False
    steps, losses = np.array(points, np.float64).T
    figure = Figure(figsize=(9.6, 3.4), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.plot(steps, losses, color="#0072B2", alpha=0.35, lw=1, label="as logged")
    window = 2 * (len(losses) // 20) + 1
    if window > 1:
        kernel = np.ones(window)
        smooth = np.convolve(losses, kernel, "same") / np.convolve(np.ones_like(losses), kernel, "same")
        axes.plot(steps, smooth, color="#0072B2", lw=2, label=f"mean over {window} lines")
    axes.set_title("Training loss", loc="left", fontsize=12)
    if (losses > 0).all():
        axes.set_yscale("log")
    tidy(axes, "step")
    axes.legend(frameon=False)
    figure.savefig(path)
    return True


def futures_video(num_context: int, truth: np.ndarray, imagined: np.ndarray) -> np.ndarray:
    """Rows of contexts; columns truth, imagined (context, then the model's frames) and error.

    Args:
      num_context: number of frames the model was shown.
      truth: uint8 [n, num_context + horizon, h, w, c], with 1 or 3 channels.
      imagined: uint8 [n, horizon, h, w, c].

    Returns:
      uint8 [num_context + horizon, height, width, 3]; the context's frames have a frame in colour.
    """
    rows = []
    for true, future in zip(truth, imagined):
        shown = np.concatenate([true[:num_context], future])
        error = media.border(_fit(media.error_heatmap(shown, true)))
        rows.append([_cell(true, num_context), _cell(shown, num_context), error])
    labels = ("what happened", "imagined", "error")
    rows[0] = [media.labelled(label, cell) for label, cell in zip(labels, rows[0])]
    return media.grid(rows, gutter=2)


def _long_video(futures: Futures) -> np.ndarray:
    """Two contexts a row, each as it happened and as it was imagined; or what was imagined alone."""
    count, imagined = futures.num_context, futures.long[:MAX_FUTURES]
    if futures.long_truth is None:
        return media.side_by_side([_cell(frames, 0) for frames in imagined], ["imagined"] * len(imagined))
    pairs = [
        (_cell(true, count), _cell(np.concatenate([true[:count], future]), count))
        for true, future in zip(futures.long_truth, imagined)
    ]
    rows = [[cell for pair in pairs[i : i + 2] for cell in pair] for i in range(0, len(pairs), 2)]
    rows[0] = [media.labelled(("what happened", "imagined")[i % 2], cell) for i, cell in enumerate(rows[0])]
    return media.grid(rows, gutter=2)


def _branches_video(futures: Futures) -> np.ndarray:
    """The truth, where it is known, and every branch, each after the context they share."""
    context, branches = futures.branch_truth[: futures.num_context], futures.branches[:MAX_BRANCHES]
    cells = [_cell(np.concatenate([context, branch]), futures.num_context) for branch in branches]
    labels = list(futures.branch_labels[:MAX_BRANCHES])
    if len(futures.branch_truth) == len(context) + branches.shape[1]:
        cells, labels = [_cell(futures.branch_truth, futures.num_context), *cells], ["what happened", *labels]
    return media.side_by_side(cells, labels)


def _samples_video(futures: Futures) -> np.ndarray:
    """The truth, every sample, and last the standard deviation over all samples."""
    context, samples = futures.sample_truth[: futures.num_context], futures.samples
    shown = samples[: MAX_BRANCHES - 1]
    cells = [_cell(np.concatenate([context, sample]), futures.num_context) for sample in shown]
    spread = media.spread_heatmap(samples)
    spread = np.concatenate([np.zeros((len(context), *spread.shape[1:]), np.uint8), spread])
    cells = [_cell(futures.sample_truth, futures.num_context), *cells, media.border(_fit(spread))]
    return media.side_by_side(cells, ["what happened", *_sample_labels(shown), "spread of samples"])


def _futures_strip(futures: Futures) -> np.ndarray:
    rows, start = [], futures.num_context
    for truth, imagined in zip(futures.truth[: MAX_FUTURES // 2], futures.imagined):
        error = media.error_heatmap(imagined, truth[start:])
        rows += [("what happened", 0, truth), ("imagined", start, imagined), ("error", start, error)]
    return _strip(futures, rows)


def _branches_strip(futures: Futures) -> np.ndarray:
    branches = zip(futures.branch_labels[:MAX_BRANCHES], futures.branches)
    rows = [(label, futures.num_context, branch) for label, branch in branches]
    return _strip(futures, [("what happened", 0, futures.branch_truth), *rows])


def _samples_strip(futures: Futures) -> np.ndarray:
    start, shown = futures.num_context, futures.samples[: MAX_BRANCHES - 1]
    rows = [(label, start, sample) for label, sample in zip(_sample_labels(shown), shown)]
    spread = ("spread", start, media.spread_heatmap(futures.samples))
    return _strip(futures, [("what happened", 0, futures.sample_truth), *rows, spread])


def _strip(futures: Futures, rows: list[tuple[str, int, np.ndarray]]) -> np.ndarray:
    columns = media.strip_columns(futures.num_context, futures.imagined.shape[1])
    return media.picture_strip(rows, futures.num_context, columns)


def _sample_labels(samples: np.ndarray) -> list[str]:
    return [f"sample {i + 1}" for i in range(len(samples))]


def _fit(frames: np.ndarray) -> np.ndarray:
    return media.fit(frames, min_side=192, max_side=384)


def _cell(frames: np.ndarray, num_context: int) -> np.ndarray:
    """A video [num_context + horizon, h, w, c] at a size for looking, its context framed in colour."""
    return media.border(_fit(frames), np.arange(len(frames)) < num_context)


def tidy(axes: Axes, xlabel: str) -> None:
    """The style of all plots: a pale grid, no frame at the top and the right."""
    axes.set_xlabel(xlabel)
    axes.grid(color="#DDDDDD", lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def as_floats(values: Sequence[float | None]) -> np.ndarray:
    """Numbers from JSON, where null stands for NaN."""
    return np.array([np.nan if value is None else value for value in values], np.float64)
