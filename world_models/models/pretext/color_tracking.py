"""Tracking by colorization: the colours of a frame are copied from earlier ones (Vondrick et al. 2018)."""

import jax
import jax.numpy as jnp
from flax import nnx

from world_models.core.errors import config_error
from world_models.core.sharding import axes
from world_models.core.types import Array, Clip
from world_models.models.pretext.clips import drop_colors, k_means, nearest
from world_models.models.pretext.lab import rgb_to_lab
from world_models.models.pretext.options import ColorTrackingOptions, PretextOptions
from world_models.models.pretext.task import Encode, Task
from world_models.nn.pointer import point

_GREY = (0.299, 0.587, 0.114)  # BT.601
INPUTS = ("grey", "dropout")


class ColorTracking(Task):
    """Every place of a frame points at places of reference frames; what it points at should have its colour.

    The encoder sees no colours, or not all of them, so that it must find places again by what is there.
    """

    @classmethod
    def check(cls, options: PretextOptions, frames_shape: tuple[int, int, int, int]) -> None:
        """Checks the options of the task against the shape of the clips."""
        task, field = options.task, "config.model.task"
        for name, least in (("references", 1), ("gap", 1), ("embedding", 1), ("colors", 2)):
            if getattr(task, name) < least:
                raise config_error(f"{field}.{name}", getattr(task, name), f"be at least {least}")
        if task.temperature <= 0:
            raise config_error(f"{field}.temperature", task.temperature, "be above 0")
        if task.inputs not in INPUTS:
            raise config_error(f"{field}.inputs", task.inputs, f"be one of {', '.join(map(repr, INPUTS))}")
        if not 0 <= task.dropout <= 1:
            raise config_error(f"{field}.dropout", task.dropout, "be from 0 to 1")
        if frames_shape[-1] != 3:
            raise config_error(f"{field}.kind", "color_tracking", "be another task for grey frames: it needs colours")
        if (needed := task.references * task.gap + 1) > frames_shape[0]:
            valid = f"be at least {needed}: {field}.references={task.references} frames {field}.gap={task.gap} apart"
            raise config_error("config.data.clip_length", frames_shape[0], valid)

    def __init__(
        self, options: ColorTrackingOptions, size: int, frames_shape: tuple[int, int, int, int], *, rngs: nnx.Rngs
    ):  # fmt: skip
        """Builds the head for features of so many numbers."""
        self.options = options
        self.embed = nnx.Linear(size, options.embedding, kernel_metadata=axes("width", "mlp"), rngs=rngs)

    def view(self, frames: Array) -> Array:
        """Grey frames, if the encoder never sees colours; see `Task`."""
        return grey(frames) if self.options.inputs == "grey" else frames

    def correspondence(self, maps: Array) -> Array:
        """The embedding by which places are compared; see `Task`."""
        found = self.embed(maps)
        return found * jax.lax.rsqrt(jnp.sum(found**2, axis=-1, keepdims=True) + 1e-12)

    def loss(self, encode: Encode, clip: Clip, keys: Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Cross-entropy of the colour class of every place of one frame of each clip.

        Beside the accuracy stands `copy_accuracy`, that of the colour at the same place in the last reference frame.
        """
        options = self.options
        frames, seen = jax.vmap(self._draw)(keys, clip.frames)
        batch, count = frames.shape[:2]
        maps = self.correspondence(encode(seen.reshape(-1, *seen.shape[2:])))
        rows, columns = maps.shape[1:3]
        maps = maps.reshape(batch, count, rows * columns, -1)
        labels = jax.vmap(lambda frames: color_classes(frames, (rows, columns), options.colors))(frames)
        known = jax.nn.one_hot(labels[:, :-1], options.colors).reshape(batch, -1, options.colors)
        keys_ = maps[:, :-1].reshape(batch, -1, maps.shape[-1])
        found = point(maps[:, -1], keys_, known, temperature=options.temperature)
        own = jnp.take_along_axis(found, labels[:, -1, :, None], axis=-1)
        loss = -jnp.mean(jnp.log(own + 1e-4))
        accuracy = jnp.mean(jnp.argmax(found, axis=-1) == labels[:, -1])
        copied = jnp.mean(labels[:, -2] == labels[:, -1])
        return loss, {"loss": loss, "accuracy": accuracy, "copy_accuracy": copied}

    def _draw(self, key: Array, clip: Array) -> tuple[jax.Array, jax.Array]:
        """(frames of a clip, the references and then the one to be coloured; the same as the encoder sees them)."""
        options = self.options
        place, drop = jax.random.split(key)
        last = options.references * options.gap
        start = jax.random.randint(place, (), 0, len(clip) - last)
        frames = jnp.take(clip, start + options.gap * jnp.arange(options.references + 1), axis=0)
        return frames, grey(frames) if options.inputs == "grey" else drop_colors(drop, frames, options.dropout)


def grey(frames: Array) -> jax.Array:
    """The luma of RGB frames [..., 3] in 0..255, three times: float32."""
    luma = frames.astype(jnp.float32) @ jnp.array(_GREY)
    return jnp.repeat(luma[..., None], 3, axis=-1)


def color_classes(frames: Array, size: tuple[int, int], colors: int) -> jax.Array:
    """The class of every place's mean colour, of `colors` that the clip's frames have.

    Args:
      frames: [time, h, w, 3] of a clip in 0..255.
      size: (rows, columns) to which they are averaged.
      colors: number of classes, which k-means finds in Lab among all frames but the last.

    Returns:
      int32 [time, rows·columns].
    """
    small = jax.image.resize(frames.astype(jnp.float32), (len(frames), *size, 3), "linear")
    lab = rgb_to_lab(small).reshape(len(frames), -1, 3)
    return nearest(lab, k_means(lab[:-1].reshape(-1, 3), colors))
