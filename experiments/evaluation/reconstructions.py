"""Reconstructions of held-out clips: pictures in training, and the capability `imagine` of models that reconstruct.

Their experiments have `stages`, names of what is shown, the original first and the reconstruction last; a static method
`reconstructions(model, clip, keys)` that returns uint8 frames [batch, time, h, w, c] by stage; and `caveat`, a sentence
on what the model was given beyond the visible patches, or "".
"""

import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from flax import nnx
from markupsafe import Markup

from experiments.evaluation.rollouts import mean_frame, spread
from experiments.reports import media, report
from experiments.runs.files import fresh_folder, write_json
from experiments.runs.metrics import finite_or_none, read_metrics
from experiments.runs.values import Video
from world_models.core import sharding as parallel
from world_models.core.types import Array, Clip
from world_models.data.clips import Windows
from world_models.metrics import image

if TYPE_CHECKING:
    from experiments.runs.loading import LoadedRun

NUM_MEASURED = 64

# (model, clip, random keys [batch]) -> uint8 [batch, time, h, w, c] by stage; a module's function or a static method.
Reconstruct = Callable[[nnx.Module, Clip, Array], dict[str, Array]]


def reconstruct(
    function: Reconstruct, stages: Sequence[str], model: nnx.Module, clip: Clip, rows: np.ndarray, seed: int
) -> dict[str, np.ndarray]:
    """Reconstructions of a batch, compiled, in the order of `stages`; `rows` [batch] and `seed` decide the masks."""
    inputs = parallel.place_beside(model, (clip, rows))
    made = _reconstruct(function, model, *inputs, seed)
    return {name: parallel.on_host(made[name]) for name in stages}


@functools.partial(jax.jit, static_argnames="function")
def _reconstruct(function: Reconstruct, model: nnx.Module, clip: Clip, rows: Array, seed: int) -> dict[str, Array]:
    return function(model, clip, jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), rows))


def picture(stages: dict[str, np.ndarray], max_frames: int = 8) -> np.ndarray:
    """A grid, uint8 [height, width, 3]: a row an example, a column a stage; frames of a clip side by side."""
    rows = []
    for i in range(len(next(iter(stages.values())))):
        cells = []
        for frames in stages.values():
            shown = np.unique(np.linspace(0, frames.shape[1] - 1, max_frames).round().astype(int))
            cells.append(media.grid([list(media.fit(frames[i][shown], 96, 256)[:, None])], gutter=1))
        rows.append(cells)
    rows[0] = [media.labelled(name, cell) for name, cell in zip(stages, rows[0])]
    return media.grid(rows, gutter=6)[0]


class Pictures:
    """Evaluator: a picture of reconstructions of a few held-out clips, which is also written, to the same file."""

    def __init__(
        self, function: Reconstruct, stages: Sequence[str], windows: Windows, path: pathlib.Path, count: int
    ):  # fmt: skip
        """Draws `count` clips to the file `path`."""
        self._function, self._stages, self._path = function, stages, path
        self._rows = spread(windows, count)
        self._clip = windows.load(self._rows) if count else None

    def __call__(self, model: nnx.Module) -> dict[str, Video]:
        """Draws the clips and the model's reconstructions."""
        if self._clip is None:
            return {}
        stages = reconstruct(self._function, self._stages, model, self._clip, self._rows, 0)
        drawn = picture(stages)
        if parallel.is_main():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            media.write_png(self._path, drawn)
        return {"reconstructions": Video(drawn[None])}


def measure(run: "LoadedRun") -> dict[str, Any]:
    """The content of imagine/metrics.json."""
    return reconstructed(run)[1]


def reconstructed(run: "LoadedRun") -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reconstructions of held-out clips by stage, and their metrics.

    PSNR and SSIM of every stage beside the original, over whole frames, patches that the model was shown included;
    baselines that need no learning are the masked frames as they are and the mean frame of the training data.
    """
    data = run.config.data
    windows = run.windows(data.test_split, data.clip_length)
    rows = spread(windows, NUM_MEASURED)
    clip = windows.load(rows)
    experiment = run.experiment
    stages = reconstruct(
        experiment.reconstructions, experiment.stages, run.model, clip, rows, run.config.seed
    )  # fmt: skip
    original = next(iter(stages.values()))
    average = np.broadcast_to(mean_frame(run.windows(data.train_split, 1)), original.shape)
    metrics: dict[str, Any] = {"num_examples": len(rows)}
    for name, frames in [*list(stages.items())[1:], ("mean_frame", average)]:
        metrics.setdefault("psnr", {})[name] = float(np.mean(np.asarray(image.psnr(frames, original))))
        metrics.setdefault("ssim", {})[name] = float(np.mean(np.asarray(image.ssim(frames, original))))
    metrics |= {
        "caveat": experiment.caveat,
        "split": data.test_split,
        "step": run.step,
        "provenance": run.provenance_of(data.test_split),
    }
    return stages, finite_or_none(metrics)


def write(run: "LoadedRun") -> pathlib.Path:
    """Writes imagine/: metrics.json, reconstructions.png (and .mp4 of clips) and report.html; returns the report."""
    stages, metrics = reconstructed(run)
    path = run.workdir / "imagine"
    with fresh_folder(path) as folder:
        write_json(folder / "metrics.json", metrics)
        body = [report.paragraph(_summary(metrics)), *_figures(run, stages, folder)]
        title = f"Reconstructions: {run.workdir.name}"
        report.write_page(folder / "report.html", title, body, metrics["provenance"], run.config.to_dict())
    return path / "report.html"


def _figures(run: "LoadedRun", stages: dict[str, np.ndarray], folder: pathlib.Path) -> list[Markup]:
    """Writes pictures and videos; returns the figures of the report."""
    count, fps = run.config.eval.imagine.num_shown, run.config.eval.imagine.fps
    shown = {name: frames[spread(frames, count)] for name, frames in stages.items()}
    media.write_png(folder / "reconstructions.png", picture(shown))
    figures = [report.figure(folder / "reconstructions.png", "Held-out clips, an example a row.")]
    if run.config.data.clip_length > 1:
        cells = [[media.border(media.fit(clip, 128, 256)) for clip in row] for row in zip(*shown.values())]
        cells[0] = [media.labelled(name, cell) for name, cell in zip(shown, cells[0])]
        media.write_mp4(folder / "reconstructions.mp4", media.grid(cells, gutter=2), fps)
        figures.append(report.figure(folder / "reconstructions.mp4", f"The same in motion, {fps:g} frames a second."))
    if report.plot_training(folder / "training.png", read_metrics(run.workdir)):
        figures += [report.heading("Training"), report.figure(folder / "training.png", "The loss, by training step.")]
    return figures


def _summary(metrics: dict[str, Any]) -> str:
    sentences = "; ".join(
        f"{name.replace('_', ' ')}: PSNR {metrics['psnr'][name]:.2f} dB, SSIM {metrics['ssim'][name]:.3f}"
        for name in metrics["psnr"]
    )
    return f"{metrics['num_examples']} held-out clips. {sentences}. {metrics['caveat']}"
