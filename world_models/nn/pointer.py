"""Attention that copies: every query takes over what stands where the keys are most like it."""

import jax
import jax.numpy as jnp

from world_models.core.types import Array


def point(
    queries: Array,
    keys: Array,
    values: Array,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    allowed: Array | None = None,
) -> jax.Array:
    """Means of values, weighted by a softmax over the keys of their dot products with each query.

    Vondrick et al. 2018 (arXiv 1806.09594), equation 1; with `top_k`, as Jabri et al. 2020 (arXiv 2006.14613) do.

    Args:
      queries: float [..., q, d].
      keys: float [..., k, d].
      values: float [..., k, n], such as one-hot classes.
      temperature: the dot products are divided by it.
      top_k: how many keys a query looks at, the most alike; 0 for all.
      allowed: bool [..., q, k], the keys that a query may look at, at least one each; None for all.

    Returns:
      float [..., q, n].
    """
    scores = jnp.einsum("...qd,...kd->...qk", queries, keys, preferred_element_type=jnp.float32) / temperature
    if allowed is not None:
        scores = jnp.where(allowed, scores, -jnp.inf)
    if not 0 < top_k < scores.shape[-1]:
        return jnp.einsum("...qk,...kn->...qn", jax.nn.softmax(scores), values)
    scores, chosen = jax.lax.top_k(scores, top_k)
    rows = jnp.take_along_axis(values[..., None, :, :], chosen[..., None], axis=-2)
    return jnp.einsum("...qk,...qkn->...qn", jax.nn.softmax(scores), rows)
