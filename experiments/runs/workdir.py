"""The folder of a run: its config, where it came from, and who may write there."""

import contextlib
import datetime
import fcntl
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import ml_collections

from experiments.runs.config import MAY_CHANGE
from world_models.core.errors import UserError

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes JSON atomically: the file is whole or it is the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value, indent=1, default=_plain) + "\n")
    temporary.replace(path)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    """Fields that differ between two nested dicts, as (dotted path, old value, new value)."""
    found = []
    for key in sorted(old.keys() | new.keys()):
        path, a, b = f"{prefix}{key}", old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{path}.")
        elif a != b:
            found.append((path, a, b))
    return found


def claim(workdir: pathlib.Path, config: ml_collections.ConfigDict, *, write: bool = True) -> None:
    """Makes `workdir` the folder of this config, or checks that it is; only checks unless `write`.

    Raises:
      UserError: if the folder belongs to a run of another config. Nothing is changed then.
    """
    path = workdir / "config.json"
    resolved = json.loads(json.dumps(config.to_dict(), default=_plain))
    if path.exists():
        changed = differences(json.loads(path.read_text()), resolved)
        fatal = [c for c in changed if not any(c[0] == name or c[0].startswith(f"{name}.") for name in MAY_CHANGE)]
        if fatal:
            fields = "; ".join(f"config.{name} is {new!r}, there it is {old!r}" for name, old, new in fatal[:8])
            raise UserError(f"{workdir} belongs to another config ({fields}): choose another --workdir or undo that.")
    if write:
        write_json(path, resolved)


def load_config(workdir: pathlib.Path) -> ml_collections.ConfigDict:
    """The config of a run.

    Raises:
      UserError: if the folder holds no run.
    """
    path = workdir / "config.json"
    if not path.exists():
        raise UserError(f"--workdir={workdir} holds no run (no config.json): run launch.py train there first.")
    return ml_collections.ConfigDict(with_tuples(json.loads(path.read_text())))


def with_tuples(value: Any) -> Any:
    """`value` with the tuples that JSON has made lists of: flags override no list."""
    if isinstance(value, dict):
        return {name: with_tuples(part) for name, part in value.items()}
    return tuple(map(with_tuples, value)) if isinstance(value, list) else value


def revision() -> str:
    """The git revision of this code, with "+changes" if files differ from it; results are no code."""
    root = pathlib.Path(__file__).resolve().parents[2]

    def git(*words: str) -> str:
        return subprocess.run(("git", *words), cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + (
            "+changes" if git("status", "--porcelain", "--", ".", ":!results", ":!README.md") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def versions() -> dict[str, str]:
    """Versions of Python and the packages that numbers depend on."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in PACKAGES}}


def provenance(**extra: Any) -> dict[str, Any]:
    """How what is being made comes to be: revision, command, versions, device, time, and `extra`."""
    import jax

    return {
        "revision": revision(),
        "command": " ".join(sys.argv),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "host_cores": os.cpu_count(),
        "versions": versions(),
        **extra,
    }


def add_launch(workdir: pathlib.Path, entry: dict[str, Any]) -> None:
    """Notes one more launch in `provenance.json`, whose top level is the latest and `launches` holds all."""
    path = workdir / "provenance.json"
    launches = json.loads(path.read_text())["launches"] if path.exists() else []
    write_json(path, {**entry, "launches": [*launches, entry]})


@contextlib.contextmanager
def file_lock(path: pathlib.Path) -> Iterator[None]:
    """Waits until no other process is in here with the same file, which is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print(f"waiting for another process, which has {path}", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def dataset_of(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> str:
    """The data set of a run: `config.data.dataset`, or `<workdir>/data` where it is empty."""
    return config.data.dataset or str(workdir / "data")
