"""Operations of a transformer with hand-written backward passes, which are faster on CPUs than autodiff's.

Results and gradients are those of the plain formulas. Fewer intermediate results are kept for the backward pass, and
the products that give the gradients of parameters have the layout that is fastest on CPUs. None has a forward-mode
derivative (`jax.jvp`).
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from world_models.core.types import Array

PRODUCT = (
    "product"  # name of `dot_general`'s results for policies of `jax.checkpoint`, which cannot look inside a custom_vjp
)


def dot_general(
    x: Array,
    kernel: Array,
    dimension_numbers: Any,
    precision: Any = None,
    *,
    out_sharding: Any = None,
) -> jax.Array:
    """Contracts the last axes of `x` with the first of `kernel`: an argument `dot_general=` for layers of `nnx`.

    Args:
      x: [..., *inputs].
      kernel: [*inputs, *outputs].
      dimension_numbers: as of `jax.lax.dot_general`.
      precision, out_sharding: ignored; the layer must leave them at their defaults.

    Returns:
      [..., *outputs].
    """
    del precision, out_sharding
    inner = len(dimension_numbers[0][0])
    outer = x.shape[: x.ndim - inner]
    rows = x.reshape(-1, *x.shape[x.ndim - inner :])
    return checkpoint_name(_product(rows, kernel).reshape(*outer, *kernel.shape[inner:]), PRODUCT)


@jax.custom_vjp
def _product(rows: Array, kernel: Array) -> jax.Array:
    """[n, *inputs], [*inputs, *outputs] -> [n, *outputs]."""
    return jnp.tensordot(rows, kernel, rows.ndim - 1)


def _product_forward(rows: Array, kernel: Array) -> tuple[jax.Array, tuple]:
    return _product(rows, kernel), (rows, kernel)


def _product_backward(kept: tuple, gradient: Array) -> tuple[jax.Array, jax.Array]:
    rows, kernel = kept
    inner, outer = list(range(rows.ndim - 1)), list(range(gradient.ndim - 1))
    outputs = [len(inner) + axis for axis in outer]  # of the kernel
    of_rows = jnp.tensordot(gradient, kernel, ([1 + axis for axis in outer], outputs))
    if math.prod(rows.shape[1:]) <= math.prod(gradient.shape[1:]):
        return of_rows, jnp.tensordot(rows, gradient, ([0], [0]))
    # CPUs need longer for a tall result; the barrier keeps the compiler from undoing the transposition.
    wide = jax.lax.optimization_barrier(jnp.tensordot(gradient, rows, ([0], [0])))
    return of_rows, jnp.moveaxis(wide, outer, outputs)


_product.defvjp(_product_forward, _product_backward)


@jax.custom_vjp
def gelu(x: Array) -> jax.Array:
    """The exact GELU, x·Φ(x) (Hendrycks & Gimpel 2016)."""
    return x * _normal_cdf(x)


def _normal_cdf(x: Array) -> jax.Array:
    return 0.5 * (1 + jax.lax.erf(x * math.sqrt(0.5)))


def _gelu_backward(x: Array, gradient: Array) -> tuple[jax.Array]:
    density = jnp.exp(-0.5 * x * x) * math.sqrt(0.5 / math.pi)
    return (gradient * (_normal_cdf(x) + x * density),)


gelu.defvjp(lambda x: (gelu(x), x), _gelu_backward)


@jax.custom_vjp
def layer_norm(x: Array, scale: Array | None, bias: Array | None, epsilon: float) -> jax.Array:
    """Layer normalization over the last axis (Ba et al. 2016), computed in float32.

    Args:
      x: [..., width].
      scale, bias: float32 [width], or None both.
      epsilon: added to the variance.

    Returns:
      Like `x`, and of its dtype.
    """
    return _norm_forward(x, scale, bias, epsilon)[0]


def _norm_forward(x: Array, scale: Array | None, bias: Array | None, epsilon: float) -> tuple[jax.Array, tuple]:
    wide = x.astype(jnp.float32)
    mean = wide.mean(axis=-1, keepdims=True)
    inverse = jax.lax.rsqrt(jnp.square(wide - mean).mean(axis=-1, keepdims=True) + epsilon)
    normal = (wide - mean) * inverse
    y = normal if scale is None else normal * scale + bias
    return y.astype(x.dtype), (x, scale, mean, inverse)


def _norm_backward(kept: tuple, gradient: Array) -> tuple:
    x, scale, mean, inverse = kept
    gradient, normal = gradient.astype(jnp.float32), (x.astype(jnp.float32) - mean) * inverse
    of_scale = of_bias = None
    if scale is not None:
        rows = tuple(range(x.ndim - 1))
        of_scale, of_bias = (gradient * normal).sum(rows), gradient.sum(rows)
        gradient = gradient * scale
    along = (gradient * normal).mean(axis=-1, keepdims=True)
    of_x = inverse * (gradient - gradient.mean(axis=-1, keepdims=True) - normal * along)
    return of_x.astype(x.dtype), of_scale, of_bias, None


layer_norm.defvjp(_norm_forward, _norm_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def attention(q: Array, k: Array, v: Array, causal: bool, mask: Array | None = None) -> jax.Array:
    """Softmax attention (Vaswani et al. 2017), with scores and softmax in float32.

    Args:
      q, k, v: [batch, tokens, heads, size].
      causal: whether a token attends to none after it.
      mask: bool [batch, tokens, tokens], whether a token (second axis) attends to another (third); None for all. Every
        token must attend to some.

    Returns:
      [batch, tokens, heads, size].
    """
    return _attention_forward(q, k, v, causal, mask)[0]


def _attention_forward(q: Array, k: Array, v: Array, causal: bool, mask: Array | None) -> tuple[jax.Array, tuple]:
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k, preferred_element_type=jnp.float32) / math.sqrt(q.shape[-1])
    if causal:
        scores = jnp.where(np.tri(*scores.shape[-2:], dtype=bool), scores, -jnp.inf)
    if mask is not None:
        scores = jnp.where(mask[:, None], scores, -jnp.inf)
    weights = jnp.exp(scores - scores.max(axis=-1, keepdims=True))
    weights = (weights / weights.sum(axis=-1, keepdims=True)).astype(q.dtype)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, v)
    return mixed, (q, k, v, weights, mixed)


def _attention_backward(causal: bool, kept: tuple, gradient: Array) -> tuple:
    del causal  # masked weights are zero, and so are the gradients of their scores
    q, k, v, weights, mixed = kept
    of_v = jnp.einsum("bhqk,bqhd->bkhd", weights, gradient)
    of_weights = jnp.einsum("bqhd,bkhd->bhqk", gradient, v, preferred_element_type=jnp.float32)
    # The softmax needs Σ weights · of_weights over keys: the same sum over channels is shorter (Dao et al. 2022, B.2).
    along = (gradient.astype(jnp.float32) * mixed).sum(axis=-1).swapaxes(1, 2)[..., None]
    of_scores = (weights * (of_weights - along) / math.sqrt(q.shape[-1])).astype(q.dtype)
    of_q = jnp.einsum("bhqk,bkhd->bqhd", of_scores, k)
    return of_q, jnp.einsum("bhqk,bqhd->bkhd", of_scores, q), of_v, None


attention.defvjp(_attention_forward, _attention_backward)
