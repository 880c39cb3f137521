"""Examples of the pretext tasks of video, drawn from a clip: pure functions of a key and one clip."""

import jax
import jax.numpy as jnp

from world_models.core.types import Array

CONTROLS = ("none", "static", "symmetric")


def controlled(key: Array, clip: Array, kind: str) -> jax.Array:
    """A clip on which a task of time cannot be learned, whatever the data are.

    Args:
      key: random key.
      clip: [time, ...].
      kind: of `CONTROLS`: "none" leaves the clip; "static" repeats its first frame; "symmetric" turns half of the
        clips round, so that a clip and its mirror image in time are equally likely.
    """
    if kind == "static":
        return jnp.broadcast_to(clip[:1], clip.shape)
    if kind == "symmetric":
        return jnp.where(jax.random.bernoulli(key), clip[::-1], clip)
    return clip


def blank_border(frames: Array, border: int) -> jax.Array:
    """Frames [..., h, w, c] whose outermost `border` pixels are 0.

    Compressed black bars tell the direction of time (Wei et al. 2018, section 3.1).
    """
    height, width = frames.shape[-3:-1]
    rows, columns = jnp.arange(height)[:, None], jnp.arange(width)[None]
    inside = (rows >= border) & (rows < height - border) & (columns >= border) & (columns < width - border)
    return jnp.where(inside[..., None], frames, jnp.zeros((), frames.dtype))


def motion(clip: Array) -> jax.Array:
    """How much a clip [time, h, w, c] of bytes changes from frame to frame: mean absolute difference, [time - 1]."""
    values = clip.astype(jnp.float32)
    return jnp.mean(jnp.abs(values[1:] - values[:-1]), axis=(1, 2, 3))


def tuple_frames(near: int, far: int) -> int:
    """How many frames a clip must have for `order_tuple`."""
    return far + 2 * near + 1


def order_tuple(key: Array, clip: Array, *, near: int, far: int, negatives: float) -> tuple[jax.Array, jax.Array]:
    """Three frames of a clip, in the order of time or not (Misra et al. 2016, section 3.1).

    Of five frames a < b < c < d < e, (b, c, d) is in order, (b, a, d) and (b, e, d) are not: the outer frames are the
    same, so that the one in the middle decides. Where b is, is drawn in proportion to the motion between b and d; half
    of all tuples are turned round.

    Args:
      key: random key.
      clip: uint8 [time, h, w, c], at least `tuple_frames(near, far)` of them.
      near: frames from a to b, and from d to e.
      far: frames from b to d, at least 2.
      negatives: share of tuples that are not in order.

    Returns:
      (frames [3, h, w, c], whether they are in order: int32 [], 0 or 1).
    """
    place, between, wrong, after, turned = jax.random.split(key, 5)
    starts = len(clip) - tuple_frames(near, far) + 1
    moved = jnp.concatenate([jnp.zeros(1), jnp.cumsum(motion(clip))])
    b = near + jnp.arange(starts)
    b = near + jax.random.categorical(place, jnp.log(moved[b + far] - moved[b] + 1e-3))
    c = b + jax.random.randint(between, (), 1, far)
    outside = jnp.where(jax.random.bernoulli(after), b + far + near, b - near)
    ordered = ~jax.random.bernoulli(wrong, negatives)
    order = jnp.stack([b, jnp.where(ordered, c, outside), b + far])
    order = jnp.where(jax.random.bernoulli(turned), order[::-1], order)
    return jnp.take(clip, order, axis=0), ordered.astype(jnp.int32)


def directed(key: Array, clip: Array) -> tuple[jax.Array, jax.Array]:
    """A clip [time, ...] one way or the other, and whether backwards: int32 [], half and half (Wei et al. 2018)."""
    backwards = jax.random.bernoulli(key)
    return jnp.where(backwards, clip[::-1], clip), backwards.astype(jnp.int32)


def drop_colors(key: Array, frames: Array, probability: float) -> jax.Array:
    """Frames [..., h, w, 3] of a clip that, with a probability, have lost one or two colours, the same in all frames.

    What is lost becomes the mean of what is left, so that places cannot be found again by colour (Lai and Xie 2019,
    arXiv 1905.00875, section 3.2).

    Args:
      key: random key.
      frames: uint8 or float.
      probability: of losing any.

    Returns:
      float32, like `frames`.
    """
    lose, how_many, which = jax.random.split(key, 3)
    values = frames.astype(jnp.float32)
    lost = jax.random.permutation(which, 3) < jax.random.randint(how_many, (), 1, 3)
    left = jnp.sum(jnp.where(lost, 0, values), axis=-1, keepdims=True) / jnp.sum(~lost)
    return jnp.where(lost & jax.random.bernoulli(lose, probability), left, values)


def k_means(points: Array, clusters: int, iterations: int = 8) -> jax.Array:
    """Centroids of points by Lloyd's iterations; they start at points that are far from each other.

    Args:
      points: float [n, d].
      clusters: how many.
      iterations: of Lloyd's.

    Returns:
      float32 [clusters, d]. Clusters without points stay where they are.
    """
    square = lambda centre: jnp.sum((points - centre) ** 2, axis=-1)

    def farthest(distance, _):
        centre = points[jnp.argmax(distance)]
        return jnp.minimum(distance, square(centre)), centre

    first = jnp.mean(points, axis=0)
    _, centres = jax.lax.scan(farthest, square(first), length=clusters)

    def improve(_, centres):
        own = jax.nn.one_hot(nearest(points, centres), clusters)
        count = own.sum(0)[:, None]
        return jnp.where(count > 0, own.T @ points / jnp.maximum(count, 1), centres)

    return jax.lax.fori_loop(0, iterations, improve, centres)


def nearest(points: Array, centres: Array) -> jax.Array:
    """Index of the centre [k, d] that is nearest to each point [..., d]: int32 [...]."""
    return jnp.argmin(jnp.sum((points[..., None, :] - centres) ** 2, axis=-1), axis=-1)
