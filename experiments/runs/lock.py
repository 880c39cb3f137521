"""Locks on files and folders: one writer at a time, of all processes. No JAX here."""

import contextlib
import errno
import fcntl
import os
import pathlib
import socket
import sys
from collections.abc import Iterator
from typing import IO

from world_models.core.errors import UserError

NAME = "lock"
"""File of a folder that its only writer holds locked."""
UNSUPPORTED = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)  # by the file system


@contextlib.contextmanager
def file_lock(path: pathlib.Path, busy: str = "", doing: str = "writing") -> Iterator[None]:
    """Holds a lock on a file, alone among all processes; the lock ends with the block or with its process.

    The file says who holds it. It, and folders that are made for it, go when the block ends, unless something else is
    in them then. On a file system without locks it says so on standard error and goes on.

    Args:
      path: the file.
      busy: what to raise if another process holds the lock, which is named after it; empty waits for it.
      doing: what this process does meanwhile, for the others.

    Raises:
      UserError: `busy`.
      OSError: if the file cannot be written: the disk is full or read-only.
    """
    missing = [folder for folder in path.parents if not folder.exists()]
    file = _locked(path, busy)
    try:
        file.truncate()
        file.write(f"process {os.getpid()} on {socket.gethostname()}, {doing}")
        file.flush()
        yield
    finally:
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # what could not be written cannot be flushed either
            file.close()
        with contextlib.suppress(OSError):
            for folder in missing:
                folder.rmdir()


def exclusive(folder: pathlib.Path, doing: str = "writing") -> contextlib.AbstractContextManager[None]:
    """The lock of the one process that writes to a folder, as `file_lock`.

    Raises:
      UserError: on entering it, if another process holds it: which, on which host, and what it does there.
    """
    busy = f"--workdir={folder}: another process is writing there; wait for it or stop it"
    return file_lock(folder / NAME, busy, doing)


def _locked(path: pathlib.Path, busy: str) -> IO[str]:
    """The file at a path, open, empty where it is new, and locked."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = open(path, "a+")  # noqa: SIM115
        except FileNotFoundError:  # its last holder has removed the folder meanwhile
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read() or "a process that has just begun"
            if busy:
                file.close()
                raise UserError(f"{busy} ({holder}).") from error
            print(f"waiting for another process ({holder}), which holds {path}", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                file.close()
                raise
            print(f"{path} cannot be locked ({error.strerror}): start no other writer.", file=sys.stderr, flush=True)
            return file
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), os.fstat(file.fileno())):
                file.seek(0)
                return file
        file.close()  # its last holder has removed it meanwhile
