"""Which folders can be used from the first file to the last."""

import os
import pathlib
import re

from world_models.core.errors import ConfigError, UserError

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")  # pathlib makes one slash of two
SPECIAL = "*?[\\"
"""Checkpoints beneath such names could not be read: Orbax takes *, ? and [ for patterns, TensorStore \\ for /."""


def is_url(path: str | os.PathLike) -> bool:
    """Whether a path has a scheme, such as gs://."""
    return bool(SCHEME.match(os.fspath(path)))


def local_path(path: str | os.PathLike, field: str) -> pathlib.Path:
    """A path of this machine at which checkpoints and data sets can be written and read.

    Args:
      path: absolute, or from the current folder.
      field: the flag or field of the config that it is the value of, such as "--workdir".

    Raises:
      UserError: if it is empty, has a scheme, or has a character that other libraries read as something else, or that
        ends a line; a ConfigError if `field` is one of the config.
    """
    text = os.fspath(path)
    bad = sorted({char for char in os.path.abspath(text) if char in SPECIAL or not char.isprintable()})
    if not text:
        problem = "must not be empty"
    elif is_url(text):
        problem = "must be a folder of this machine (a bucket can be mounted as one)"
    elif bad:
        where = "" if os.path.isabs(text) else f" (in {os.getcwd()!r})"
        problem = f"{where} must not have {' '.join(map(repr, bad))} in its path: choose or rename a folder".strip()
    else:
        return pathlib.Path(path)
    message = f"{field}={text!r} {problem}."
    raise ConfigError(field, message) if field.startswith("config.") else UserError(message)
