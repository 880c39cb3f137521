"""Fingerprints: hex digests of what data sets hold, every byte of it."""

import concurrent.futures
import hashlib
import json
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import tensorflow_datasets as tfds

from world_models.core.errors import UserError
from world_models.data import cache
from world_models.data import metadata as metadata_file

_SETTLED = 2.0  # seconds: a file changed later than this before it was read may change again within one clock tick
_THREADS = 8


def of_dataset(builder: tfds.core.DatasetBuilder) -> str:
    """A digest of a data set: features, actions, what recorded it, and every record of every split.

    Names of files and package versions do not count. The digest of a file is kept
    with its size and time of modification, so that only new or changed files are read.

    Raises:
      UserError: if a file cannot be read. One that is missing counts as such; `open_records` tells where it is needed.
    """
    folder = pathlib.Path(builder.data_path)
    splits = {name: builder.info.splits[name] for name in sorted(builder.info.splits or ())}
    shards = {name: [pathlib.Path(str(path)) for path in split.filepaths] for name, split in splits.items()}
    about = [folder / "features.json", *sorted(folder.glob("*.labels.txt"))]
    digests = _digests([*about, *(path for paths in shards.values() for path in paths)])
    metadata = metadata_file.read(builder)
    whole = {
        "about": [(path.name, digests.get(path)) for path in about],
        "action": metadata.get("action"),
        "record": metadata.get("record"),
        "splits": {
            name: [(int(n), digests.get(path)) for n, path in zip(splits[name].shard_lengths, paths)]
            for name, paths in shards.items()
        },
    }
    return of_value(whole)


def of_value(value: Any) -> str:
    """A digest of a JSON value, 16 hex digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def without(whole: str, damaged: Sequence[int]) -> str:
    """The fingerprint of data without these records: to a run they are other data."""
    return of_value([whole, "without", list(damaged)])


def _digests(paths: Sequence[pathlib.Path]) -> dict[pathlib.Path, str]:
    """The digest of every file that is there; one that is unchanged since its digest was kept is not read."""
    now = time.time()
    states = {path: path.stat() for path in paths if path.exists()}
    store = cache.folder("fingerprints") / f"{of_value(sorted(str(path.resolve()) for path in paths))}.json"
    known = _load(store)
    marks = {path: f"{path.name}:{state.st_size}:{state.st_mtime_ns}" for path, state in states.items()}
    found = {path: known[mark] for path, mark in marks.items() if mark in known}
    unknown = [path for path in states if path not in found]
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        found |= dict(zip(unknown, pool.map(_digest, unknown)))
    if unknown:
        entries = {marks[path]: digest for path, digest in found.items() if now - states[path].st_mtime > _SETTLED}
        cache.store(store, lambda temporary: temporary.write_text(json.dumps(entries)))
    return found


def _load(path: pathlib.Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _digest(path: pathlib.Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): copy or make the data set again.") from error
