"""The arrow of time: whether a clip runs forwards or backwards (Wei, Lim, Zisserman and Freeman 2018)."""

import jax
from flax import nnx

from world_models.core.errors import config_error
from world_models.core.types import Array, Clip
from world_models.models.pretext.clips import CONTROLS, blank_border, controlled, directed
from world_models.models.pretext.heads import SequenceHead, two_class_loss
from world_models.models.pretext.options import DirectionOptions, PretextOptions
from world_models.models.pretext.task import Encode, Task


class Direction(Task):
    """All frames of a clip are encoded alike; the head says whether they run backwards."""

    chance = {"balanced_accuracy": 0.5, "accuracy": 0.5}  # noqa: RUF012 (never changed)

    @classmethod
    def check(cls, options: PretextOptions, frames_shape: tuple[int, int, int, int]) -> None:
        """Checks the options of the task against the shape of the clips."""
        task, field = options.task, "config.model.task"
        time, height, width, _ = frames_shape
        if task.hidden < 1:
            raise config_error(f"{field}.hidden", task.hidden, "be at least 1")
        if not 0 <= 2 * task.border < min(height, width):
            raise config_error(f"{field}.border", task.border, f"leave something of frames of {height}x{width}")
        if task.control not in CONTROLS:
            raise config_error(f"{field}.control", task.control, f"be one of {', '.join(map(repr, CONTROLS))}")
        if time < 2:
            raise config_error("config.data.clip_length", time, "be at least 2: one frame has no direction of time")

    def __init__(
        self, options: DirectionOptions, size: int, frames_shape: tuple[int, int, int, int], *, rngs: nnx.Rngs
    ):  # fmt: skip
        """Builds the head for features of so many numbers."""
        self.options = options
        self.head = SequenceHead(frames_shape[0], size, options.hidden, 2, rngs=rngs)

    def view(self, frames: Array) -> Array:
        """Frames without their border; see `Task`."""
        return blank_border(frames, self.options.border)

    def loss(self, encode: Encode, clip: Clip, keys: Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Cross-entropy of every clip, turned round or not."""

        def draw(key: Array, frames: Array) -> tuple[Array, Array]:
            control, choice = jax.random.split(key)
            return directed(choice, controlled(control, frames, self.options.control))

        clips, labels = jax.vmap(draw)(keys, clip.frames)
        return two_class_loss(self.head(encode(self.view(clips.reshape(-1, *clips.shape[2:])))), labels)
