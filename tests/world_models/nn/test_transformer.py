"""The shared transformer, against NumPy in float64, and what its options must not change."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from world_models.nn.options import ComputeOptions, TransformerOptions
from world_models.nn.transformer import DiffusionTransformer, Transformer, block_mask, sincos_positions

OPTIONS = TransformerOptions(width=24, depth=3, heads=4, mlp_ratio=2.0)


def _randomized(model):
    """Zero-initialised layers would hide what they do."""
    graphdef, state = nnx.split(model)
    leaves, tree = jax.tree.flatten(state)
    keys = jax.random.split(jax.random.key(3), len(leaves))
    leaves = [x + 0.2 * jax.random.normal(key, x.shape) for x, key in zip(leaves, keys)]
    return nnx.merge(graphdef, jax.tree.unflatten(tree, leaves))


def _transformer(condition=0, depth=OPTIONS.depth, **compute):
    options = dataclasses.replace(OPTIONS, depth=depth, compute=ComputeOptions(**compute))
    make = lambda: _randomized(Transformer(options, condition, rngs=nnx.Rngs(0)))
    return nnx.jit(make)()


def _inputs():
    rng = np.random.default_rng(0)
    return rng.standard_normal((2, 5, 24)).astype(np.float32), rng.standard_normal((2, 7)).astype(np.float32)


def _reference(params, x, condition):
    """The same in NumPy and float64, a token and a head at a time where that is plainest."""
    p = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    erf = np.vectorize(math.erf)

    def norm(x):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)

    for layer in range(OPTIONS.depth):
        own = jax.tree.map(lambda a, i=layer: a[i], p)
        change = [np.zeros((len(x), 24))] * 6
        affine = lambda y, name, own=own: y * own[name]["scale"] + own[name]["bias"] if name in own else y
        gate = [1.0, 1.0]
        if "modulation" in own:
            change = np.split(condition @ own["modulation"]["kernel"] + own["modulation"]["bias"], 6, axis=-1)
            gate = [change[2][:, None], change[5][:, None]]
        y = affine(norm(x), "norm1") * (1 + change[0][:, None]) + change[1][:, None]
        attention = own["attention"]
        qkv = np.einsum("btw,wkhd->kbhtd", y, attention["qkv"]["kernel"]) + attention["qkv"]["bias"][:, None, :, None]
        scores = qkv[0] @ qkv[1].swapaxes(-1, -2) / math.sqrt(qkv.shape[-1])
        weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        mixed = np.einsum("bhtd,hdw->btw", weights @ qkv[2], attention["out"]["kernel"]) + attention["out"]["bias"]
        x = x + gate[0] * mixed
        y = affine(norm(x), "norm2") * (1 + change[3][:, None]) + change[4][:, None]
        y = y @ own["mlp"]["up"]["kernel"] + own["mlp"]["up"]["bias"]
        y = 0.5 * y * (1 + erf(y / math.sqrt(2)))
        x = x + gate[1] * (y @ own["mlp"]["down"]["kernel"] + own["mlp"]["down"]["bias"])
    return x


@pytest.mark.parametrize("condition", [0, 7])
def test_blocks_equal_numpy_in_float64(condition):
    model, (x, c) = _transformer(condition), _inputs()
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))["blocks"]
    found = nnx.jit(lambda model, *inputs: model(*inputs))(model, x, c if condition else None)
    np.testing.assert_allclose(found, _reference(params, x, c), atol=2e-5)


@pytest.mark.parametrize("ops", ["cpu", "library"])
def test_blocks_of_a_row_do_not_see_each_other(ops):
    model, (x, _) = _transformer(ops=ops), _inputs()
    blocks = np.array([[1, 1, 1, 2, 2], [1, 1, 0, 0, 0]])
    run = jax.jit(lambda model, x, mask: model(x, mask=mask))
    found = run(model, x, block_mask(blocks))
    np.testing.assert_allclose(found[0, :3], model(x[:1, :3])[0], atol=1e-5)
    np.testing.assert_allclose(found[0, 3:], model(x[:1, 3:])[0], atol=1e-5)
    np.testing.assert_allclose(found[1, :2], model(x[1:, :2])[0], atol=1e-5)


def test_masks_are_causal_but_for_what_belongs_together():
    blocks, images = np.array([[1, 1, 1, 1, 2]]), np.array([[0, 7, 7, 0, 0]])
    seen = lambda **options: np.asarray(block_mask(blocks, **options)[0]).astype(int).tolist()
    assert seen(causal=True) == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [0, 0, 0, 0, 1]]
    assert seen(causal=True, together=images)[1] == [1, 1, 1, 0, 0]
    assert seen(causal=True, together=images)[2:] == seen(causal=True)[2:]
    assert seen() == [[1, 1, 1, 1, 0]] * 4 + [[0, 0, 0, 0, 1]]


@pytest.mark.parametrize("options", [{"remat": "dots"}, {"remat": "full"}, {"unroll": 3}])
def test_remat_and_unrolling_change_no_gradient(options):
    (x, c), plain, other = _inputs(), _transformer(7), _transformer(7, **options)
    gradient = lambda model: jax.jit(jax.grad(lambda m: jnp.sum(m(x, c) ** 2)))(model)
    for a, b in zip(jax.tree.leaves(gradient(plain)), jax.tree.leaves(gradient(other)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_remat_keeps_less_for_the_backward_pass():
    x, _ = _inputs()

    def kept(remat):
        model = _transformer(remat=remat)
        _, backward = jax.vjp(lambda x: model(x), jnp.asarray(x))
        return sum(leaf.size for leaf in jax.tree.leaves(backward))

    assert kept("full") < kept("dots") < kept("none")


def test_the_program_does_not_grow_with_depth():
    def size(depth):
        make = lambda: Transformer(dataclasses.replace(OPTIONS, depth=depth), rngs=nnx.Rngs(0))
        return len(str(jax.make_jaxpr(lambda model, x: model(x))(nnx.eval_shape(make), _inputs()[0])).splitlines())

    assert size(12) == size(2)


def test_a_new_diffusion_transformer_is_zero_and_its_blocks_are_the_identity():
    net = nnx.jit(lambda: DiffusionTransformer(6, 3, OPTIONS, condition=7, rngs=nnx.Rngs(0)))()
    x, c = _inputs()
    assert float(jnp.abs(net(x.reshape(2, 5, 4, 6), c)).max()) == 0
    np.testing.assert_array_equal(net.transformer(x, c), x)


def test_positions_are_those_of_the_paper():
    """Against the formula at single entries: column first, sines before cosines."""
    positions = sincos_positions(3, 5, 16)
    assert positions.shape == (15, 16)
    row, column = 2, 3
    own = positions[row * 5 + column]
    for k in range(4):
        frequency = 10_000 ** -(k / 4)
        expected = [math.sin(column * frequency), math.cos(column * frequency)]
        expected += [math.sin(row * frequency), math.cos(row * frequency)]
        np.testing.assert_allclose([own[k], own[4 + k], own[8 + k], own[12 + k]], expected, rtol=1e-6)
