"""Sequence order verification: whether three frames are in the order of time (Misra, Zitnick and Hebert 2016)."""

import jax
from flax import nnx

from world_models.core.errors import config_error
from world_models.core.types import Array, Clip
from world_models.models.pretext.clips import controlled, order_tuple, tuple_frames
from world_models.models.pretext.heads import SequenceHead, two_class_loss
from world_models.models.pretext.options import OrderOptions, PretextOptions
from world_models.models.pretext.task import Encode, Task


class Order(Task):
    """Three frames are encoded alike; the head says whether they are in order."""

    chance = {"balanced_accuracy": 0.5}  # noqa: RUF012 (never changed)

    @classmethod
    def check(cls, options: PretextOptions, frames_shape: tuple[int, int, int, int]) -> None:
        """Checks the options of the task against the shape of the clips."""
        task, field = options.task, "config.model.task"
        for name, least in (("near", 1), ("far", 2), ("hidden", 1)):
            if getattr(task, name) < least:
                raise config_error(f"{field}.{name}", getattr(task, name), f"be at least {least}")
        if not 0 < task.negatives < 1:
            raise config_error(f"{field}.negatives", task.negatives, "be between 0 and 1")
        if task.control not in ("none", "static"):
            raise config_error(f"{field}.control", task.control, "be 'none' or 'static'")
        if (needed := tuple_frames(task.near, task.far)) > frames_shape[0]:
            valid = (
                f"be at least {needed}: {field}.far={task.far} and twice {field}.near={task.near} lie between frames"
            )
            raise config_error("config.data.clip_length", frames_shape[0], valid)

    def __init__(
        self, options: OrderOptions, size: int, frames_shape: tuple[int, int, int, int], *, rngs: nnx.Rngs
    ):  # fmt: skip
        """Builds the head for features of so many numbers."""
        self.options = options
        self.head = SequenceHead(3, size, options.hidden, 2, rngs=rngs)

    def loss(self, encode: Encode, clip: Clip, keys: Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Cross-entropy of one tuple of every clip."""
        options = self.options

        def draw(key: Array, frames: Array) -> tuple[Array, Array]:
            control, choice = jax.random.split(key)
            frames = controlled(control, frames, options.control)
            return order_tuple(choice, frames, near=options.near, far=options.far, negatives=options.negatives)

        tuples, labels = jax.vmap(draw)(keys, clip.frames)
        return two_class_loss(self.head(encode(tuples.reshape(-1, *tuples.shape[2:]))), labels)
