"""Trained runs that come with the repository: folders of `weights/`, small enough to keep in git.

Each is the folder of a run with averaged weights in bfloat16, a few episodes to start from, and what made it.
"""

import dataclasses
import pathlib
import shutil
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.runs.files import ROOT, fresh_folder, read_json, write_json
from world_models.checkpointing.checkpoints import Checkpoints
from world_models.core.errors import UserError

if TYPE_CHECKING:
    from experiments.runs.loading import LoadedRun

FOLDER = ROOT / "weights"
LIMIT = 10 * 2**20  # bytes of a checkpoint


def names() -> list[str]:
    """Those that there are."""
    return sorted(path.parent.name for path in FOLDER.glob("*/config.json"))


def unpack(name: str, workdir: pathlib.Path) -> None:
    """Makes `workdir` a copy of the run of this name, unless it is one already.

    Raises:
      UserError: if there is no such run, or the folder holds anything else.
    """
    if name not in names():
        raise UserError(f"--weights={name} is none of those that come with the repository: {', '.join(names())}.")
    source = FOLDER / name
    if not workdir.exists():
        shutil.copytree(source, workdir)
        return
    mine = workdir / "provenance.json"
    if not mine.exists() or read_json(mine, "choose another --workdir") != read_json(source / "provenance.json", ""):
        raise UserError(f"--workdir={workdir} holds something other than the weights {name}: choose a new folder.")


def pack(run: "LoadedRun", data: pathlib.Path, target: pathlib.Path) -> None:
    """Writes a run as `unpack` takes it.

    Args:
      run: whose averaged weights are kept, in bfloat16.
      data: a small data set of the same kind that goes along, to imagine from.
      target: the new folder.

    Raises:
      UserError: if the folder is there, the data set does not fit the run, or the weights take more than 10 MiB.
    """
    if target.exists():
        raise UserError(f"{target} exists: name a new folder for the weights.")
    config = run.config.copy_and_resolve_references()
    config.data.dataset = str(data)
    dataclasses.replace(run, config=config).windows(config.data.test_split, 1)  # raises if it does not fit
    config.data.dataset = ""  # <workdir>/data
    _, params, constants = nnx.split(run.model, nnx.Param, ...)
    small = lambda x: x.astype(jnp.bfloat16) if jnp.issubdtype(x.dtype, jnp.floating) else x
    trees = {name: jax.tree.map(small, nnx.as_pure(tree)) for name, tree in (("ema", params), ("constants", constants))}
    size = sum(x.nbytes for x in jax.tree.leaves(trees))
    if size > LIMIT:
        raise UserError(f"{run.workdir} has {size:,} bytes of weights in bfloat16; at most {LIMIT:,} are shipped.")
    with fresh_folder(target) as folder:
        saver = Checkpoints(folder / "checkpoints")
        saver.save(run.step, {"weights": trees}, {})
        saver.close()
        shutil.copy(run.workdir / "provenance.json", folder)
        spec = read_json(run.workdir / "data_spec.json", "restore it from a copy")
        made = read_json(data / "metadata.json", "record the data again").get("record", {})
        write_json(folder / "data_spec.json", spec | {"record": made})  # simulators find these episodes by it
        write_json(folder / "config.json", config.to_dict())
        shutil.copytree(data, folder / "data")
