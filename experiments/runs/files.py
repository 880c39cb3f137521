"""Files and folders that no reader sees half written, and JSON that may be damaged."""

import contextlib
import ctypes
import errno
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

from world_models.core.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[2]
"""The root of the repository."""

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@contextlib.contextmanager
def replaced(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a temporary file beside `path` to write, which takes its place when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a file atomically, folders included."""
    with replaced(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes JSON atomically; arrays become lists, and what JSON does not know its `str`."""
    write_text(path, json.dumps(value, indent=1, default=plain) + "\n")


def plain(value: Any) -> Any:
    """What `write_json` makes of a value that JSON does not know."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def read_json(path: pathlib.Path, remedy: str, keys: Sequence[str] | None = ()) -> Any:
    """Reads JSON that may be missing or damaged.

    Args:
      path: the file.
      remedy: what the user can do if it cannot be read, such as "delete it to have it measured again".
      keys: that the object in it must have; None if it need not be an object.

    Raises:
      UserError: naming the file, what is wrong with it, and the remedy.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: {remedy}.") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}): {remedy}.") from error
    if keys is not None:
        if not isinstance(found, dict):
            raise UserError(f"{path} is damaged (it holds no JSON object): {remedy}.")
        missing = [key for key in keys if key not in found]
        if missing:
            raise UserError(f"{path} is damaged ({missing[0]!r} is missing): {remedy}.")
    return found


@contextlib.contextmanager
def fresh_folder(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives an empty folder to fill, which takes the place of `path` when the block ends without an error.

    What was at `path` is deleted then; after an error it is as it was.
    """
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        try:
            temporary.rename(path)  # works over an empty folder as well
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            _exchange(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def end_line(path: pathlib.Path) -> None:
    """Ends the last line of a file of lines, which a crash may have cut short, so that it does not swallow the next."""
    with open(path, "ab+") as file:
        if file.tell() and (file.seek(-1, os.SEEK_END), file.read())[1] != b"\n":
            file.write(b"\n")


def _exchange(one: pathlib.Path, other: pathlib.Path) -> None:
    """Swaps two folders: in one step on Linux, in three where the system or its file system cannot."""
    library = ctypes.CDLL(None)
    if hasattr(library, "renameat2"):
        names = os.fsencode(one), os.fsencode(other)
        if library.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
            return
    aside = one.with_name(f"{one.name}.old")
    other.rename(aside)
    one.rename(other)
    aside.rename(one)


def check_writable(folder: pathlib.Path, size: int = 0) -> None:
    """Checks that files can be written to a folder, before time is spent on what is to go there.

    Args:
      folder: made where it is missing.
      size: bytes that will be needed at least.

    Raises:
      OSError: if nothing can be written.
      UserError: if there are fewer bytes free, on a file system that counts them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".{os.getpid()}.writable"
    try:
        probe.write_bytes(bytes(4096))
    except OSError as error:  # of a full disk it names no file
        raise OSError(error.errno, error.strerror, str(folder)) from error
    finally:
        probe.unlink(missing_ok=True)
    disk = shutil.disk_usage(folder)
    if disk.total and disk.free < size:
        raise UserError(
            f"{folder} needs at least {size / 2**20:,.1f} MiB, and {disk.free / 2**20:,.1f} MiB are free on its disk: "
            "free some or choose another --workdir."
        )
