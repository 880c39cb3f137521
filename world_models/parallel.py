"""The device mesh (data, fsdp, tensor) and where arrays live on it."""

import math
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from world_models.errors import UserError

AXES = ("data", "fsdp", "tensor")


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
        raise UserError(
            f"config.mesh={tuple(shape)} does not fit {devices} device(s): give sizes of {AXES} that multiply to it; "
            "one may be -1."
        )
    return jax.make_mesh(sizes, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The first axis split over data and fsdp."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def state_shardings(abstract_state: Any, mesh: Mesh) -> Any:
    """Shardings of a training state: every array is split over fsdp along its longest axis that divides evenly.

    Parameters, their moving average and the optimizer's moments have the same shapes and so the same shardings.
    """

    def sharding(leaf) -> NamedSharding:
        parts = mesh.shape["fsdp"]
        fitting = [axis for axis, size in enumerate(leaf.shape) if size % parts == 0 and size >= parts]
        spec: list[str | None] = [None] * len(leaf.shape)
        if parts > 1 and fitting:
            spec[max(fitting, key=lambda axis: (leaf.shape[axis], axis))] = "fsdp"
        return NamedSharding(mesh, PartitionSpec(*spec))

    return jax.tree.map(sharding, abstract_state)


def check_batch_size(batch_size: int, accumulate: int, mesh: Mesh) -> None:
    """Refuses a global batch that does not divide over the devices and the accumulation steps."""
    parts = mesh.shape["data"] * mesh.shape["fsdp"]
    if batch_size < 1 or accumulate < 1 or batch_size % (parts * accumulate):
        raise UserError(
            f"config.train.batch_size={batch_size} must be a multiple of {parts} (data x fsdp devices) "
            f"x config.train.accumulate={accumulate}."
        )
