"""Augmentations on the device: crops, flips, mixup, cutmix and erased boxes, the same in all frames of a clip."""

import math

import jax
import jax.numpy as jnp

from world_models.core.errors import UserError
from world_models.core.types import Array

_TRIES = 10
"""Boxes drawn until one fits the frame."""


def random_resized_crop(
    key: jax.Array,
    frames: Array,
    scale: tuple[float, float] = (0.2, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    size: tuple[int, int] | None = None,
) -> jax.Array:
    """A random box of every clip, resized (Szegedy et al. 2015, section 6); the same box in all frames of a clip.

    The box's share of the area is uniform in `scale`, its width over height log-uniform in `ratio`, both drawn anew up
    to ten times until it fits the frame; otherwise it is the whole frame. Its position is uniform and not rounded to
    pixels. Resizing is Pillow's bicubic (a = -0.5, widened where it shrinks), which may overshoot the frames' range.

    Args:
      key: one key; every clip draws from its own.
      frames: float [b, t, h, w, c], any range.
      scale, ratio: (low, high), positive; scale at most 1.
      size: (height, width) of the result; None keeps (h, w).

    Returns:
      float [b, t, *size, c].

    Raises:
      UserError: frames have other axes or integers; scale or ratio is not a range as said above.
    """
    height, width = _clip_shape(frames)[2:4]
    _check_range("scale", scale, 1.0)
    _check_range("ratio", ratio, math.inf)
    out = size or (height, width)

    def crop(key, clip):
        box_key, place_key = jax.random.split(key)
        box, fits = _box(box_key, height, width, scale, ratio)
        box = jnp.where(fits, box, jnp.array([height, width], jnp.float32))
        corner = jax.random.uniform(place_key, (2,)) * (jnp.array([height, width]) - box)
        zoom = jnp.array(out) / box
        shape = (clip.shape[0], *out, clip.shape[-1])
        return jax.image.scale_and_translate(
            clip, shape, (1, 2), zoom, -corner * zoom, "cubic", antialias=True, precision=jax.lax.Precision.HIGHEST
        )

    return jax.vmap(crop)(jax.random.split(key, len(frames)), frames)


def random_flip(key: jax.Array, frames: Array, probability: float = 0.5) -> jax.Array:
    """Mirror clips [b, t, h, w, c] left to right, each with `probability` and whole.

    Raises:
      UserError: frames have other axes or integers; the probability is not in 0..1.
    """
    _clip_shape(frames)
    _check_probability("probability", probability)
    flip = jax.random.bernoulli(key, probability, (len(frames), 1, 1, 1, 1))
    return jnp.where(flip, frames[:, :, :, ::-1], frames)


def random_erase(
    key: jax.Array,
    frames: Array,
    probability: float = 0.25,
    area: tuple[float, float] = (0.02, 1 / 3),
    ratio: tuple[float, float] = (0.3, 1 / 0.3),
    mean: float = 0.0,
    deviation: float = 1.0,
) -> jax.Array:
    """Replace a box of some clips by Gaussian noise (Zhong et al. 2017): one box for all frames, fresh noise in each.

    Args:
      key: one key; every clip draws from its own.
      frames: float [b, t, h, w, c].
      probability: of a clip to be erased.
      area, ratio: (low, high) of the box's share of the frame (uniform) and of its width over height (log-uniform); a
        clip for which ten draws do not fit stays whole.
      mean, deviation: of the noise; 0 and 1 suit standardised frames.

    Raises:
      UserError: frames have other axes or integers; a range or the probability is out of bounds.
    """
    height, width = _clip_shape(frames)[2:4]
    _check_probability("probability", probability)
    _check_range("area", area, 1.0)
    _check_range("ratio", ratio, math.inf)

    def erase(key, clip):
        chance_key, box_key, place_key, noise_key = jax.random.split(key, 4)
        box, fits = _box(box_key, height, width, area, ratio)
        box = jnp.round(box)
        corner = jnp.floor(jax.random.uniform(place_key, (2,)) * (jnp.array([height, width]) - box + 1))
        inside = _inside(height, width, corner, corner + box)[..., None]
        noise = mean + deviation * jax.random.normal(noise_key, clip.shape, clip.dtype)
        return jnp.where(inside & fits & jax.random.bernoulli(chance_key, probability), noise, clip)

    return jax.vmap(erase)(jax.random.split(key, len(frames)), frames)


def mixup_cutmix(
    key: jax.Array,
    frames: Array,
    labels_onehot: Array,
    mixup_alpha: float = 0.8,
    cutmix_alpha: float = 1.0,
    smoothing: float = 0.1,
) -> tuple[jax.Array, jax.Array]:
    """Mix every clip with its mirror image in the batch: mixup (Zhang et al. 2018) or cutmix (Yun et al. 2019).

    As in timm, one draw holds for the batch: which of the two (half and half where both are on), its lambda from
    Beta(alpha, alpha) and the box, which is the same in all frames. A box cut off by the frame's border counts by the
    area that it covers. Labels are smoothed, then mixed as the pixels are.

    Args:
      key: one key a batch.
      frames: float [b, t, h, w, c].
      labels_onehot: float [b, num_classes], rows that sum to 1.
      mixup_alpha, cutmix_alpha: of the Beta distribution; 0 turns the one off, and both leave only the smoothing.
      smoothing: share of the label spread over all classes, 0..1.

    Returns:
      The mixed frames, and labels [b, num_classes] whose rows sum to 1.

    Raises:
      UserError: frames or labels have other axes, frames are integers, an alpha is negative or smoothing not in 0..1.
    """
    batch, _, height, width, _ = _clip_shape(frames)
    if labels_onehot.ndim != 2 or len(labels_onehot) != batch:
        raise UserError(f"labels_onehot has shape {labels_onehot.shape} and must be [{batch}, num_classes]")
    if mixup_alpha < 0 or cutmix_alpha < 0:
        raise UserError(f"mixup_alpha={mixup_alpha} and cutmix_alpha={cutmix_alpha} must not be negative")
    _check_probability("smoothing", smoothing)
    labels = labels_onehot * (1 - smoothing) + smoothing / labels_onehot.shape[1]
    if mixup_alpha == cutmix_alpha == 0:
        return frames, labels
    share = _partner_share(key, height, width, mixup_alpha, cutmix_alpha)
    mixed = frames + share[..., None].astype(frames.dtype) * (frames[::-1] - frames)
    return mixed, labels + jnp.mean(share) * (labels[::-1] - labels)


def _partner_share(key, height, width, mixup_alpha, cutmix_alpha):
    """How much of every pixel comes from the partner: float32 [h, w] in 0..1."""
    switch_key, mixup_key, cutmix_key, place_key = jax.random.split(key, 4)
    flat = jnp.zeros((height, width))
    if mixup_alpha:
        flat += 1 - jax.random.beta(mixup_key, mixup_alpha, mixup_alpha)
    if not cutmix_alpha:
        return flat
    size = jnp.array([height, width])
    side = jnp.sqrt(1 - jax.random.beta(cutmix_key, cutmix_alpha, cutmix_alpha))
    half = jnp.floor(size * side) // 2
    centre = jnp.floor(jax.random.uniform(place_key, (2,)) * size)
    box = _inside(height, width, centre - half, centre + half).astype(jnp.float32)
    if not mixup_alpha:
        return box
    return jnp.where(jax.random.bernoulli(switch_key, 0.5), box, flat)


def _box(key, height, width, area, ratio):
    """The first of ten (height, width) drawn by share of the area and by ratio that fits, and whether one does."""
    area_key, ratio_key = jax.random.split(key)
    areas = height * width * jax.random.uniform(area_key, (_TRIES,), minval=area[0], maxval=area[1])
    logs = jax.random.uniform(ratio_key, (_TRIES,), minval=math.log(ratio[0]), maxval=math.log(ratio[1]))
    boxes = jnp.sqrt(jnp.stack([areas * jnp.exp(-logs), areas * jnp.exp(logs)], axis=1))
    fits = (boxes[:, 0] <= height) & (boxes[:, 1] <= width)
    return boxes[jnp.argmax(fits)], jnp.any(fits)


def _inside(height, width, low, high):
    """bool [h, w]: the pixels at rows low[0]..high[0] - 1 and columns low[1]..high[1] - 1."""
    rows, columns = jnp.arange(height)[:, None], jnp.arange(width)[None, :]
    return (rows >= low[0]) & (rows < high[0]) & (columns >= low[1]) & (columns < high[1])


def _clip_shape(frames: Array) -> tuple[int, ...]:
    if frames.ndim != 5 or not jnp.issubdtype(frames.dtype, jnp.floating):
        raise UserError(
            f"frames are {frames.dtype} {frames.shape} and must be floating [batch, time, height, width, channel]"
        )
    return frames.shape


def _check_range(name: str, values: tuple[float, float], most: float) -> None:
    if not 0 < values[0] <= values[1] <= most or math.isinf(values[1]):
        limit = "" if math.isinf(most) else f" <= {most:g}"
        raise UserError(f"{name}={values} must be (low, high) with 0 < low <= high{limit}")


def _check_probability(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise UserError(f"{name}={value} must be in 0..1")
