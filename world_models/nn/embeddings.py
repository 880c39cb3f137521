"""Embeddings of noise levels and actions."""

import jax
import jax.numpy as jnp
from flax import nnx

from world_models.core.sharding import axes
from world_models.core.types import ActionSpec, Array
from world_models.nn.constants import Constant


class FourierFeatures(nnx.Module):
    """Random Fourier features of a scalar: cos and sin of 2π·w·x with fixed w ~ N(0, 1) (Tancik et al. 2020)."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        if width % 2:
            raise ValueError(f"width={width} must be even.")
        self.frequencies = Constant(jax.random.normal(rngs.params(), (width // 2,)))

    def __call__(self, x: Array) -> Array:
        """float [...] -> float32 [..., width]."""
        angles = 2 * jnp.pi * x[..., None].astype(jnp.float32) * self.frequencies[...]
        return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


class ActionEmbedding(nnx.Module):
    """Embeds one action of any `ActionSpec`: a table for discrete actions, a linear map for continuous ones."""

    def __init__(self, spec: ActionSpec, width: int, *, dtype=jnp.float32, rngs: nnx.Rngs):
        self.spec = spec
        if spec.kind == "discrete":
            init, names = nnx.initializers.normal(1.0), axes("actions", None)
            self.table = nnx.Embed(spec.size, width, embedding_init=init, embedding_metadata=names, rngs=rngs)
        else:
            self.linear = nnx.Linear(spec.size, width, dtype=dtype, rngs=rngs)

    def __call__(self, actions: Array) -> Array:
        """int [...] or float [..., dim] in the environment's units -> [..., width]."""
        if self.spec.kind == "discrete":
            return self.table(actions)
        return self.linear(normalize_actions(self.spec, actions))


def normalize_actions(spec: ActionSpec, actions: Array) -> Array:
    """Maps continuous actions [..., dim] from [low, high] to [-1, 1]; a dimension without extent becomes 0."""
    if not spec.low:
        return actions
    low, high = jnp.array(spec.low, jnp.float32), jnp.array(spec.high, jnp.float32)
    extent = high - low
    return jnp.where(extent > 0, 2 * (actions - low) / jnp.where(extent > 0, extent, 1) - 1, 0)
