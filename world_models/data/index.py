"""What must be known of every episode of a split before training; finding it reads everything, so it is kept."""

import pathlib
import zipfile
from collections.abc import Sequence

import numpy as np

from world_models.core.errors import UserError
from world_models.data import cache, fingerprints
from world_models.data.columns import Columns
from world_models.data.frames import Frames
from world_models.data.records import DamagedRecord, DamagedRecords

_VERSION = 2  # of what an index holds


def find(columns: Columns, frames: Frames, damage: DamagedRecords, fingerprint: str) -> dict[str, np.ndarray]:
    """The index of a split.

    Args:
      columns: the split.
      frames: how its frames are stored.
      damage: counts damaged records.
      fingerprint: of the data set.

    Returns:
      "lengths" int64 [episodes], 0 where a record is damaged; "low" and "high", the smallest and largest actions [...];
      "values" [2], the smallest and largest number in frames, and "whole", whether all of them are whole numbers, where
      `frames.is_measured`; "damaged" int64 [n], the damaged records.

    Raises:
      UserError: if numbers are not finite, or too many or all records are damaged.
    """
    path = _path(columns, fingerprint)
    index = _load(path)
    if index is not None and all(_is_damaged(columns, int(episode), damage) for episode in index["damaged"]):
        return index
    damage.found.clear()  # damaged files were repaired
    index = _scan(columns, frames, damage)

    def save(temporary: pathlib.Path) -> None:
        with open(temporary, "wb") as file:
            np.savez(file, **index)

    cache.store(path, save)
    return index


def _path(columns: Columns, fingerprint: str) -> pathlib.Path:
    """Where the index is kept: which records these are, and what is read of them, decides the name."""
    parts = [(pathlib.Path(str(p.filename)).name, int(p.skip), int(p.take)) for p in columns.records.parts]
    key = fingerprints.of_value([_VERSION, parts, columns.image_key, columns.action_keys, list(columns.observations)])
    return cache.folder("index") / f"{fingerprint}-{key}.npz"


def _load(path: pathlib.Path) -> dict[str, np.ndarray] | None:
    try:
        with np.load(path) as saved:
            return dict(saved)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None


def _is_damaged(columns: Columns, episode: int, damage: DamagedRecords) -> bool:
    try:
        columns.read(episode)
    except DamagedRecord as error:
        damage.add(episode, error)
        return True
    return False


def _scan(columns: Columns, frames: Frames, damage: DamagedRecords) -> dict[str, np.ndarray]:
    """Reads the split; of single images only the first and last, unless the numbers in frames must be known."""
    count = len(columns)
    lengths, ranges = np.ones(count, np.int64), []
    for episode in range(count) if columns.is_rlds or frames.is_measured else (0, count - 1):
        try:
            found = columns.read(episode)
        except DamagedRecord as error:
            damage.add(episode, error)
            lengths[episode] = 0
            continue
        lengths[episode] = len(found[columns.image_key])
        if lengths[episode]:
            columns.check_numbers(episode, found)
            actions = columns.actions(found)
            values = frames.range_of(found[columns.image_key]) if frames.is_measured else (0, 0, True)
            ranges.append((actions.min(axis=0), actions.max(axis=0), *values))
    if not lengths.any():
        first = next(iter(damage.found.values()), "all episodes are empty")
        raise UserError(
            f"No record of split {columns.split!r} in {columns.name} can be read ({first}): record it again."
        )
    low, high, least, most, whole = zip(*ranges)
    return {
        "lengths": lengths,
        "low": np.min(low, axis=0),
        "high": np.max(high, axis=0),
        "values": np.array([np.min(least), np.max(most)], np.float64),
        "whole": np.array(all(whole)),
        "damaged": np.array(sorted(damage.found), np.int64),
    }


def merged(found: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The ranges of several indices together: "low", "high", "values" and "whole"."""
    every = lambda key: np.array([each[key] for each in found])
    values = every("values")
    return {
        "low": every("low").min(axis=0),
        "high": every("high").max(axis=0),
        "values": np.array([values[:, 0].min(), values[:, 1].max()]),
        "whole": every("whole").all(),
    }
