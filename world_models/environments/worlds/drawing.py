"""Drawing on the device: Gaussian dots, colours laid over each other, and frames of any size.

Worlds draw at the size in which they were published; other sizes are exact area averages of that picture.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np


def bell(centre: jax.Array, count: int, std: float) -> jax.Array:
    """exp(-(i - centre)^2 / (2 std^2)) at the pixels i = 0 … count - 1: a round dot is the product of two of them."""
    return jnp.exp(-jnp.square(jnp.arange(count, dtype=jnp.float32) - centre) / (2 * std**2))


def pixel(position: jax.Array, side: int, size: tuple[int, int]) -> jax.Array:
    """(column, row) at a `size` (height, width) of a place (x, y) [..., 2] in a picture of `side` x `side` pixels."""
    return (position + 0.5) * jnp.array(size[::-1], jnp.float32) / side - 0.5


def to_bytes(image: jax.Array) -> jax.Array:
    """uint8 by truncation, as in the published worlds; rounding errors below a whole number do not cost a level."""
    return jnp.clip(image + 1 / 512, 0, 255).astype(jnp.uint8)


def blend(image: jax.Array, alpha: jax.Array, colour: tuple[int, int, int]) -> jax.Array:
    """Lays a colour over an image.

    Args:
      image: [h, w, 3] in 0..255.
      alpha: [h, w] in 0..1, how much of the colour shows.
      colour: RGB.

    Returns:
      uint8 [h, w, 3].
    """
    over = jnp.asarray(colour, jnp.float32)
    return to_bytes(image * (1 - alpha[..., None]) + over * alpha[..., None])


@functools.cache
def area_weights(source: int, target: int) -> np.ndarray:
    """Float32 [target, source]: row i averages pixels over the i-th of `target` equal parts; identity if equal."""
    edges = np.arange(target + 1) * source / target
    overlap = np.minimum(edges[1:, None], np.arange(1, source + 1)) - np.maximum(edges[:-1, None], np.arange(source))
    return (np.maximum(overlap, 0) * target / source).astype(np.float32)


def resize(image: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Area average of an image [h, w, c] at another size (height, width); float32, unchanged at its own size."""
    if image.shape[:2] == tuple(size):
        return image.astype(jnp.float32)
    rows, columns = (jnp.asarray(area_weights(n, m)) for n, m in zip(image.shape[:2], size))
    return jnp.einsum("ih,hwc,jw->ijc", rows, image.astype(jnp.float32), columns, precision="highest")
