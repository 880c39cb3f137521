"""Heads that classify a few frames in their order."""

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from world_models.core.sharding import axes
from world_models.core.types import Array

GRID = 4
"""Cells along a side to which maps are averaged: where things are matters for how they move."""


class SequenceHead(nnx.Module):
    """Classes of sequences of frames, from the encoder's maps of each, which a two-layer network joins."""

    def __init__(self, frames: int, size: int, hidden: int, classes: int, *, rngs: nnx.Rngs):
        """`frames` of a sequence, features of `size` numbers, `hidden` width."""
        linear = lambda a, b, *names: nnx.Linear(a, b, kernel_metadata=axes(*names), rngs=rngs)
        self.frames = frames
        self.embed = linear(GRID * GRID * size, hidden, None, "mlp")
        self.join = linear(frames * hidden, hidden, None, "mlp")
        self.out = linear(hidden, classes, "mlp", None)

    def __call__(self, maps: Array) -> jax.Array:
        """Logits float32 [batch, classes] of maps [batch·frames, rows, columns, size], a sequence's one by one."""
        shape = (len(maps), GRID, GRID, maps.shape[-1])
        coarse = jax.image.resize(maps, shape, "linear").reshape(len(maps), -1)
        hidden = nnx.relu(self.embed(coarse)).reshape(len(maps) // self.frames, -1)
        return self.out(nnx.relu(self.join(hidden)))


def two_class_loss(logits: Array, labels: Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Cross-entropy of logits [batch, 2], with "loss", "accuracy", and its mean over the two labels.

    The last does not rise with a guess of the more frequent label. A label that the batch lacks counts as half right.
    """
    loss = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))
    right = (jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32)
    share = lambda own: jnp.where(jnp.any(own), jnp.sum(right * own) / jnp.maximum(jnp.sum(own), 1), 0.5)
    balanced = (share(labels == 0) + share(labels == 1)) / 2
    return loss, {"loss": loss, "accuracy": jnp.mean(right), "balanced_accuracy": balanced}
