"""Shardings of arrays on a mesh: rules, names and errors."""

import jax
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from world_models.core import sharding as parallel
from world_models.core.errors import UserError

RULES = (("heads", "tensor"), ("mlp", "tensor"), ("width", "fsdp"), ("mlp", "fsdp"))


def mesh(*sizes):
    """A mesh of devices that need not be there."""
    return AbstractMesh(sizes, parallel.AXES, axis_types=(AxisType.Auto,) * 3)


@pytest.mark.parametrize(
    ("names", "shape", "sizes", "expected"),
    [
        (("width", "mlp"), (32, 128), (1, 4, 2), ("fsdp", "tensor")),
        (("mlp", "width"), (128, 32), (1, 4, 2), ("tensor", "fsdp")),
        (("width", "mlp"), (30, 128), (1, 4, 1), (None, "fsdp")),  # 30 does not divide: the later rule
        (("width", "mlp"), (30, 126), (1, 4, 4), (None, None)),
        (("width", "width"), (32, 32), (1, 4, 2), ("fsdp", None)),  # a mesh axis is used once
        (("layers", "heads"), (4, 4), (1, 4, 2), (None, "tensor")),  # names without a rule are not split
        ((None, "width"), (4, 32), (8, 1, 1), (None, None)),
        ((), (3, 16, 64), (1, 8, 1), (None, None, "fsdp")),  # no names: the longest axis
        ((), (3, 64, 64), (1, 8, 1), (None, None, "fsdp")),
        ((), (3, 64, 60), (1, 8, 1), (None, "fsdp", None)),
        ((), (), (1, 8, 1), ()),
    ],
)
def test_rules_are_taken_in_order_where_they_divide(names, shape, sizes, expected):
    assert parallel.spec(PartitionSpec(*names), shape, RULES, mesh(*sizes)) == PartitionSpec(*expected)


def test_layers_with_named_axes_need_no_mesh():
    layer = nnx.Linear(4, 8, kernel_metadata=parallel.axes("width", "mlp"), rngs=nnx.Rngs(0))
    names = parallel.axis_names(nnx.state(layer, nnx.Param))
    assert names["kernel"] == PartitionSpec("width", "mlp")
    assert names["bias"] == PartitionSpec()


def test_invalid_rules_and_meshes_raise():
    names, shapes = {"a": PartitionSpec("width")}, {"a": jax.ShapeDtypeStruct((32,), np.float32)}
    with pytest.raises(UserError, match=r"config\.runtime\.sharding\b"):
        parallel.shardings(names, shapes, (("width", "model"),), mesh(1, 1, 1))
    with pytest.raises(UserError, match=r"config\.runtime\.mesh\b"):
        parallel.shardings(names, shapes, RULES, mesh(1, 1, 2))


def test_local_rows_and_bytes():
    on = parallel.make_mesh((1, 1, 1))
    x = jax.device_put(np.arange(6).reshape(3, 2), parallel.batch_sharding(on))
    np.testing.assert_array_equal(parallel.local_rows({"x": x})["x"], np.arange(6).reshape(3, 2))
    assert parallel.state_bytes({"x": x}) == (x.nbytes, x.nbytes)
    np.testing.assert_array_equal(parallel.on_host(x), np.asarray(x))
    flags = parallel.per_device_flags(on)
    assert (bool(flags[True][0]), bool(flags[False][0])) == (True, False)


def test_host_arrays_are_placed_on_the_devices_of_the_weights():
    weights = jax.device_put(np.zeros(2), parallel.replicated(parallel.make_mesh((1, 1, 1))))
    placed = parallel.place_beside(weights, {"rows": np.arange(4), "seed": np.uint32(3)})
    assert placed["rows"].sharding.is_equivalent_to(parallel.batch_sharding(weights.sharding.mesh), 1)
    np.testing.assert_array_equal(placed["rows"], np.arange(4))
    assert placed["seed"].sharding.is_fully_replicated
    assert parallel.place_beside(np.zeros(2), {"rows": 1}) == {"rows": 1}
