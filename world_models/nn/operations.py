"""Operations of a transformer: those of JAX and Flax, or those with hand-written backward passes for CPUs."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from world_models.core.errors import config_error
from world_models.core.types import Array
from world_models.nn import cpu_ops
from world_models.nn.options import OPS


@dataclasses.dataclass(frozen=True)
class Operations:
    """The operations of a transformer.

    Attributes:
      dot_general: the argument of that name of `nnx.Linear` and `nnx.LinearGeneral`.
      gelu: the exact GELU.
      layer_norm: (x, scale, bias, epsilon) -> like `x`; None for that of `nnx.LayerNorm`.
      attention: (q, k, v, causal, mask) -> like q; q [batch, tokens, heads, size], k and v with as many heads or a
        divisor, mask bool [batch, tokens, tokens] or None.
    """

    dot_general: Callable
    gelu: Callable
    layer_norm: Callable | None
    attention: Callable


def _gelu(x: Array) -> jax.Array:
    return jax.nn.gelu(x, approximate=False)


def _attention(q: Array, k: Array, v: Array, causal: bool, mask: Array | None = None) -> jax.Array:
    mask = None if mask is None else mask[:, None]
    return jax.nn.dot_product_attention(q, k, v, mask=mask, is_causal=causal, implementation="xla")


def _cpu_attention(q: Array, k: Array, v: Array, causal: bool, mask: Array | None = None) -> jax.Array:
    shared = q.shape[2] // k.shape[2]
    return cpu_ops.attention(q, *(jnp.repeat(x, shared, axis=2) if shared > 1 else x for x in (k, v)), causal, mask)


_IMPLEMENTATIONS = {
    "library": Operations(jax.lax.dot_general, _gelu, None, _attention),
    "cpu": Operations(cpu_ops.dot_general, cpu_ops.gelu, cpu_ops.layer_norm, _cpu_attention),
}


def operations(name: str) -> Operations:
    """The operations of a name in `OPS`; "auto" is "cpu" on a CPU and "library" elsewhere.

    Raises:
      ConfigError: if there are none of that name, or they are "cpu" on an accelerator.
    """
    backend = jax.default_backend()
    if name not in OPS:
        raise config_error("config.runtime.compute.ops", name, f"be one of {', '.join(map(repr, OPS))}")
    if name == "auto":
        name = "cpu" if backend == "cpu" else "library"
    if name == "cpu" and backend != "cpu":
        raise config_error("config.runtime.compute.ops", name, f"be 'auto' or 'library' on a {backend}")
    return _IMPLEMENTATIONS[name]
