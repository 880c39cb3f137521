"""The device mesh (data, fsdp, tensor) and the shardings of arrays."""

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from world_models.core.errors import UserError, config_error

AXES = ("data", "fsdp", "tensor")
Rules = Sequence[tuple[str, str]]


def make_mesh(shape: Sequence[int]) -> Mesh:
    """A mesh over all devices of all processes.

    Args:
      shape: sizes of the axes (data, fsdp, tensor); one of them may be -1 and takes what is left.

    Raises:
      UserError: if the sizes do not multiply to the number of devices.
    """
    sizes, devices = list(shape), jax.device_count()
    if sizes.count(-1) == 1:
        known = math.prod(size for size in sizes if size != -1)
        sizes[sizes.index(-1)] = devices // known if known and devices % known == 0 else 0
    if len(sizes) != len(AXES) or min(sizes) < 1 or math.prod(sizes) != devices:
        valid = f"be sizes of {AXES} that multiply to {devices}, the number of devices; one may be -1"
        raise config_error("config.runtime.mesh", tuple(shape), valid)
    return jax.make_mesh(sizes, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The first axis split over data and fsdp."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def axes(*names: str | None) -> dict[str, Any]:
    """Metadata that names the axes of a parameter, for `kernel_metadata=` and similar arguments of NNX layers.

    The names are NNX's own sharding metadata; `spec` turns them into mesh axes. Nothing is sharded where the layer is
    made, so that models can be built without a mesh.
    """
    return {"out_sharding": names, "eager_sharding": False}


def axis_names(variables: Any) -> Any:
    """The names of the axes of NNX variables, as a tree of `PartitionSpec`; empty where an array has none."""
    is_variable = lambda x: isinstance(x, nnx.Variable)
    found = lambda variable: PartitionSpec(*(variable.get_metadata().get("out_sharding") or ()))
    return nnx.as_pure(jax.tree.map(lambda v: v.replace(found(v)), variables, is_leaf=is_variable))


def spec(names: PartitionSpec, shape: Sequence[int], rules: Rules, mesh: Mesh) -> PartitionSpec:
    """The partition of one array.

    The rules are gone through in order; each splits the axis that has its name over its mesh axis, if that is not
    taken and divides the axis evenly. An array without names is split over fsdp along its longest axis that divides.

    Args:
      names: of the array's axes, None for those without; empty if it has no names at all.
      shape: of the array.
      rules: (name of an axis, mesh axis), the more important first.
      mesh: the mesh.
    """
    parts: list[str | None] = [None] * len(shape)
    fits = lambda axis, over: mesh.shape[over] > 1 and shape[axis] % mesh.shape[over] == 0
    if not names:
        fitting = [axis for axis in range(len(shape)) if shape[axis] and fits(axis, "fsdp")]
        if fitting:
            parts[max(fitting, key=lambda axis: (shape[axis], axis))] = "fsdp"
    for name, over in rules:
        for axis, own in enumerate(names):
            if own == name and parts[axis] is None and over not in parts and fits(axis, over):
                parts[axis] = over
    return PartitionSpec(*parts)


def shardings(names: Any, shapes: Any, rules: Rules, mesh: Mesh) -> Any:
    """`spec` for a tree of names (`axis_names`) and one of shapes, as `NamedSharding`s.

    Raises:
      UserError: if a rule names no mesh axis, or the mesh has a tensor axis that splits nothing of these arrays.
    """
    for name, over in rules:
        if over not in AXES:
            raise config_error("config.runtime.sharding", (name, over), f"map to one of the mesh axes {AXES}")
    specs = jax.tree.map(lambda own, array: spec(own, array.shape, rules, mesh), names, shapes)
    if mesh.shape["tensor"] > 1 and not any("tensor" in found for found in jax.tree.leaves(specs)):
        valid = (
            "have tensor=1, or config.runtime.sharding must name an axis of this model (heads or mlp of a transformer) "
            f"that {mesh.shape['tensor']} divides"
        )
        raise config_error("config.runtime.mesh", tuple(mesh.shape.values()), valid)
    return jax.tree.map(lambda found: NamedSharding(mesh, found), specs)


def split_batch(x: jax.Array) -> jax.Array:
    """Constrains the first axis of an activation to be split over data and fsdp.

    Without it the compiler may move activations where it should gather parameters. Does nothing outside
    `jax.set_mesh`, or where the axis does not divide.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or x.shape[0] % (mesh.shape["data"] * mesh.shape["fsdp"]):
        return x
    free = PartitionSpec.UNCONSTRAINED
    return jax.lax.with_sharding_constraint(x, PartitionSpec(("data", "fsdp"), *(free,) * (x.ndim - 1)))


def place_beside(weights: Any, tree: Any) -> Any:
    """Puts host arrays, complete in every process, on the devices of `weights`, rows split where they divide.

    Args:
      weights: arrays with a `NamedSharding`; others leave `tree` as it is.
      tree: NumPy arrays [rows, ...].
    """
    where = getattr(jax.tree.leaves(weights)[0], "sharding", None)
    if not isinstance(where, NamedSharding):
        return tree
    parts = where.mesh.shape["data"] * where.mesh.shape["fsdp"]

    def place(x: np.ndarray) -> jax.Array:
        rows = batch_sharding(where.mesh) if x.ndim and x.shape[0] % parts == 0 else replicated(where.mesh)
        return jax.make_array_from_callback(x.shape, rows, lambda index: x[index])

    return jax.tree.map(place, jax.tree.map(np.asarray, tree))


def on_host(x: jax.Array) -> np.ndarray:
    """The whole array as NumPy, in every process; all processes must call it."""
    if x.is_fully_addressable or x.is_fully_replicated:
        return np.asarray(x)
    return np.asarray(multihost_utils.process_allgather(x, tiled=True))


def local_rows(tree: Any) -> Any:
    """The rows of arrays split by `batch_sharding` that lie on this process's devices, as NumPy."""

    def rows(x: jax.Array) -> np.ndarray:
        shards = {shard.index[0].start or 0: shard.data for shard in x.addressable_shards}
        return np.concatenate([np.asarray(shards[start]) for start in sorted(shards)])

    return jax.tree.map(rows, tree)


def per_device_flags(mesh: Mesh) -> dict[bool, jax.Array]:
    """Two arrays, bool [devices], one element on each: a flag of this process, as an input of a step."""
    each = NamedSharding(mesh, PartitionSpec(AXES))
    count = len(mesh.local_devices)
    return {
        value: jax.make_array_from_process_local_data(each, np.full(count, value), (mesh.size,))
        for value in (False, True)
    }


def state_bytes(shapes: Any) -> tuple[int, int]:
    """(total bytes, bytes on one device) of a tree of shapes with shardings."""
    leaves = jax.tree.leaves(shapes)
    size = lambda x, shape: math.prod(shape) * x.dtype.itemsize
    return sum(size(x, x.shape) for x in leaves), sum(size(x, x.sharding.shard_shape(x.shape)) for x in leaves)


def check_same(text: str, what: str) -> None:
    """Raises UserError in every process if `text` is not the same in all of them; `what` names it."""
    if jax.process_count() == 1:
        return
    digest = np.frombuffer(hashlib.sha256(text.encode()).digest()[:4], np.uint32)
    found = multihost_utils.process_allgather(digest)
    if len(np.unique(found)) > 1:
        raise UserError(f"{what} is not the same in all {jax.process_count()} processes: give them the same files.")


def is_main() -> bool:
    """Whether this process is the one that prints and writes files."""
    return jax.process_index() == 0


def check_batch_size(batch_size: int, accumulate: int, mesh: Mesh) -> None:
    """Raises ConfigError for a global batch that does not divide over the devices and the accumulation steps."""
    parts = mesh.shape["data"] * mesh.shape["fsdp"]
    if batch_size < 1 or accumulate < 1 or batch_size % (parts * accumulate):
        valid = f"be a multiple of {parts} (data x fsdp devices) x config.train.accumulate={accumulate}"
        raise config_error("config.train.batch_size", batch_size, valid)
