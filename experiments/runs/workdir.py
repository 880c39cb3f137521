"""The folder of a run: its config and where it came from."""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import shlex
import subprocess
import sys
from typing import Any

import ml_collections

from experiments.runs import trust
from experiments.runs.config import MAY_CHANGE, config_class
from experiments.runs.files import ROOT, plain, read_json, write_json
from world_models.core.errors import UserError
from world_models.core.options import from_dict, to_dict

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")


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

    Fields that the folder's config lacks, since they are newer than it, have their defaults there.

    Raises:
      UserError: if the folder belongs to a run of another config, or its files are damaged or gone. Nothing is changed
        then.
    """
    path = workdir / "config.json"
    resolved = json.loads(json.dumps(config.to_dict(), default=plain))
    if path.exists() or any((workdir / "checkpoints").glob("[0-9]*")):
        old = _completed(
            read_json(path, f"restore it, or choose another --workdir than {workdir}"), config.get("experiment")
        )
        changed = differences(old, resolved)
        fatal = [c for c in changed if not any(c[0] == name or c[0].startswith(f"{name}.") for name in MAY_CHANGE)]
        if fatal:
            fields = "; ".join(f"config.{name} is {new!r}, there it is {old!r}" for name, old, new in fatal[:8])
            raise UserError(f"{workdir} belongs to another config ({fields}): choose another --workdir or undo that.")
    _launches(workdir)  # raises if they are damaged
    if write:
        write_json(path, resolved)


def _completed(old: dict[str, Any], experiment: str | None) -> dict[str, Any]:
    """A stored config with the defaults of the fields that it lacks, if it is of this family and can be read."""
    cls = config_class(experiment)
    if cls is None or old.get("experiment") != experiment:
        return old
    try:
        return json.loads(json.dumps(to_dict(from_dict(cls, with_tuples(old), "config")), default=plain))
    except UserError:
        return old


def load_config(workdir: pathlib.Path) -> ml_collections.ConfigDict:
    """The config of a run; fields of this repository's families that are newer than it have their defaults.

    Raises:
      UserError: if the folder holds no run.
    """
    path = workdir / "config.json"
    if not path.exists():
        raise UserError(f"--workdir={workdir} holds no run (no config.json): run launch.py train there first.")
    found = read_json(path, "restore it from a copy", ["experiment"])
    if trust.is_known(str(found["experiment"])):  # others are not imported before they are trusted
        found = _completed(found, found["experiment"])
    return ml_collections.ConfigDict(with_tuples(found))


def with_tuples(value: Any) -> Any:
    """`value` with tuples for the lists that JSON made of them: overrides are for tuples only."""
    if isinstance(value, dict):
        return {name: with_tuples(part) for name, part in value.items()}
    return tuple(map(with_tuples, value)) if isinstance(value, list) else value


def revision() -> str:
    """The git revision of this code, with "+changes" if files differ from it; results do not count as code."""

    def git(*words: str) -> str:
        return subprocess.run(("git", *words), cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

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
    """Where a result comes from: revision, command, versions, device, time, and `extra`."""
    import jax

    return {
        "revision": revision(),
        "command": f"{sys.argv[0]} {shlex.join(sys.argv[1:])}".strip(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "host_cores": os.cpu_count(),
        "versions": versions(),
        **extra,
    }


def add_launch(workdir: pathlib.Path, entry: dict[str, Any]) -> None:
    """Adds a launch to `provenance.json`, whose top level is the latest and whose `launches` holds all."""
    write_json(workdir / "provenance.json", {**entry, "launches": [*_launches(workdir), entry]})


def _launches(workdir: pathlib.Path) -> list[dict[str, Any]]:
    path = workdir / "provenance.json"
    launches = read_json(path, "move it away", ("launches",))["launches"] if path.exists() else []
    if not isinstance(launches, list):
        raise UserError(f"{path} is damaged ('launches' is no list): move it away.")
    return launches


def dataset_of(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> str:
    """The data set of a run: `config.data.dataset`, or `<workdir>/data` where it is empty."""
    return config.data.dataset or str(workdir / "data")
