"""Starting a model from parts of the weights that another run saved."""

import difflib
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp

from world_models.checkpointing import checksums
from world_models.core.errors import UserError
from world_models.core.paths import local_path

SHOWN = 3  # sentences about one module before the rest are counted


class Parts(NamedTuple):
    """What was read of a checkpoint.

    Attributes:
      arrays: the tree that was asked for, with None where nothing was read.
      left_out: sentences on what was not read, and why.
      step: of the checkpoint.
    """

    arrays: Any
    left_out: list[str]
    step: int


def restore_parts(
    folder: pathlib.Path,
    step: int | None,
    abstract: Any,
    parts: Sequence[str] = (),
    *,
    item: str = "weights",
    subtrees: Sequence[str] = ("ema", "constants"),
) -> Parts:
    """Reads those arrays of a checkpoint that a model has as well, under the same name and in the same shape.

    Only these are read from the disk, besides the checksums of the item's files; other items need not be there. What
    the other run held constant (a frozen encoder, a level that stayed as it was, statistics) is read like the rest.

    Args:
      folder: of the checkpoints of a run, which is not changed.
      step: which one, None for the newest whole one.
      abstract: the model's arrays, a tree of `jax.ShapeDtypeStruct` with shardings; what is read gets its type and
        lands where it says.
      parts: dotted names ("encoder", "unet.down.0"); everything below them is read. All if empty.
      item, subtrees: where in the checkpoint the arrays are; the whole item if `subtrees` is empty.

    Raises:
      UserError: if there is no such checkpoint, it is damaged, or one of the parts gives nothing.
    """
    step = _whole(local_path(folder, "folder"), step, item)
    place = (folder / str(step) / item).absolute()
    reader = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
    saved = _arrays_there(reader, place, subtrees)
    leaves, structure = jax.tree_util.tree_flatten_with_path(abstract)
    own = {_dotted(path): leaf for path, leaf in leaves}
    there = {name: leaf for name, (_, leaf) in saved.items()}
    found = [name for name in own if _asked(name, parts) and name in there and own[name].shape == there[name].shape]
    reasons = _reasons(own, there, parts)
    for part in parts or ("",):
        if not any(_asked(name, (part,)) for name in found):
            raise UserError(_nothing(part, own, there, reasons, place))
    wanted: dict[str, Any] = {}
    for name in found:
        _set(wanted, saved[name][0], own[name])
    options = ocp.args.PyTreeRestore(
        item=wanted, restore_args=ocp.checkpoint_utils.construct_restore_args(wanted), partial_restore=True
    )
    restored = {_dotted(path[bool(subtrees) :]): x for path, x in _flat(reader.restore(place, args=options))}
    reader.close()
    arrays = structure.unflatten([restored.get(name) for name in own])
    return Parts(arrays, _sentences(reasons), step)


def _whole(folder: pathlib.Path, step: int | None, item: str) -> int:
    """The step, or the newest one, whose item is there and whole."""
    newest = checksums.from_main(lambda: checksums.newest_whole(folder, item)) if step is None else step
    if newest is None or not (folder / str(newest) / item).is_dir():
        there = sorted(int(p.name) for p in folder.glob("*") if p.name.isdigit())
        which = "no checkpoint" if newest is None else f"no {item!r} in a checkpoint {newest}"
        raise UserError(f"{folder} has {which}; it has {there}.")
    found = checksums.from_main(lambda: checksums.damage(folder, newest, item)) if step is not None else []
    if found:
        raise UserError(f"{folder}: checkpoint {step} is damaged ({checksums.describe(found)}): choose another one.")
    return newest


def _arrays_there(
    reader: ocp.Checkpointer, place: pathlib.Path, subtrees: Sequence[str]
) -> dict[str, tuple[list[str], Any]]:
    """{dotted name below its subtree: (keys on disk, shape and type)} of all saved arrays."""
    tree = reader.metadata(place).item_metadata.tree
    for missing in (name for name in subtrees if name not in tree):
        raise UserError(f"{place} has no {missing!r}; it has {', '.join(map(repr, tree))}.")
    found = {}
    for above, leaves in [([name], tree[name]) for name in subtrees] or [([], tree)]:
        found |= {_dotted(path): ([*above, *(key.key for key in path)], leaf) for path, leaf in _flat(leaves)}
    return found


def _flat(tree: Any) -> list[tuple[Any, Any]]:
    return jax.tree_util.tree_leaves_with_path(tree)


def _dotted(path: Sequence[Any]) -> str:
    """The name of a leaf: its keys, attributes and indices joined by dots."""
    return jax.tree_util.keystr(tuple(path), simple=True, separator=".")


def _set(tree: dict[str, Any], keys: Sequence[str], leaf: Any) -> None:
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
    tree[keys[-1]] = leaf


def _asked(name: str, parts: Sequence[str]) -> bool:
    return not any(parts) or any(f"{name}.".startswith(f"{part}.") for part in parts)


def _reasons(own: dict[str, Any], there: dict[str, Any], parts: Sequence[str]) -> dict[str, tuple[str, str]]:
    """{name: (what kind of reason, the reason)} for every array that is not read though one might think so."""
    found = {}
    for name in [*own, *(name for name in there if name not in own)]:
        asked = _asked(name, parts)
        if asked and name not in there:
            found[name] = ("not in the checkpoint",) * 2
        elif asked and name not in own:
            found[name] = ("in the checkpoint, not in this model",) * 2
        elif asked and own[name].shape != there[name].shape:
            shapes = f"shape {tuple(there[name].shape)} there, {tuple(own[name].shape)} here"
            found[name] = ("of another shape", shapes)
        elif not asked and name in there:
            found[name] = ("in the checkpoint, not asked for",) * 2
    return found


def _sentences(reasons: dict[str, tuple[str, str]]) -> list[str]:
    """One for each array, or for each module and kind of reason where there are many."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name, (kind, reason) in reasons.items():
        groups.setdefault((name.split(".")[0], kind), []).append(f"{name}: {reason}")
    said = []
    for (top, kind), lines in groups.items():
        said += lines if len(lines) <= SHOWN else [lines[0], f"{top}: {len(lines) - 1} more {kind}"]
    return said


def _nothing(part: str, own: Any, there: Any, reasons: dict[str, tuple[str, str]], place: pathlib.Path) -> str:
    """Why a part gives nothing, and what would do."""
    what = f"part {part!r}" if part else "this model"
    missed = {name: why for name, why in reasons.items() if _asked(name, (part,))}
    why = "; ".join(_sentences(missed)) or "no array is called so, here or there"
    modules = {".".join(name.split(".")[:depth]) for name in own if name in there for depth in range(1, 4)}
    near = difflib.get_close_matches(part, sorted(modules), 1)
    hint = f": did you mean {near[0]!r}?" if near else "."
    tops = ", ".join(sorted({name.split(".")[0] for name in there}))
    return f"{place} has nothing for {what} ({why}); it has {tops}{hint}"
