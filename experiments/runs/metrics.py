"""Metrics by training step: metrics.jsonl, TensorBoard and, if asked for, Weights & Biases."""

import json
import math
import pathlib
import uuid
from typing import Any

import ml_collections

from experiments.runs.files import write_text
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
        """Writes scalars of one step; a number that is not finite becomes null in JSON."""
        numbers = {name: float(value) for name, value in values.items()}
        self._file.write(json.dumps({"step": step, **finite_or_none(numbers)}) + "\n")
        for name, value in numbers.items():
            self._board.add_scalar(name, value, step)
        if self._wandb:
            self._wandb.log(numbers, step=step)

    def close(self) -> None:
        """Flushes everything."""
        self._file.close()
        self._board.close()
        if self._wandb:
            self._wandb.finish()


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
