"""Masks that follow objects through a video, by features of its frames alone."""

import jax
import jax.numpy as jnp

from world_models.core.errors import UserError
from world_models.core.types import Array
from world_models.nn.pointer import point
from world_models.probes.options import PropagationOptions


def propagate(features: Array, first: Array, options: PropagationOptions) -> jax.Array:
    """Labels of all frames of a video from those of the first.

    A place takes over the labels of the places that are most alike in the first frame and in the last
    `options.context` frames, as those were labelled before (Vondrick et al. 2018, section 3.4).

    Args:
      features: float [time, h, w, d]; their dot product says how alike two places are.
      first: float [h, w, n], probabilities of n labels in the first frame.
      options: how.

    Returns:
      float32 [time, h, w, n]; the first is as given.
    """
    _, height, width, size = features.shape
    places, context = height * width, options.context
    features = jnp.asarray(features).reshape(-1, places, size)
    first = jnp.asarray(first, jnp.float32).reshape(places, -1)
    near = _near(height, width, options.radius)

    def step(carry, queries):
        recent, labels, seen = carry
        keys = jnp.concatenate([features[:1], recent]).reshape(-1, size)
        values = jnp.concatenate([first[None], labels]).reshape(-1, first.shape[-1])
        known = jnp.arange(context) >= context - seen
        allowed = jnp.concatenate([jnp.ones((1, places, places), bool), known[:, None, None] & near[None]])
        allowed = jnp.moveaxis(allowed, 0, 1).reshape(places, -1)
        found = point(queries, keys, values, temperature=options.temperature, top_k=options.top_k, allowed=allowed)
        push = lambda old, new: jnp.concatenate([old, new[None]])[1:]
        return (push(recent, queries), push(labels, found), seen + 1), found

    empty = (jnp.zeros((context, places, size), features.dtype), jnp.zeros((context, *first.shape)), 0)
    _, found = jax.lax.scan(step, empty, features[1:])
    return jnp.concatenate([first[None], found]).reshape(-1, height, width, first.shape[-1])


def follow(features: Array, mask: Array, num_objects: int, options: PropagationOptions) -> jax.Array:
    """Masks of all frames of a video from the one of the first.

    The first mask is averaged to the size of the feature map; labels are enlarged bilinearly, and the likeliest wins.

    Args:
      features: float [time, h, w, d] of the frames, of whatever size.
      mask: integers [height, width] in 0..num_objects; height and width are multiples of h and w.
      num_objects: how many, the background not among them.
      options: of `propagate`.

    Returns:
      uint8 [time, height, width]; the first is the given mask.

    Raises:
      UserError: if they are no multiples.
    """
    (time, h, w, _), (height, width) = features.shape, mask.shape
    if height % h or width % w:
        raise UserError(f"feature maps of {h}x{w} do not divide frames of {height}x{width}: set config.data.image_size")
    labels = jax.nn.one_hot(mask, num_objects + 1)
    coarse = labels.reshape(h, height // h, w, width // w, -1).mean((1, 3))
    found = propagate(features, coarse, options)
    fine = jax.image.resize(found, (time, height, width, num_objects + 1), "bilinear")
    return jnp.argmax(fine, axis=-1).astype(jnp.uint8).at[0].set(jnp.asarray(mask, jnp.uint8))


def _near(height: int, width: int, radius: int) -> jax.Array:
    """Which pairs of places are at most `radius` apart (Euclidean): bool [places, places]; all for 0."""
    rows, columns = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    places = jnp.stack([rows.ravel(), columns.ravel()], axis=1)
    square = jnp.sum((places[:, None] - places[None]) ** 2, axis=-1)
    return (square <= radius**2) | (radius == 0)
