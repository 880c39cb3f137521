"""Operations with hand-written backward passes, against the plain formulas and autodiff."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from world_models.nn import cpu_ops as ops


def _normal(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes]


def _plain_norm(x, scale, bias):
    normal = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return normal if scale is None else normal * scale + bias


def _own_product(inner):
    numbers = lambda x: ((tuple(range(x.ndim - inner, x.ndim)), tuple(range(inner))), ((), ()))
    return lambda x, kernel: ops.dot_general(x, kernel, numbers(x))


def _attention(causal, mask=None):
    own = lambda q, k, v: ops.attention(q, k, v, causal, mask)
    plain = None if mask is None else mask[:, None]
    return own, lambda q, k, v: jax.nn.dot_product_attention(q, k, v, mask=plain, is_causal=causal)


MASK = np.random.default_rng(2).random((2, 5, 5)) < 0.5
MASK |= np.eye(5, dtype=bool)  # every token attends to some


CASES = {
    "wide product": (_own_product(1), lambda x, w: jnp.tensordot(x, w, 1), [(2, 5, 6), (6, 3, 2, 4)]),
    "tall product": (_own_product(2), lambda x, w: jnp.tensordot(x, w, 2), [(2, 5, 6, 4), (6, 4, 3)]),
    "tall product of many outputs": (_own_product(1), lambda x, w: jnp.tensordot(x, w, 1), [(7, 40), (40, 3, 5)]),
    "gelu": (ops.gelu, lambda x: jax.nn.gelu(x, approximate=False), [(3, 50)]),
    "norm": (lambda *x: ops.layer_norm(*x, 1e-6), _plain_norm, [(2, 5, 8), (8,), (8,)]),
    "norm alone": (lambda x: ops.layer_norm(x, None, None, 1e-6), lambda x: _plain_norm(x, None, None), [(2, 5, 8)]),
    "attention": (*_attention(False), [(2, 5, 3, 4)] * 3),
    "causal attention": (*_attention(True), [(2, 5, 3, 4)] * 3),
    "masked attention": (*_attention(False, MASK), [(2, 5, 3, 4)] * 3),
    "masked causal attention": (*_attention(True, MASK), [(2, 5, 3, 4)] * 3),
}


@pytest.mark.parametrize("case", CASES)
def test_results_and_gradients_are_those_of_the_plain_formula(case):
    own, plain, shapes = CASES[case]
    inputs = _normal(*shapes)
    (found, back), (expected, plain_back) = jax.vjp(own, *inputs), jax.vjp(plain, *inputs)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    (gradient,) = _normal(found.shape, seed=1)
    for a, b in zip(back(gradient), plain_back(gradient), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_bfloat16_stays_bfloat16_and_near(case):
    own, _, shapes = CASES[case]
    exact = _normal(*shapes)
    narrow = [x if "norm" in case and x.ndim == 1 else x.astype(jnp.bfloat16) for x in exact]
    (found, back), (expected, exact_back) = jax.vjp(own, *narrow), jax.vjp(own, *exact)
    assert found.dtype == jnp.bfloat16
    (gradient,) = _normal(found.shape, seed=1)
    for a, b, x in zip(back(gradient.astype(found.dtype)), exact_back(gradient), narrow, strict=True):
        assert a.dtype == x.dtype
        np.testing.assert_allclose(a.astype(jnp.float32), b, atol=0.04 * float(jnp.abs(b).max()))
    np.testing.assert_allclose(found.astype(jnp.float32), expected, atol=0.03 * float(jnp.abs(expected).max()))
