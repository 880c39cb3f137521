"""Heads that classify a few frames in their order."""

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from world_models.core.sharding import axes
from world_models.core.types import Array


class SequenceHead(nnx.Module):
    """Classes of sequences of frames, from how the encoder's maps differ between neighbours in a ring.

    Wei et al. 2018 (section 2) hand their network optical flow; here it is handed the differences of each frame from
    the next, and of the last from the first, and how large they are. At every place of the map one layer sees all of
    them, and the mean over the frame goes on. (Heads that join the maps themselves need hundreds of steps to leave
    chance, if they do.)
    """

    def __init__(self, frames: int, size: int, hidden: int, classes: int, *, rngs: nnx.Rngs):
        """`frames` of a sequence, features of `size` numbers, `hidden` width."""
        linear = lambda a, b, *names: nnx.Linear(a, b, kernel_metadata=axes(*names), rngs=rngs)
        self.frames = frames
        self.place = linear(2 * frames * size, hidden, "width", "mlp")
        self.join = linear(hidden, hidden, "width", "mlp")
        self.out = linear(hidden, classes, "mlp", None)

    def __call__(self, maps: Array) -> jax.Array:
        """Logits float32 [batch, classes] of maps [batch·frames, rows, columns, size], a sequence's one by one."""
        clips = maps.reshape(-1, self.frames, *maps.shape[1:])
        differences = jnp.moveaxis(jnp.roll(clips, -1, axis=1) - clips, 1, 3)
        both = jnp.concatenate([differences, jnp.abs(differences)], axis=-1)
        places = nnx.relu(self.place(both.reshape(*both.shape[:3], -1)))
        return self.out(nnx.relu(self.join(places.mean(axis=(1, 2)))))


def two_class_loss(logits: Array, labels: Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Cross-entropy of logits [batch, 2], with "loss", "accuracy", and its mean over the two labels.

    The last does not rise with a guess of the more frequent label. A label that the batch lacks counts as half right.
    """
    loss = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))
    right = (jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32)
    share = lambda own: jnp.where(jnp.any(own), jnp.sum(right * own) / jnp.maximum(jnp.sum(own), 1), 0.5)
    balanced = (share(labels == 0) + share(labels == 1)) / 2
    return loss, {"loss": loss, "accuracy": jnp.mean(right), "balanced_accuracy": balanced}
