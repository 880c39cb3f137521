"""A classifier on top of a pretrained encoder, with learning rates by layer."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from world_models.core.types import Array
from world_models.models.masked_autoencoder.model import MaskedAutoencoder
from world_models.nn.transformer import EPSILON, drop_path


class Classifier(nnx.Module):
    """A pretrained encoder, the mean of its patch tokens, a norm and a linear head (MAE, appendix A.1)."""

    def __init__(self, model: MaskedAutoencoder, num_classes: int, *, rngs: nnx.Rngs):
        """Uses `model` as the backbone, in place, and deletes its decoder."""
        width = model.options.encoder.width
        self.depth = model.options.encoder.depth
        self.backbone = model
        self.backbone.decoder = None
        self.norm = nnx.LayerNorm(width, epsilon=EPSILON, rngs=rngs)
        small = nnx.initializers.truncated_normal(2e-5)
        self.head = nnx.Linear(width, num_classes, kernel_init=small, rngs=rngs)

    def __call__(self, frames: Array, keys: Array | None = None, drop_path_rate: float = 0.0) -> jax.Array:
        """Logits, float32 [batch, classes], of frames [batch, time, h, w, c] in 0..255.

        With random `keys` [batch], branches of the encoder are left out with `drop_path_rate`, see
        `transformer.drop_path`.
        """
        gates = None if keys is None or not drop_path_rate else drop_path(keys, drop_path_rate, self.depth)
        tokens = self.backbone.tokens(frames, gates).astype(jnp.float32)
        pooled = tokens[:, int(self.backbone.options.class_token) :].mean(axis=1)
        return self.head(self.norm(pooled))


def learning_rate_factors(params: Any, depth: int, decay: float, trained_blocks: int | None = None) -> Any:
    """Factors of the learning rate by layer, a tree like the parameters of a `Classifier`.

    The head and the norms after the last block learn at the full rate, block i of `depth` at decay^(depth − i), the
    embeddings at decay^(depth + 1) (Clark et al. 2020; MAE, appendix A.1). The embeddings and all but
    the last `trained_blocks` blocks do not learn at all, if that is given (MAE, section 4.3).
    """
    layers = jnp.arange(depth)
    factors = decay ** (depth - layers.astype(jnp.float32))
    if trained_blocks is not None:
        factors = jnp.where(layers >= depth - trained_blocks, factors, 0.0)
    before = decay ** (depth + 1) if trained_blocks is None else 0.0

    def factor(path: tuple, x: Array) -> Array:
        names = [str(getattr(key, "key", getattr(key, "name", key))) for key in path]
        if "blocks" in names:
            return factors.reshape(depth, *(1,) * (x.ndim - 1))
        return jnp.float32(before if {"embed", "positions", "class_token", "mask_token"} & set(names) else 1.0)

    return jax.tree_util.tree_map_with_path(factor, params)
