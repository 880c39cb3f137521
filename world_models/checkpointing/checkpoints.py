"""Checkpoints of everything that must survive a restart (Orbax), written in the background and checked when opened."""

import functools
import logging
import math
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from world_models.checkpointing import checksums
from world_models.core.errors import UserError, is_disk_full
from world_models.core.paths import local_path

COMPRESSED = 0.8  # of the bytes of its arrays, what a checkpoint takes on disk at the least


class _Best(policies.PreservationPolicy):
    """Preserves one checkpoint, which may become another one at any time."""

    step: int | None = None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        return [checkpoint.step == self.step for checkpoint in checkpoints]


class Checkpoints:
    """The checkpoints of one run, in `folder/<step>/`. Each holds several named trees of arrays and one JSON dict.

    Whatever dies whenever, a checkpoint is used only if it was finished and its bytes are those that were written
    (`world_models.checkpointing.checksums`). In a job of several processes all of them make the same calls.
    """

    def __init__(self, folder: pathlib.Path, *, keep: int = 2, keep_every: int = 0, read_only: bool = False):
        """Opens or creates the folder.

        For writing, the newest checkpoint is verified; a damaged one is named on standard error and moved aside to
        <step>.damaged, and the one before is tried. What a killed save left is removed.

        Args:
          folder: where they lie.
          keep: how many of the newest to keep.
          keep_every: also keep those whose step is a multiple of this (0: none).
          read_only: for reading weights; nothing is created, moved or deleted.

        Raises:
          UserError: if there are checkpoints, but none is whole; or the path has a scheme or special characters.
        """
        self.folder = local_path(folder, "folder")
        self._read_only = read_only
        self._verified: int | None = None
        if not read_only:
            self._find_newest(move_aside=True)
        self._best = _Best()
        self._saving = 0
        self._copies: Any = None
        kept: list[Any] = [policies.LatestN(keep), self._best]
        kept += [policies.EveryNSteps(keep_every)] if keep_every else []
        # Orbax calls back in its own thread, in process 0, when all files are written and not committed yet.
        callback = ocp.options.AsyncOptions(post_finalization_callback=self._write_checksums)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=None if read_only else policies.AnyPreservationPolicy(kept),
            create=not read_only,
            read_only=read_only,
            cleanup_tmp_directories=not read_only,
            enable_async_checkpointing=not read_only,
            async_options=None if read_only else callback,
        )
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    @property
    def latest(self) -> int | None:
        """Step of the newest whole checkpoint.

        Raises:
          UserError: if it is opened for reading, and there are checkpoints, but none is whole.
        """
        if not self._read_only:
            return self._manager.latest_step()
        if self._verified is None:
            self._find_newest()
        return self._verified

    def keep_best(self, step: int | None) -> None:
        """Keeps the checkpoint of this step, saved or yet to be saved, until another one is named."""
        self._best.step = step

    def save(self, step: int, trees: dict[str, Any], position: dict[str, Any]) -> None:
        """Starts writing a checkpoint and returns; a checkpoint that is there already is left alone.

        The arrays may be donated to the next step at once. A save that is still going on is waited for.

        Args:
          step: its name.
          trees: trees of `jax.Array` by name.
          position: a JSON dict.

        Raises:
          UserError: if the disk is full, now or in the save before.
        """
        if step == self.latest:
            return
        self.wait()
        if checksums.from_main(lambda: shutil.disk_usage(self.folder).free) < least_size(trees):
            raise self._no_space(f"checkpoint {step}")
        self._saving = step
        if jax.default_backend() == "cpu":
            # Orbax writes these from where they are, and a step that they are donated to would wait for the end of the
            # write. From other devices it has copied all to the host when it returns.
            trees = self._copies = _copy(self._copies, trees)
        items = {name: ocp.args.StandardSave(tree) for name, tree in trees.items()}
        try:
            self._manager.save(step, args=ocp.args.Composite(position=ocp.args.JsonSave(position), **items))
        except Exception as error:
            self._explain(error, step)
            raise

    def wait(self) -> None:
        """Returns when all that was started is on disk. Raises UserError if the disk is full."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            self._explain(error, None)
            raise

    def restore(self, abstract: dict[str, Any], step: int | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Reads (trees, position) of a checkpoint, the newest whole one by default.

        Args:
          abstract: trees of `jax.ShapeDtypeStruct` with shardings, by name; names left out are not read. Mesh and
            processes need not be those that saved.
          step: which one.

        Raises:
          UserError: if there is no such checkpoint, or it is damaged.
        """
        step = self.latest if step is None else step
        there = sorted(self._manager.all_steps())
        if step is None or step not in there:
            wanted = "a checkpoint" if step is None else f"checkpoint {step}"
            raise UserError(f"{self.folder} has no {wanted}; it has {there}: run launch.py train first.")
        if step != self._verified:
            found = checksums.from_main(lambda: checksums.damage(self.folder, step))
            if found:
                raise UserError(
                    f"{self.folder}: checkpoint {step} is damaged ({checksums.describe(found)}): choose another one; "
                    f"there are {there}."
                )
        items = {name: ocp.args.StandardRestore(tree) for name, tree in abstract.items()}
        restored = self._manager.restore(step, args=ocp.args.Composite(position=ocp.args.JsonRestore(), **items))
        return {name: restored[name] for name in abstract}, restored["position"]

    def close(self) -> None:
        """Waits and lets go of the folder. Raises UserError if the disk is full."""
        try:
            self.wait()
        finally:
            self._manager.close()
            self._copies = None

    def _find_newest(self, *, move_aside: bool = False) -> None:
        self._verified = checksums.from_main(lambda: checksums.newest_whole(self.folder, move_aside=move_aside))

    def _write_checksums(self) -> None:
        scratch = self.folder.glob(f"{self._saving}.orbax-checkpoint-tmp*")
        checksums.write(self.folder, self._saving, next(scratch, self.folder / str(self._saving)))

    def _explain(self, error: BaseException, step: int | None) -> None:
        self._copies = None  # the failed write may hold on to them
        if is_disk_full(error):
            logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # it would repeat the error for each array
            which = "a checkpoint" if step is None else f"checkpoint {step}"
            raise self._no_space(which) from error

    def _no_space(self, which: str) -> UserError:
        newest = "none yet" if self.latest is None else f"step {self.latest}"
        return UserError(
            f"No space left while writing {which} to {self.folder}; the newest complete one is {newest}: free some "
            "space and run the same command to resume from it."
        )


def least_size(trees: Any) -> int:
    """Bytes on disk that a checkpoint of trees of arrays, or of their shapes, needs at the least."""
    sizes = (math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(trees))
    return int(COMPRESSED * sum(sizes))


@functools.partial(jax.jit, donate_argnums=0, keep_unused=True)
def _copy(memory: Any, trees: Any) -> Any:
    """A copy of `trees` in the memory of the copy before: memory that is new costs more than copying."""
    return jax.tree.map(jnp.copy, trees)
