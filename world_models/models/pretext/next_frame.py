"""Next-frame prediction: how a frame follows from those before it, as a task that trains an encoder."""

import jax
import jax.numpy as jnp
from flax import nnx

from world_models.core.errors import config_error
from world_models.core.sharding import axes
from world_models.core.types import Array, Clip
from world_models.models.pretext.options import NextFrameOptions, PretextOptions
from world_models.models.pretext.task import Encode, Task

MOVES = 8 / 255
"""By how much a pixel must change to count as moving."""


class NextFrame(Task):
    """A small convolutional network finds the change of the last frame from the encoder's maps of some frames.

    The network sees the pixels of the last frame alone, so that what moves, and where to, must be in the maps. Without
    training it copies the last frame.
    """

    stages = ("next", "last", "predicted")

    @classmethod
    def check(cls, options: PretextOptions, frames_shape: tuple[int, int, int, int]) -> None:
        """Checks the options of the task against the shape of the clips."""
        task, field = options.task, "config.model.task"
        for name in ("context", "hidden"):
            if getattr(task, name) < 1:
                raise config_error(f"{field}.{name}", getattr(task, name), "be at least 1")
        if task.context >= frames_shape[0]:
            valid = f"be at least {task.context + 1}: {field}.context={task.context} frames and the next one"
            raise config_error("config.data.clip_length", frames_shape[0], valid)

    def __init__(
        self, options: NextFrameOptions, size: int, frames_shape: tuple[int, int, int, int], *, rngs: nnx.Rngs
    ):  # fmt: skip
        """Builds the head for features of so many numbers."""
        self.options, channels, hidden = options, frames_shape[-1], options.hidden
        names = axes(None, None, "channels_in", "channels_out")
        conv = lambda a, b, **more: nnx.Conv(a, b, (3, 3), kernel_metadata=names, rngs=rngs, **more)
        self.maps = nnx.List([conv(options.context * size, hidden), conv(hidden, hidden)])
        self.pixels = conv(hidden + channels, hidden)
        self.out = conv(hidden, channels, kernel_init=nnx.initializers.zeros_init())

    def predict(self, encode: Encode, frames: Array) -> jax.Array:
        """The next frame, float32 [batch, h, w, c] in 0..1 (not clipped), of [batch, context, h, w, c] in 0..255."""
        batch, last = len(frames), frames[:, -1].astype(jnp.float32) / 255
        maps = encode(frames.reshape(-1, *frames.shape[2:]))
        maps = maps.reshape(batch, -1, *maps.shape[1:])
        x = jnp.moveaxis(maps, 1, -2).reshape(*maps.shape[:1], *maps.shape[2:4], -1)
        for conv in self.maps:
            x = nnx.relu(conv(x))
        x = jax.image.resize(x, (*last.shape[:3], x.shape[-1]), "linear")
        return last + self.out(nnx.relu(self.pixels(jnp.concatenate([x, last], axis=-1))))

    def loss(self, encode: Encode, clip: Clip, keys: Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Mean squared error of a frame at a random time of every clip, in units of images in 0..1.

        `moving_gain` is by how much, as a share, the error on moving pixels is below that of the copied last frame.
        """
        frames = jax.vmap(self._draw)(keys, clip.frames)
        predicted = self.predict(encode, frames[:, :-1])
        truth, last = (frames[:, t].astype(jnp.float32) / 255 for t in (-1, -2))
        loss = jnp.mean((predicted - truth) ** 2)
        moving = jnp.abs(truth - last).max(axis=-1, keepdims=True) > MOVES
        error = lambda guess: jnp.sum(moving * (guess - truth) ** 2)
        copied = error(last)
        gain = jnp.where(copied > 0, 1 - error(predicted) / jnp.maximum(copied, 1e-9), 0.0)
        return loss, {"loss": loss, "copy_loss": jnp.mean((last - truth) ** 2), "moving_gain": gain}

    def pictures(self, encode: Encode, clip: Clip, keys: Array) -> dict[str, Array]:
        """The true next frame, the last one and the predicted one, of a clip's first frames; see `Task`."""
        count = self.options.context
        predicted = jnp.clip(self.predict(encode, clip.frames[:, :count]), 0, 1)
        one = lambda t: jnp.asarray(clip.frames)[:, t : t + 1]
        return {
            "next": one(count),
            "last": one(count - 1),
            "predicted": jnp.round(255 * predicted).astype(jnp.uint8)[:, None],
        }

    def _draw(self, key: Array, clip: Array) -> jax.Array:
        """Neighbouring frames of a clip: the context and the next one."""
        count = self.options.context + 1
        start = jax.random.randint(key, (), 0, len(clip) - count + 1)
        return jax.lax.dynamic_slice_in_dim(clip, start, count)
