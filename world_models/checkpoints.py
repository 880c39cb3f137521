"""Checkpoints of everything that must survive a restart (Orbax), written in the background."""

import pathlib
from typing import Any

import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from world_models.errors import UserError, is_disk_full


class Checkpoints:
    """The checkpoints of one run, in `folder/<step>/`. Each holds several named trees of arrays and one JSON dict."""

    def __init__(self, folder: pathlib.Path, *, keep: int = 2, keep_every: int = 0, read_only: bool = False):
        """Opens or creates the folder.

        Args:
          folder: where they lie.
          keep: how many of the newest to keep.
          keep_every: also keep those whose step is a multiple of this (0: none).
          read_only: for reading weights; nothing is created or deleted.
        """
        self.folder = folder
        kept: list[Any] = [policies.LatestN(keep)]
        kept += [policies.EveryNSteps(keep_every)] if keep_every else []
        options = ocp.CheckpointManagerOptions(
            preservation_policy=None if read_only else policies.AnyPreservationPolicy(kept),
            create=not read_only,
            read_only=read_only,
            enable_async_checkpointing=not read_only,
        )
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    @property
    def latest(self) -> int | None:
        """Step of the newest complete checkpoint."""
        return self._manager.latest_step()

    def save(self, step: int, trees: dict[str, Any], position: dict[str, Any]) -> None:
        """Starts writing a checkpoint and returns; a checkpoint that is there already is left alone.

        Args:
          step: its name.
          trees: trees of arrays by name.
          position: a JSON dict.

        Raises:
          UserError: if the disk is full, now or in the save before.
        """
        if step == self.latest:
            return
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
        """Reads (trees, position) of a checkpoint, the newest by default.

        Args:
          abstract: trees of `jax.ShapeDtypeStruct` with shardings, by name; names left out are not read.
          step: which one.

        Raises:
          UserError: if there is no such checkpoint.
        """
        step = self.latest if step is None else step
        if step is None or step not in self._manager.all_steps():
            there = sorted(self._manager.all_steps())
            wanted = "a checkpoint" if step is None else f"checkpoint {step}"
            raise UserError(f"{self.folder} has no {wanted}; it has {there}: run launch.py train first.")
        items = {name: ocp.args.StandardRestore(tree) for name, tree in abstract.items()}
        restored = self._manager.restore(step, args=ocp.args.Composite(position=ocp.args.JsonRestore(), **items))
        return {name: restored[name] for name in abstract}, restored["position"]

    def close(self) -> None:
        """Waits and lets go of the folder."""
        self._manager.close()

    def _explain(self, error: BaseException, step: int | None) -> None:
        if is_disk_full(error):
            which = "a checkpoint" if step is None else f"checkpoint {step}"
            raise UserError(
                f"No space left while writing {which} to {self.folder}; the newest complete one is step "
                f"{self.latest}: free some space and run the same command to resume from it."
            ) from error
