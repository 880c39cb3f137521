"""Counted FLOPs against closed forms."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, PartitionSpec

from world_models.core.errors import UserError
from world_models.core.flops import count_flops
from world_models.nn.options import TransformerOptions
from world_models.nn.transformer import Transformer


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def total(function, *arguments):
    """Gradient by all arguments."""
    return jax.grad(lambda *args: jnp.sum(function(*args)), argnums=arguments or 0)


@pytest.mark.parametrize(
    ("formula", "a", "b", "flops"),
    [
        ("ik,kj->ij", (3, 5), (5, 7), 2 * 3 * 5 * 7),
        ("bik,bkj->bij", (4, 3, 5), (4, 5, 7), 2 * 4 * 3 * 5 * 7),
        ("bthd,bshd->bhts", (2, 6, 3, 8), (2, 9, 3, 8), 2 * 2 * 3 * 6 * 9 * 8),
        ("i,i->", (11,), (11,), 2 * 11),
        ("i,j->ij", (3,), (4,), 2 * 3 * 4),
        ("abc,bc->a", (2, 3, 4), (3, 4), 2 * 2 * 3 * 4),
    ],
)
def test_einsum(formula, a, b, flops):
    assert count_flops(lambda x, y: jnp.einsum(formula, x, y), shape(*a), shape(*b)) == flops


def test_elementwise_operations_count_nothing():
    assert count_flops(lambda x: jnp.sum(jnp.exp(x) * x) + jnp.max(x), shape(4, 4)) == 0


def test_gradient_of_a_product_costs_two_more():
    product = lambda a, b: a @ b
    forward = count_flops(product, shape(3, 5), shape(5, 7))
    value_and_grads = jax.value_and_grad(lambda a, b: jnp.sum(jnp.sin(a @ b)), argnums=(0, 1))
    assert count_flops(value_and_grads, shape(3, 5), shape(5, 7)) == 3 * forward
    one = jax.value_and_grad(lambda a, b: jnp.sum(jnp.sin(a @ b)), argnums=0)
    assert count_flops(one, shape(3, 5), shape(5, 7)) == 2 * forward


def conv(x, kernel, **options):
    options = {"strides": 1, "padding": "SAME", **options}
    stride = (options.pop("strides"),) * 2
    padding = options.pop("padding")
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, stride, padding, dimension_numbers=layout, **options)


CONVOLUTIONS = [
    # Valid: every tap meets data.
    ({"padding": "VALID"}, 6, 2 * 2 * 6 * 6 * 9 * 4 * 6),
    # Same: the outermost taps of 8 positions fall outside at both ends, 3·8 − 2 a side.
    ({"padding": "SAME"}, 6, 2 * 2 * 22 * 22 * 4 * 6),
    # Stride 2 on 8 with padding (0, 1): positions 0, 2, 4, 6 with 3, 3, 3 and 2 taps.
    ({"strides": 2}, 6, 2 * 2 * 11 * 11 * 4 * 6),
    # Dilated kernel, valid: 4 positions a side.
    ({"padding": "VALID", "rhs_dilation": (2, 2)}, 6, 2 * 2 * 4 * 4 * 9 * 4 * 6),
    # Two groups: every output sees half of the inputs.
    ({"padding": "VALID", "feature_group_count": 2}, 6, 2 * 2 * 6 * 6 * 9 * 2 * 6),
    # Depthwise.
    ({"padding": "VALID", "feature_group_count": 4}, 4, 2 * 2 * 6 * 6 * 9 * 1 * 4),
    # Two groups of examples, each with its own half of the kernels: 1 row out, 6 features.
    ({"padding": "VALID", "batch_group_count": 2}, 6, 2 * 1 * 6 * 6 * 9 * 4 * 6),
]


@pytest.mark.parametrize(("options", "outputs", "flops"), CONVOLUTIONS)
def test_convolutions_and_their_gradients(options, outputs, flops):
    inputs = 4 // options.get("feature_group_count", 1)
    arguments = shape(2, 8, 8, 4), shape(3, 3, inputs, outputs)
    convolve = lambda x, kernel: conv(x, kernel, **options)
    assert count_flops(convolve, *arguments) == flops
    # The forms that appear under grad: dilated inputs, dilated kernels, groups of the batch.
    assert count_flops(total(convolve, 0, 1), *arguments) - flops == 2 * flops
    assert count_flops(total(convolve, 1), *arguments) - flops == flops


def test_a_transposed_convolution_counts_no_zeros_between_its_inputs():
    up = lambda x, kernel: jax.lax.conv_transpose(x, kernel, (2, 2), "SAME")
    down = lambda x, kernel: conv(x, kernel, strides=2)
    transposed = count_flops(up, shape(2, 4, 4, 6), shape(3, 3, 6, 4))
    assert transposed == count_flops(down, shape(2, 8, 8, 4), shape(3, 3, 4, 6))


def test_brute_force_of_a_convolution_with_everything_at_once():
    """Every factor of every product is looked at: with ones as data, the outputs sum to the multiply-adds."""
    options = {"strides": 2, "padding": ((2, 1), (0, 3)), "lhs_dilation": (3, 2), "rhs_dilation": (2, 1)}
    x, kernel = jnp.ones((2, 5, 4, 6)), jnp.ones((3, 2, 3, 4))
    convolve = lambda x, kernel: conv(x, kernel, **options, feature_group_count=2)
    assert count_flops(convolve, x, kernel) == 2 * int(jnp.sum(convolve(x, kernel)))


def test_loops_count_as_often_as_they_run():
    def stacked(x, weights):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights)[0]

    flops = 7 * 2 * 2 * 8 * 8
    assert count_flops(stacked, shape(2, 8), shape(7, 8, 8)) == flops
    assert count_flops(jax.jit(stacked), shape(2, 8), shape(7, 8, 8)) == flops
    assert count_flops(total(stacked, 0, 1), shape(2, 8), shape(7, 8, 8)) == 3 * flops
    twice = lambda x, w: jax.lax.scan(lambda c, _: (stacked(c, w), None), x, None, length=5)[0]
    assert count_flops(twice, shape(2, 8), shape(7, 8, 8)) == 5 * flops
    fixed = lambda x, w: jax.lax.fori_loop(0, 3, lambda _, x: x @ w, x)
    assert count_flops(fixed, shape(2, 8), shape(8, 8)) == 3 * 2 * 2 * 8 * 8


def test_a_matrix_product_in_a_loop_of_unknown_length_raises():
    free = lambda x: jax.lax.while_loop(lambda x: x[0, 0] < 9, lambda x: x + 1, x)
    assert count_flops(free, shape(4, 4)) == 0
    with pytest.raises(UserError, match="while_loop"):
        count_flops(lambda x: jax.lax.while_loop(lambda x: x[0, 0] < 9, lambda x: x @ x, x), shape(4, 4))


def test_the_most_expensive_branch_counts():
    def branches(i, x):
        return jax.lax.switch(i, [lambda x: x, lambda x: x @ x, lambda x: x @ x @ x], x)

    assert count_flops(branches, jax.ShapeDtypeStruct((), jnp.int32), shape(4, 4)) == 2 * 2 * 4**3


def test_custom_derivative_rules():
    @jax.custom_vjp
    def square(x):
        return x @ x

    square.defvjp(lambda x: (x @ x, x), lambda x, g: (g @ x.T + x.T @ g + x @ x @ x,))
    flops = 2 * 4**3
    assert count_flops(square, shape(4, 4)) == flops
    assert count_flops(jax.value_and_grad(lambda x: jnp.sum(square(x))), shape(4, 4)) == 5 * flops

    @jax.custom_jvp
    def cube(x):
        return x @ x @ x

    cube.defjvp(lambda x, t: (cube(*x), t[0] @ x[0]))
    assert count_flops(cube, shape(4, 4)) == 2 * flops
    assert count_flops(jax.value_and_grad(lambda x: jnp.sum(cube(x))), shape(4, 4)) == 3 * flops


def test_rematerialized_products_count_again():
    body = lambda x, w: jnp.tanh(jnp.tanh(x @ w) @ w)
    plain = count_flops(total(body, 0, 1), shape(4, 4), shape(4, 4))
    again = count_flops(total(jax.checkpoint(body), 0, 1), shape(4, 4), shape(4, 4))
    assert plain == 6 * 2 * 4**3
    assert again == 8 * 2 * 4**3


def test_all_shards_count():
    mesh = jax.sharding.AbstractMesh((4, 2), ("rows", "copies"), axis_types=(AxisType.Auto,) * 2)
    rows = PartitionSpec("rows")
    product = jax.shard_map(
        lambda x, w: x @ w, mesh=mesh, in_specs=(rows, PartitionSpec()), out_specs=rows, axis_names={"rows"}
    )
    assert count_flops(jax.jit(product), shape(8, 16), shape(16, 16)) == 2 * 8 * 16 * 16


def test_opaque_kernels_raise():
    call = lambda x: jax.ffi.ffi_call("none", jax.ShapeDtypeStruct((4, 4), jnp.float32))(x)
    with pytest.raises(UserError, match=r"ffi_call.*cannot be counted"):
        count_flops(call, shape(4, 4))


def test_attention_and_a_transformer():
    batch, tokens, heads, size = 2, 16, 4, 8
    width = heads * size
    q = shape(batch, tokens, heads, size)
    attention = lambda q, k, v: jax.nn.dot_product_attention(q, k, v, implementation="xla")
    assert count_flops(attention, q, q, q) == batch * 4 * tokens**2 * width

    depth, ratio = 3, 4
    options = TransformerOptions(width, depth, heads, mlp_ratio=ratio)
    graphdef, params = nnx.split(nnx.eval_shape(lambda: Transformer(options, rngs=nnx.Rngs(0))))
    params, x = nnx.as_pure(params), shape(batch, tokens, width)
    run = lambda params, x: nnx.merge(graphdef, params)(x)
    # qkv and output projection, MLP up and down, attention's two products.
    layer = 2 * tokens * width * width * (3 + 1 + 2 * ratio) + 4 * tokens**2 * width
    assert count_flops(run, params, x) == batch * depth * layer
    assert count_flops(total(run, 0, 1), params, x) == 3 * batch * depth * layer


def test_a_dense_network():
    sizes = [10, 20, 30, 5]
    make = lambda: nnx.List([nnx.Linear(a, b, rngs=nnx.Rngs(0)) for a, b in itertools.pairwise(sizes)])
    graphdef, params = nnx.split(nnx.eval_shape(make))

    def loss(params, x):
        *hidden, last = nnx.merge(graphdef, params)
        for layer in hidden:
            x = nnx.relu(layer(x))
        return jnp.mean(last(x) ** 2)

    weights = sum(np.prod(pair) for pair in itertools.pairwise(sizes))
    params, x = nnx.as_pure(params), shape(7, 10)
    assert count_flops(loss, params, x) == 2 * 7 * weights
    # Three times, but for the gradient of the first layer by its input, which nobody asks for.
    assert count_flops(jax.value_and_grad(loss), params, x) == 3 * 2 * 7 * weights - 2 * 7 * 10 * 20
