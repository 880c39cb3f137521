"""Where what was found out about data sets is kept between runs. A cache that cannot be used costs time, no more."""

import contextlib
import os
import pathlib
from collections.abc import Callable


def folder(kind: str) -> pathlib.Path:
    """The folder of one kind of entries, such as "index"."""
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "world_models" / kind


def store(path: pathlib.Path, write: Callable[[pathlib.Path], None]) -> None:
    """Has `write` make a file, which takes its place at once; nothing happens where that is not possible."""
    temporary = path.with_name(f"{os.getpid()}-{path.name}")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
