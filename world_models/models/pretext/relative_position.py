"""Relative patch position: which of the eight neighbours of a patch another one is (Doersch et al. 2015)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from world_models.core.errors import config_error
from world_models.core.sharding import axes
from world_models.core.types import Array, Clip
from world_models.models.latent_dynamics.options import ViTOptions
from world_models.models.pretext.options import PretextOptions, RelativePositionOptions
from world_models.models.pretext.task import Encode, Task

NEIGHBOURS = np.array([(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)])
"""(down, right) of every class, in reading order."""
COLORS = ("keep", "drop", "project")
_NOISE = 0.01  # of the channel that stays: the standard deviation of what replaces the others
_GREEN_MAGENTA = np.array([-1.0, 2.0, -1.0])


class RelativePosition(Task):
    """A patch and one of its neighbours are encoded alike; the head says which neighbour it is."""

    chance = {"accuracy": 1 / 8}  # noqa: RUF012 (never changed)

    @classmethod
    def check(cls, options: PretextOptions, frames_shape: tuple[int, int, int, int]) -> None:
        """Checks the options of the task against the shape of the clips."""
        task, field = options.task, "config.model.task"
        _, height, width, channels = frames_shape
        for name, least in (("patch", 1), ("gap", 0), ("jitter", 0), ("hidden", 1)):
            if getattr(task, name) < least:
                raise config_error(f"{field}.{name}", getattr(task, name), f"be at least {least}")
        if isinstance(options.encoder, ViTOptions) and task.patch % options.encoder.patch:
            valid = f"be a multiple of config.model.encoder.patch={options.encoder.patch}"
            raise config_error(f"{field}.patch", task.patch, valid)
        if task.color not in COLORS:
            raise config_error(f"{field}.color", task.color, f"be one of {', '.join(map(repr, COLORS))}")
        for name, neutral in (("color", "keep"), ("aberration", 0.0)):
            if channels != 3 and getattr(task, name) != neutral:
                valid = (
                    f"be {neutral!r} for frames of {channels} channel{'s' * (channels > 1)}: it needs red, green, blue"
                )
                raise config_error(f"{field}.{name}", getattr(task, name), valid)
        if not 0 <= task.aberration < 1:
            raise config_error(f"{field}.aberration", task.aberration, "be at least 0 and below 1")
        if (needed := span(task)) > min(height, width):
            valid = (
                f"be smaller: 3 patches, 2 gaps of {task.gap} and the jitter of {task.jitter} on both sides take "
                f"{needed} pixels, and frames have {height}x{width}"
            )
            raise config_error(f"{field}.patch", task.patch, valid)

    def __init__(
        self, options: RelativePositionOptions, size: int, frames_shape: tuple[int, int, int, int], *, rngs: nnx.Rngs
    ):  # fmt: skip
        """Builds the head for features of so many numbers."""
        self.options = options
        linear = lambda a, b, *names: nnx.Linear(a, b, kernel_metadata=axes(*names), rngs=rngs)
        self.embed = linear(size, options.hidden, "width", "mlp")
        self.join = linear(2 * options.hidden, options.hidden, "width", "mlp")
        self.out = linear(options.hidden, len(NEIGHBOURS), "mlp", None)

    def view(self, frames: Array) -> Array:
        """Frames without the axis of colour that "project" hides; see `Task`."""
        return project_colors(jnp.asarray(frames, jnp.float32)) if self.options.color == "project" else frames

    def loss(self, encode: Encode, clip: Clip, keys: Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Cross-entropy over the eight neighbours, of a random frame of every clip."""
        pairs, labels = jax.vmap(lambda frames, key: sample(self.options, frames, key))(clip.frames, keys)
        batch = len(labels)
        logits = self.logits(encode(pairs.reshape(2 * batch, *pairs.shape[2:])))
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        accuracy = jnp.mean(jnp.argmax(logits, axis=-1) == labels)
        return jnp.mean(losses), {"loss": jnp.mean(losses), "accuracy": accuracy}

    def logits(self, maps: Array) -> jax.Array:
        """Float32 [batch, 8], of the maps [2·batch, rows, columns, size] of pairs of patches, one after the other."""
        hidden = nnx.relu(self.embed(maps.mean(axis=(1, 2))))
        return self.out(nnx.relu(self.join(hidden.reshape(len(maps) // 2, -1))))


def span(options: RelativePositionOptions) -> int:
    """Pixels along a side that a patch and its neighbours take."""
    return 3 * options.patch + 2 * options.gap + 2 * options.jitter


def sample(options: RelativePositionOptions, frames: Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A patch and one of its neighbours, of a random place in a random frame of a clip.

    The place does not depend on the class: all eight neighbours fit everywhere.

    Args:
      options: of the task.
      frames: [time, h, w, c] in 0..255.
      key: of all that is random.

    Returns:
      (float32 [2, patch, patch, c], class int32 in 0..7).
    """
    patch, step = options.patch, options.patch + options.gap
    time_key, place_key, class_key, jitter_key, color_key = jax.random.split(key, 5)
    frame = jnp.take(frames, jax.random.randint(time_key, (), 0, len(frames)), axis=0).astype(jnp.float32)
    if options.aberration:
        frame = chromatic_aberration(frame, options.aberration)
    free = jnp.array(frame.shape[:2]) - span(options)
    centre = options.jitter + step + jax.random.randint(place_key, (2,), 0, free + 1)
    label = jax.random.randint(class_key, (), 0, len(NEIGHBOURS))
    moved = jax.random.randint(jitter_key, (2, 2), -options.jitter, options.jitter + 1)
    corners = jnp.stack([centre, centre + step * jnp.asarray(NEIGHBOURS)[label]]) + moved
    cut = lambda corner: jax.lax.dynamic_slice(frame, (*corner, 0), (patch, patch, frame.shape[-1]))
    patches = jax.vmap(cut)(corners)
    if options.color == "drop":
        patches = jax.vmap(drop_colors)(jax.random.split(color_key, 2), patches)
    return (project_colors(patches) if options.color == "project" else patches), label


def chromatic_aberration(frame: Array, strength: float) -> jax.Array:
    """A frame [h, w, 3] through a lens that enlarges colours about the centre, and red more than blue.

    The offset of red from blue then tells the place in the frame. Blue stays as it is, green is enlarged by
    1 + strength and red by 1 + 2·strength, so that no border shows where the frame ends.
    """
    shape = frame.shape[:2]

    def enlarged(channel: Array, factor: float) -> jax.Array:
        scale = jnp.full(2, factor)
        moved = jnp.array(shape) / 2 * (1 - scale)
        return jax.image.scale_and_translate(channel, shape, (0, 1), scale, moved, "cubic", antialias=False)

    red, green, blue = (frame[..., i] for i in range(3))
    channels = (enlarged(red, 1 + 2 * strength), enlarged(green, 1 + strength), blue)
    return jnp.clip(jnp.stack(channels, axis=-1), 0, 255)


def drop_colors(key: jax.Array, patch: Array) -> jax.Array:
    """A patch [h, w, 3] with one random channel left: the others become noise of a hundredth of its deviation."""
    channel_key, noise_key = jax.random.split(key)
    kept = jax.random.randint(channel_key, (), 0, 3)
    left = jnp.take(patch, kept, axis=-1)
    noise = jnp.mean(left) + _NOISE * jnp.std(left) * jax.random.normal(noise_key, patch.shape)
    return jnp.where(jnp.arange(3) == kept, patch, noise)


def project_colors(patch: Array) -> jax.Array:
    """Patches [..., 3] without what lies along the axis from green to magenta (Doersch et al. 2015, section 3.1)."""
    a = _GREEN_MAGENTA
    return patch @ jnp.asarray(np.eye(3) - np.outer(a, a) / (a @ a), patch.dtype)
