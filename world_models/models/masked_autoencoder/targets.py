"""Targets of a masked autoencoder for removed patches, and the pixels that a prediction stands for."""

import jax
import jax.numpy as jnp

from world_models.core.types import Array

KINDS = ("pixels", "patch_normalized", "channel_normalized", "pca")
_EPSILON = 1e-6


def target(kind: str, patches: Array, channels: int) -> Array:
    """The target of patches [batch, tokens, pixels] that hold `channels` channels: float32, the same shape.

    - "pixels": as they are ("pca" too: see `principal_subspace`).
    - "patch_normalized": minus the patch's mean, over its standard deviation √(var + 1e-6), all channels together, with
      the unbiased variance (He et al. 2021, MAE, section 3 and released code).
    - "channel_normalized": each channel of a patch by itself, over √var + 1e-6 (Tong et al. 2022, VideoMAE, code).
    """
    if kind in ("pixels", "pca"):
        return patches
    if kind == "channel_normalized":  # or a flat patch would show the rounding of its mean, which is not below 1e-6
        groups = _by_channel(kind, patches, channels)
        patches = (groups - groups[..., :1, :]).reshape(patches.shape)
    mean, scale = _statistics(kind, patches, channels)
    return (_by_channel(kind, patches, channels) - mean).reshape(patches.shape) / _flat(scale, patches, kind, channels)


def to_pixels(kind: str, predictions: Array, patches: Array, channels: int) -> Array:
    """The pixels that predictions stand for, given the true patches, whose mean and scale a normalized target lacks."""
    if kind in ("pixels", "pca"):
        return predictions
    mean, scale = _statistics(kind, patches, channels)
    return predictions * _flat(scale, patches, kind, channels) + _flat(mean, patches, kind, channels)


def _by_channel(kind: str, patches: Array, channels: int) -> Array:
    return patches.reshape(*patches.shape[:-1], -1, channels if kind == "channel_normalized" else 1)


def _statistics(kind: str, patches: Array, channels: int) -> tuple[Array, Array]:
    """Mean and scale, [batch, tokens, 1, channels or 1]."""
    groups = _by_channel(kind, patches, channels)
    mean, variance = groups.mean(axis=-2, keepdims=True), groups.var(axis=-2, keepdims=True, ddof=1)
    if kind == "channel_normalized":
        return mean, jnp.sqrt(variance) + _EPSILON
    return mean, jnp.sqrt(variance + _EPSILON)


def _flat(statistic: Array, patches: Array, kind: str, channels: int) -> Array:
    return jnp.broadcast_to(statistic, _by_channel(kind, patches, channels).shape).reshape(patches.shape)


def principal_subspace(patches: Array, components: int) -> Array:
    """Projection onto the first principal components of patches [batch, tokens, pixels]: float32 [pixels, components].

    The components are those of the batch at hand, all of it, on all devices: an estimate from thousands of patches that
    needs no pass over the data. A loss between projections does not depend on their signs or order.
    """
    flat = patches.reshape(-1, patches.shape[-1])
    centered = flat - flat.mean(axis=0)
    _, vectors = jnp.linalg.eigh(centered.T @ centered / len(flat))
    return jax.lax.stop_gradient(vectors[:, -components:])
