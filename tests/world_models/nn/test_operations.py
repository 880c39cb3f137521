"""Library and CPU operations agree in results and gradients; only the library's have forward-mode derivatives."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from world_models.core.errors import ConfigError
from world_models.nn.operations import operations
from world_models.nn.options import ComputeOptions, TransformerOptions, with_compute
from world_models.nn.transformer import Transformer


def _transformer(ops, condition=0, causal=False):
    options = TransformerOptions(width=16, depth=2, heads=2, compute=ComputeOptions(ops=ops))
    model = nnx.jit(lambda: Transformer(options, condition, causal=causal, rngs=nnx.Rngs(0)))()
    graphdef, params = nnx.split(model)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))  # zero-initialised layers would hide differences
    return graphdef, tree.unflatten([x + 0.1 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys)])


@pytest.mark.parametrize(("condition", "causal"), [(0, False), (3, True)])
def test_library_and_cpu_agree(condition, causal):
    x = jax.random.normal(jax.random.key(2), (2, 5, 16))
    given = jax.random.normal(jax.random.key(3), (2, condition)) if condition else None
    found = []
    for ops in ("library", "cpu"):
        graphdef, params = _transformer(ops, condition, causal)
        loss = lambda params, x: jnp.mean(jnp.sin(nnx.merge(graphdef, params)(x, given)))  # noqa: B023
        output = nnx.merge(graphdef, params)(x, given)
        found.append(jax.tree.leaves((output, jax.jit(jax.grad(loss, (0, 1)))(params, x))))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_library_has_forward_mode_derivatives():
    graphdef, params = _transformer("library")
    x = jax.random.normal(jax.random.key(2), (2, 5, 16))
    function = lambda x: nnx.merge(graphdef, params)(x)
    _, tangent = jax.jvp(function, (x,), (jnp.ones_like(x),))
    numeric = (function(x + 1e-2) - function(x - 1e-2)) / 2e-2
    np.testing.assert_allclose(tangent, numeric, atol=5e-3)
    graphdef, params = _transformer("cpu")
    with pytest.raises(TypeError, match="jvp"):
        jax.jvp(function, (x,), (jnp.ones_like(x),))


def test_cpu_operations_are_an_error_on_an_accelerator(monkeypatch):
    assert operations("auto") is operations("cpu")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert operations("auto") is operations("library")
    with pytest.raises(ConfigError, match=r"config\.runtime\.compute\.ops"):
        operations("cpu")


def test_an_unknown_name_is_an_error():
    with pytest.raises(ConfigError, match=r"config\.runtime\.compute\.ops"):
        operations("fast")


def test_with_compute_reaches_nested_options_and_tuples():
    @dataclasses.dataclass(frozen=True)
    class Model:
        levels: tuple[TransformerOptions, ...]
        sizes: tuple[int, ...] = (1, 2)

    compute = ComputeOptions(ops="library")
    changed = with_compute(Model((TransformerOptions(8, 1, 1),)), compute)
    assert changed.levels[0].compute == compute
    assert changed.sizes == (1, 2)
