"""Checksums of finished checkpoints: whether every byte is still what was written."""

import json
import os
import pathlib
import sys
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from world_models.core.errors import UserError

BLOCK = 1 << 20  # bytes read at once
THREADS = 4  # zlib lets go of the interpreter while it sums
NAMED = 3  # files that a message names


def write(folder: pathlib.Path, step: int, source: pathlib.Path) -> None:
    """Writes the manifest of a checkpoint, atomically, and removes those whose checkpoint is gone.

    It lies beside the checkpoints, in `folder`/checksums/<step>.json, so that it outlives an interrupted deletion,
    and names every file of the items with its size and CRC-32. Files beside the items are left out: Orbax
    still changes those while it commits.

    Args:
      folder: of the checkpoints.
      step: of the checkpoint.
      source: where its files are now, which need not be `folder`/<step> yet.
    """
    path = _manifest(folder, step)
    path.parent.mkdir(exist_ok=True)
    for old in path.parent.glob("*.json"):
        if not (folder / old.stem).exists():
            old.unlink(missing_ok=True)
    files = [found for item in source.iterdir() if item.is_dir() for found in item.rglob("*") if found.is_file()]
    names = [file.relative_to(source).as_posix() for file in files]
    with ThreadPoolExecutor(THREADS) as pool:
        sums = dict(zip(names, pool.map(_checksum, files), strict=True))
    scratch = path.with_suffix(".tmp")
    with scratch.open("w") as file:
        json.dump({"checksum": "crc32", "files": sums}, file)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


def damage(folder: pathlib.Path, step: int, item: str = "") -> list[str]:
    """What is wrong with a checkpoint, a phrase for each damaged file; nothing if it is whole or cannot be verified.

    One whose manifest is missing or damaged cannot: standard error is told so.

    Args:
      folder: of the checkpoints.
      step: of the checkpoint.
      item: only the files of this item (all by default).
    """
    files = _read(folder, step)
    if files is None:
        text = f"{_manifest(folder, step)} is missing or damaged: checkpoint {step} cannot be verified, and is used."
        print(text, file=sys.stderr, flush=True)
        return []
    prefix = f"{item}/" if item else ""
    wanted = {name: facts for name, facts in files.items() if name.startswith(prefix)}
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(lambda name: _compare(folder / str(step) / name, *wanted[name]), wanted)
        return [f"{name} {what}" for name, what in zip(wanted, found, strict=True) if what]


def is_verifiable(folder: pathlib.Path, step: int) -> bool:
    """Whether a checkpoint has a manifest that can be read, against which `damage` compares it."""
    return _read(folder, step) is not None


def describe(found: list[str]) -> str:
    """The phrases of `damage` in one, the first few if there are many."""
    rest = len(found) - NAMED
    return "; ".join(found[:NAMED]) + (f"; and {rest} more" if rest > 0 else "")


def newest_whole(folder: pathlib.Path, item: str = "", *, move_aside: bool = False) -> int | None:
    """The newest checkpoint that is not damaged, or None if there are no checkpoints; says which ones it passes over.

    Args:
      folder: of the checkpoints.
      item: look at the files of this item only (at all by default).
      move_aside: whether to rename the damaged ones to <step>.damaged, with a number if that is taken.

    Raises:
      UserError: if there are checkpoints, also ones moved aside before, but none is whole.
    """
    steps = sorted((int(p.name) for p in folder.glob("*") if p.name.isdigit() and p.is_dir()), reverse=True)
    damaged: dict[int, str] = {}
    for step in steps:
        found = damage(folder, step, item)
        if not found:
            break
        damaged[step] = describe(found)
    else:
        if steps or any(folder.glob("*.damaged*")):
            what = "; ".join(f"checkpoint {step}: {found}" for step, found in damaged.items()) or "all were moved aside"
            raise UserError(
                f"{folder} has checkpoints, but none is whole ({what}): put an undamaged copy there, or choose another "
                "--workdir to start anew."
            )
        return None
    for passed, what in damaged.items():
        moved = f", moved to {_move_aside(folder, passed).name}" if move_aside else ""
        print(
            f"{folder}: checkpoint {passed} is damaged ({what}){moved}; using checkpoint {step}.",
            file=sys.stderr,
            flush=True,
        )
    return step


def from_main(decide: Callable[[], Any]) -> Any:
    """What `decide` returns or raises in process 0, in every process; it is called in that process only.

    Args:
      decide: looks at files, perhaps moves them, and returns something that JSON can hold.

    Raises:
      UserError: in the other processes, if process 0 raised anything.
    """
    if jax.process_count() == 1:
        return decide()
    said, failure = b"", None
    if jax.process_index() == 0:
        try:
            said = json.dumps({"value": decide()}).encode()
        except Exception as error:
            failure, said = error, json.dumps({"error": str(error)}).encode()
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(said))))
    letters = np.frombuffer(said.ljust(length), np.uint8)
    heard = json.loads(bytes(np.asarray(multihost_utils.broadcast_one_to_all(letters), np.uint8)))
    if failure:
        raise failure
    if "error" in heard:
        raise UserError(heard["error"])
    return heard["value"]


def _manifest(folder: pathlib.Path, step: int) -> pathlib.Path:
    return folder / "checksums" / f"{step}.json"


def _read(folder: pathlib.Path, step: int) -> dict[str, tuple[int, int]] | None:
    """{file: (size in bytes, CRC-32)} as a manifest says; None if it is missing or damaged."""
    try:
        files = json.loads(_manifest(folder, step).read_text())["files"]
        return {name: (int(size), int(total)) for name, (size, total) in files.items()} or None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _checksum(path: pathlib.Path) -> tuple[int, int]:
    """(size in bytes, CRC-32) of a file."""
    size, total, block = 0, 0, memoryview(bytearray(BLOCK))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            total, size = zlib.crc32(block[:count], total), size + count
    return size, total


def _compare(path: pathlib.Path, size: int, total: int) -> str:
    """What is wrong with a file, or nothing."""
    try:
        there = path.stat().st_size
        if there != size:
            return f"has {there} bytes, not {size}"
        return "" if _checksum(path) == (size, total) else "has changed"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _move_aside(folder: pathlib.Path, step: int) -> pathlib.Path:
    """Renames a checkpoint, so that nothing takes it for one any more, and puts its manifest inside."""
    target, number = folder / f"{step}.damaged", 1
    while target.exists():
        target, number = folder / f"{step}.damaged.{number}", number + 1
    (folder / str(step)).rename(target)
    _manifest(folder, step).replace(target / "checksums.json")
    return target
