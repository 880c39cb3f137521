"""Metrics by training step: metrics.jsonl, TensorBoard and, if asked for, Weights & Biases."""

import io
import json
import math
import pathlib
import uuid
from typing import Any

import ml_collections

from experiments.runs.files import write_text
from experiments.runs.values import Video, numbers
from world_models.core.errors import ConfigError

FILE = "metrics.jsonl"
WANDB_ID = "wandb_id"


class MetricsWriter:
    """Writes scalars by step to `metrics.jsonl`, TensorBoard events, and Weights & Biases if the config asks for it."""

    def __init__(self, workdir: pathlib.Path, config: ml_collections.ConfigDict, *, from_step: int):
        """Opens everything for appending; lines of steps after `from_step`, which will be done again, are dropped.

        Args:
          workdir: folder of the run.
          config: its config; W&B keeps it.
          from_step: newest step that stays.
        """
        from tensorboardX import SummaryWriter

        path = workdir / FILE
        if path.exists():  # rewritten beside it and renamed; a last line that a crash cut short goes
            kept = [line for line in read_metrics(workdir) if line["step"] <= from_step]
            write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = open(path, "a", buffering=1)  # noqa: SIM115
        self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=from_step + 1)
        self._wandb = _start_wandb(workdir, config) if config.runtime.wandb.enabled else None

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Writes what one step gave: numbers everywhere (null in JSON if not finite), videos where they can be seen."""
        scalars = numbers(values)
        self._file.write(json.dumps({"step": step, **finite_or_none(scalars)}) + "\n")
        for name, value in scalars.items():
            self._board.add_scalar(name, value, step)
        videos = {name: _encoded(value) for name, value in values.items() if isinstance(value, Video)}
        for name, (image, size) in videos.items():
            self._add_image(name, image, size, step)
        if self._wandb:
            shown = {name: _for_wandb(values[name], image) for name, (image, _) in videos.items()}
            self._wandb.log(scalars | shown, step=step)

    def _add_image(self, name: str, image: bytes, size: tuple[int, int], step: int) -> None:
        """Adds an encoded image to TensorBoard, which plays GIFs; its own `add_video` would need another library."""
        from tensorboardX.proto.summary_pb2 import Summary

        image_proto = Summary.Image(height=size[0], width=size[1], colorspace=3, encoded_image_string=image)
        self._board.file_writer.add_summary(Summary(value=[Summary.Value(tag=name, image=image_proto)]), step)

    def close(self) -> None:
        """Flushes everything."""
        self._file.close()
        self._board.close()
        if self._wandb:
            self._wandb.finish()


def _encoded(video: Video) -> tuple[bytes, tuple[int, int]]:
    """(A PNG of one frame or a GIF of several, (height, width))."""
    from experiments.reports import (
        media,
    )  # it imports plotting and video libraries, which readers of metrics do not need

    buffer = io.BytesIO()
    if len(video.frames) == 1:
        media.write_png(buffer, media.to_rgb(video.frames[0]))
    else:
        media.write_gif(buffer, video.frames, video.fps)
    return buffer.getvalue(), video.frames.shape[1:3]


def _for_wandb(video: Video, image: bytes) -> Any:
    import wandb

    return wandb.Image(video.frames[0]) if len(video.frames) == 1 else wandb.Video(io.BytesIO(image), format="gif")


def finite_or_none(value: Any) -> Any:
    """Replaces NaN and infinities, which JSON does not know, by None, at any depth."""
    if isinstance(value, dict):
        return {key: finite_or_none(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_none(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def read_metrics(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`, dictionaries with "step"; damaged lines, as a crash leaves them, are left out."""
    path = workdir / FILE
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        try:
            values = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(values, dict) and isinstance(values.get("step"), int):
            found.append(values)
    return found


def _start_wandb(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> Any:
    """Starts or resumes the W&B run of a workdir, whose id is kept there; what is empty is left to W&B's variables."""
    try:
        import wandb
    except ImportError as error:
        raise ConfigError(
            "config.runtime.wandb.enabled",
            "config.runtime.wandb.enabled=True needs the extra: pip install -e '.[wandb]', or set it to False.",
        ) from error
    path = workdir / WANDB_ID
    if not path.exists():
        write_text(path, uuid.uuid4().hex[:8])
    options = config.runtime.wandb
    return wandb.init(
        dir=str(workdir),
        id=path.read_text().strip(),
        name=workdir.name,
        config=config.to_dict(),
        resume="allow",
        project=options.project or None,
        entity=options.entity or None,
        group=options.group or None,
        tags=list(options.tags) or None,
        mode=options.mode or None,
    )
