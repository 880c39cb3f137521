"""Classification by labels: no pretext task, but the supervised training that they are compared with."""

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from world_models.core.errors import config_error
from world_models.core.sharding import axes
from world_models.core.types import Array, Clip
from world_models.models.pretext.options import ClassificationOptions, PretextOptions
from world_models.models.pretext.task import Encode, Task

CLASS = "class"
"""Where in `Clip.observations` the class of a clip is, int32 [batch, time], the same at all times."""


class Classification(Task):
    """A linear layer on the mean over all maps of a clip says its class."""

    @classmethod
    def check(cls, options: PretextOptions, frames_shape: tuple[int, int, int, int]) -> None:
        """Checks the options of the task against the shape of the clips."""
        if options.task.num_classes < 2:
            raise config_error("config.model.task.num_classes", options.task.num_classes, "be at least 2")

    @classmethod
    def chances(cls, options: ClassificationOptions, batch: int) -> dict[str, float]:
        """Of guesses, by metric."""
        return {"accuracy": 1 / options.num_classes}

    def __init__(
        self, options: ClassificationOptions, size: int, frames_shape: tuple[int, int, int, int], *, rngs: nnx.Rngs
    ):  # fmt: skip
        """Builds the head for features of so many numbers."""
        self.out = nnx.Linear(size, options.num_classes, kernel_metadata=axes("width", "mlp"), rngs=rngs)

    def loss(self, encode: Encode, clip: Clip, keys: Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Cross-entropy of the classes under `CLASS`; the metric "accuracy" is a share."""
        batch, time = clip.frames.shape[:2]
        maps = encode(clip.frames.reshape(-1, *clip.frames.shape[2:]))
        return class_loss(self.out(maps.reshape(batch, time, *maps.shape[1:]).mean(axis=(1, 2, 3))), clip)


def class_loss(logits: Array, clip: Clip) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Cross-entropy of logits [batch, classes] with the clips' classes, and the metrics "loss" and "accuracy"."""
    labels = clip.observations[CLASS][:, 0]
    loss = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))
    return loss, {"loss": loss, "accuracy": jnp.mean(jnp.argmax(logits, axis=-1) == labels)}
