"""Writing episodes from Python as a data set: data of another format, or of a program of one's own."""

import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from world_models.core.errors import UserError
from world_models.data import rlds
from world_models.data.episodes import Episode, encode
from world_models.data.schema import LARGEST


def write_episodes(
    output: str | os.PathLike,
    episodes: Iterable[Mapping[str, Any]],
    *,
    splits: Mapping[str, float] | None = None,
    num_actions: int = 0,
    bounds: tuple[Sequence[float], Sequence[float]] | None = None,
    text: str = "Episodes written from Python.",
    seed: int = 0,
) -> pathlib.Path:
    """Writes a data set that `config.data.dataset` can name. It appears only once all of it is on disk.

    Args:
      output: the directory to make.
      episodes: one mapping an episode, of T steps; only one is in memory at a time:
        "frames": uint8 [T, height, width, 3 (RGB) or 1 (gray)], of one size in all episodes.
        "actions": int [T] (discrete) or float [T, dim]; `actions[t]` was done after seeing `frames[t]`. The last may be
          missing. Optional; without actions there is one, which says nothing.
        "rewards": float [T], what `actions[t]` led to; the last may be missing. Optional.
        "terminal": whether the environment ended the episode, which otherwise was cut. Optional.
      splits: share of the episodes by split: "train", "validation", "test".
      num_actions: of a discrete action space; 0 for the largest + 1.
      bounds: (low, high) of continuous actions; None for those of the data.
      text: what the episodes are, in a sentence, for the metadata.
      seed: of the choice of episodes for the splits.

    Returns:
      `output`.

    Raises:
      UserError: if `output` exists, or an episode cannot be written; it is named by its number.
    """
    output = pathlib.Path(output).expanduser()
    if output.exists():
        raise UserError(f"{output} exists already: name another directory, or delete it.")
    shares = dict(splits or {"train": 0.9, "validation": 0.1})
    if not set(shares) <= set(rlds.SPLITS) or min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-6:
        raise UserError(f"splits={shares} must be shares of {', '.join(rlds.SPLITS)} that sum to 1.")
    output.parent.mkdir(parents=True, exist_ok=True)
    scratch = pathlib.Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        files, shape, size = [], None, 1
        for number, fields in enumerate(episodes):
            episode, found = _episode(fields, number)
            shape = shape or found
            if found != shape:
                raise UserError(f"Episode {number} has {_words(found)}, and the ones before {_words(shape)}.")
            if not shape[1]:
                size = max(size, int(episode.actions.max()) + 1)
            files.append(rlds.Stored(number, scratch / f"{number}.episode", {}))
            episode.save(files[-1].path)
        if not files:
            raise UserError("There are no episodes to write.")
        action = _action(shape[1], size, num_actions, bounds)
        dealt = rlds.split_episodes(range(len(files)), shares, seed, field="splits")
        description = rlds.Description(shape[0][:2], action, text, {}, rlds.versions(()))
        rlds.write(output, scratch / "data", description, {k: [files[i] for i in v] for k, v in dealt.items()})
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return output


def _episode(fields: Mapping[str, Any], number: int) -> tuple[Episode, tuple[tuple[int, ...], int]]:
    """An episode, and (shape of a frame, numbers in a continuous action; 0 for discrete ones)."""
    unknown = set(fields) - {"frames", "actions", "rewards", "terminal"}
    if unknown or "frames" not in fields:
        raise UserError(f"Episode {number} has {sorted(fields)}: frames, actions, rewards and terminal can be written.")
    frames = np.asarray(fields["frames"])
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] not in (1, 3) or not len(frames):
        raise UserError(
            f"Episode {number} has frames {frames.dtype} {list(frames.shape)}: they must be uint8 [time, height, "
            "width, channel] with 1 or 3 channels."
        )
    length = len(frames)
    actions = _steps(fields.get("actions", np.zeros(length, np.int64)), length, "actions", number)
    is_discrete = actions.ndim == 1 and actions.dtype.kind in "iub"
    if not is_discrete and (actions.ndim != 2 or actions.dtype.kind not in "iuf"):
        raise UserError(
            f"Episode {number} has actions {actions.dtype} {list(actions.shape)}: int [T] or float [T, dim]."
        )
    if is_discrete and actions.min() < 0:
        raise UserError(f"Episode {number} has the action {actions.min()}: discrete actions count from 0.")
    rewards = _steps(fields.get("rewards", np.zeros(length)), length, "rewards", number)
    if rewards.ndim != 1:
        raise UserError(f"Episode {number} has rewards {list(rewards.shape)}: one number a step.")
    actions = actions.astype(np.int64 if is_discrete else np.float32)
    images = [encode(np.repeat(frame, 3 // frame.shape[-1], axis=-1), frame.shape[:2]) for frame in frames]
    episode = Episode(images, actions, rewards.astype(np.float32), bool(fields.get("terminal", False)))
    return episode, (frames.shape[1:], 0 if is_discrete else actions.shape[1])


def _steps(values: Any, length: int, name: str, number: int) -> np.ndarray:
    """The values [time, ...] of all steps; a last one that is missing is 0."""
    values = np.asarray(values)
    if len(values) == length - 1:
        values = np.concatenate([values, np.zeros((1, *values.shape[1:]), values.dtype)])
    if len(values) != length:
        raise UserError(f"Episode {number} has {length} frames and {len(values)} {name}: as many, or one less.")
    wrong = np.argwhere(~(np.abs(values) <= LARGEST)) if name == "actions" else np.argwhere(~np.isfinite(values))
    if len(wrong):
        place = tuple(wrong[0])
        raise UserError(f"Episode {number} has {values[place]:g} in {name} at step {place[0]}: it is no usable number.")
    return values


def _action(dim: int, size: int, num_actions: int, bounds: tuple[Sequence[float], Sequence[float]] | None) -> dict:
    """What the data set declares of its actions."""
    if dim:
        low, high = ([float(bound) for bound in side] for side in bounds or ((), ()))
        if bounds and not len(low) == len(high) == dim:
            raise UserError(f"bounds={bounds!r} must be (low, high) of {dim} numbers each.")
        return {"kind": "continuous", "size": dim, "low": low, "high": high}
    if num_actions and num_actions < size:
        raise UserError(f"num_actions={num_actions} must be at least {size}: the largest action is {size - 1}.")
    return {"kind": "discrete", "size": num_actions or size, "low": [], "high": []}


def _words(shape: tuple[tuple[int, ...], int]) -> str:
    frame, dim = shape
    return f"frames {list(frame)} and {f'actions of {dim} numbers' if dim else 'discrete actions'}"
