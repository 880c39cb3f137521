"""Exemplar networks: which image an augmented image is made of (Dosovitskiy et al. 2014)."""

import jax
import jax.numpy as jnp
from flax import nnx

from world_models.core.errors import config_error
from world_models.core.sharding import axes
from world_models.core.types import Array, Clip
from world_models.models.pretext.classification import class_loss
from world_models.models.pretext.options import ExemplarOptions, PretextOptions
from world_models.models.pretext.task import Encode, Task
from world_models.probes.augment import random_flip, random_resized_crop

FORMS = ("classes", "triplet")


class Exemplar(Task):
    """Every image is a class of its own, and its augmented views are the examples; or views are compared in triplets.

    With the form "classes" `Clip.observations` holds the number of the image, see `classification.CLASS`.
    """

    @classmethod
    def check(cls, options: PretextOptions, frames_shape: tuple[int, int, int, int]) -> None:
        """Checks the options of the task against the shape of the clips."""
        task, field = options.task, "config.model.task"
        if task.form not in FORMS:
            raise config_error(f"{field}.form", task.form, f"be one of {', '.join(map(repr, FORMS))}")
        if task.form == "classes" and task.num_images < 2:
            raise config_error(f"{field}.num_images", task.num_images, "be at least 2")
        if not 0 < task.crop_scale[0] <= task.crop_scale[1] <= 1:
            valid = "be (least, greatest) share of the area, within (0, 1]"
            raise config_error(f"{field}.crop_scale", task.crop_scale, valid)
        if task.contrast < 1:
            raise config_error(f"{field}.contrast", task.contrast, "be at least 1")
        if not 0 <= task.brightness <= 1:
            raise config_error(f"{field}.brightness", task.brightness, "be from 0 to 1")
        if not 0 <= task.grey <= 1:
            raise config_error(f"{field}.grey", task.grey, "be from 0 to 1")
        for name, least in (("margin", 0), ("embedding", 1)):
            if getattr(task, name) < least:
                raise config_error(f"{field}.{name}", getattr(task, name), f"be at least {least}")

    @classmethod
    def chances(cls, options: ExemplarOptions, batch: int) -> dict[str, float]:
        """Of guesses, by metric."""
        return {"accuracy": 1 / (options.num_images if options.form == "classes" else batch)}

    def __init__(
        self, options: ExemplarOptions, size: int, frames_shape: tuple[int, int, int, int], *, rngs: nnx.Rngs
    ):  # fmt: skip
        """Builds the head for features of so many numbers."""
        self.options = options
        outputs = options.num_images if options.form == "classes" else options.embedding
        self.out = nnx.Linear(size, outputs, kernel_metadata=axes("width", "mlp"), rngs=rngs)

    def loss(self, encode: Encode, clip: Clip, keys: Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Cross-entropy over the images, or the triplet loss; of a random frame of every clip.

        The metric "accuracy": how often the image is the most probable, or how often the nearest other view is of it.
        """
        views = jax.vmap(lambda key, frames: view_of(self.options, key, frames))
        embed = lambda keys: self.out(encode(views(keys, clip.frames)).mean(axis=(1, 2)))
        if self.options.form == "classes":
            return class_loss(embed(keys), clip)
        one, other = (unit(embed(part)) for part in jax.vmap(jax.random.split, out_axes=1)(keys))
        loss, distances = triplet_loss(one, other, self.options.margin)
        accuracy = jnp.mean(jnp.argmin(distances, axis=1) == jnp.arange(len(distances)))
        return loss, {"loss": loss, "accuracy": accuracy}


def unit(x: Array) -> jax.Array:
    """Vectors [..., size] of length 1."""
    return x * jax.lax.rsqrt(jnp.sum(x**2, axis=-1, keepdims=True) + 1e-12)


def triplet_loss(one: Array, other: Array, margin: float) -> tuple[jax.Array, jax.Array]:
    """The triplet loss with semi-hard negatives (Schroff et al. 2015, FaceNet, section 3.2).

    Of every image one view is the anchor and the other the positive; the negative is the view of another image that is
    nearest to the anchor among those further away than the positive, or the furthest of all if none is.

    Args:
      one, other: embeddings of two views of each image, [batch, size].
      margin: of squared distances.

    Returns:
      (loss, squared distances [batch, batch] of `one` to `other`).
    """
    distances = jnp.sum((one[:, None] - other[None]) ** 2, axis=-1)
    own = jnp.eye(len(one), dtype=bool)
    positive = jnp.diagonal(distances)[:, None]
    further = ~own & (distances > positive)
    nearest = jnp.min(jnp.where(further, distances, jnp.inf), axis=1)
    furthest = jnp.max(jnp.where(own, -jnp.inf, distances), axis=1)
    negative = jnp.where(jnp.any(further, axis=1), nearest, furthest)
    return jnp.mean(jax.nn.relu(positive[:, 0] - negative + margin)), distances


def view_of(options: ExemplarOptions, key: jax.Array, frames: Array) -> jax.Array:
    """An augmented view of a random frame of a clip [time, h, w, c] in 0..255: float32 [h, w, c] in 0..255."""
    time_key, crop_key, flip_key, color_key = jax.random.split(key, 4)
    frame = jnp.take(frames, jax.random.randint(time_key, (), 0, len(frames)), axis=0).astype(jnp.float32)
    view = random_resized_crop(crop_key, frame[None, None], options.crop_scale)
    view = (random_flip(flip_key, view) if options.flip else view)[0, 0]
    return change_colors(options, color_key, view)


def change_colors(options: ExemplarOptions, key: jax.Array, frame: Array) -> jax.Array:
    """A frame [h, w, c] in 0..255 in another contrast and brightness, and perhaps in other colours or none."""
    contrast_key, brightness_key, hue_key, grey_key = jax.random.split(key, 4)
    factor = lambda key, shape, most: most ** jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)
    mean = frame.mean(axis=(0, 1))
    frame = mean + factor(contrast_key, (), options.contrast) * (frame - mean)
    frame += 255 * options.brightness * jax.random.uniform(brightness_key, (), minval=-1.0, maxval=1.0)
    if frame.shape[-1] == 3:
        if options.hues:
            frame *= factor(hue_key, (3,), options.contrast**0.5)
        lost = jax.random.bernoulli(grey_key, options.grey)
        frame = jnp.where(lost, frame.mean(axis=-1, keepdims=True), frame)
    return jnp.clip(frame, 0, 255)
