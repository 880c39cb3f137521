"""RandAugment on the host with Pillow's operations: a few random changes of colour and place (Cubuk et al. 2019)."""

import dataclasses
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from world_models.core.errors import UserError

_GREY = 128
_TOP = 10.0
"""The magnitude at which every operation is strongest."""


@dataclasses.dataclass(frozen=True)
class RandAugment:
    """Applies `num_ops` operations drawn with replacement from `OPERATIONS`, each with probability 1/2.

    The magnitude of each is drawn from a normal distribution and clipped to 0..10. Strengths grow with the magnitude
    and directions are random, as in timm's `rand-m9-mstd0.5-inc1`, which MAE fine-tunes with: up to 30 degrees, a shear
    of 0.3, a shift of 0.45 of the side, a factor of 1 +- 0.9. Uncovered pixels become grey (128).

    Attributes:
      num_ops: how many operations are drawn.
      magnitude: their mean strength, 0..10.
      magnitude_std: its deviation from one operation to the next.
      probability: of an operation that was drawn to be applied.
    """

    num_ops: int = 2
    magnitude: float = 9.0
    magnitude_std: float = 0.5
    probability: float = 0.5

    def __post_init__(self):
        if self.num_ops < 0:
            raise UserError(f"num_ops={self.num_ops} must not be negative")
        if not 0 <= self.magnitude <= _TOP or self.magnitude_std < 0:
            raise UserError(
                f"magnitude={self.magnitude} must be in 0..10 and magnitude_std={self.magnitude_std} not negative"
            )
        if not 0 <= self.probability <= 1:
            raise UserError(f"probability={self.probability} must be in 0..1")

    def __call__(self, frames: np.ndarray, seed: int) -> np.ndarray:
        """Frames uint8 [t, h, w, c], c 1 or 3, changed alike throughout the clip; the same for the same seed.

        Raises:
          UserError: frames are not uint8 [t, h, w, 1 or 3].
        """
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] not in (1, 3):
            raise UserError(f"frames are {frames.dtype} {frames.shape} and must be uint8 [time, height, width, 1 or 3]")
        rng = np.random.default_rng(seed)
        names = rng.choice(list(OPERATIONS), self.num_ops)
        for name in names:
            level = np.clip(rng.normal(self.magnitude, self.magnitude_std), 0, _TOP) / _TOP
            sign = rng.choice((-1, 1))
            if rng.random() < self.probability:
                frames = apply(str(name), frames, float(level), int(sign))
        return frames


def apply(name: str, frames: np.ndarray, level: float, sign: int) -> np.ndarray:
    """One of `OPERATIONS` on every frame of uint8 [t, h, w, c], at level 0..1, in direction sign = 1 or -1."""
    grey = frames.shape[-1] == 1
    images = (Image.fromarray(frame[..., 0] if grey else frame) for frame in frames)
    changed = np.stack([np.asarray(OPERATIONS[name](image, level, sign)) for image in images])
    return changed[..., None] if grey else changed


def _affine(image: Image.Image, *matrix: float) -> Image.Image:
    """Output pixel (x, y) is taken from (a x + b y + c, d x + e y + f)."""
    grey = _GREY if image.mode == "L" else (_GREY,) * 3
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=grey)


def _rotate(image: Image.Image, level: float, sign: int) -> Image.Image:
    grey = _GREY if image.mode == "L" else (_GREY,) * 3
    return image.rotate(30 * level * sign, Image.Resampling.BILINEAR, fillcolor=grey)


def _enhance(kind: Callable) -> Callable:
    return lambda image, level, sign: kind(image).enhance(max(0.1, 1 + 0.9 * level * sign))


def _solarize_add(image: Image.Image, level: float, sign: int) -> Image.Image:
    added = int(110 * level)
    table = [min(255, value + added) if value < 128 else value for value in range(256)]
    return image.point(table * len(image.getbands()))


OPERATIONS: dict[str, Callable[[Image.Image, float, int], Image.Image]] = {
    "autocontrast": lambda image, level, sign: ImageOps.autocontrast(image),
    "equalize": lambda image, level, sign: ImageOps.equalize(image),
    "invert": lambda image, level, sign: ImageOps.invert(image),
    "posterize": lambda image, level, sign: ImageOps.posterize(image, max(1, 4 - int(4 * level))),
    "solarize": lambda image, level, sign: ImageOps.solarize(image, 256 - int(256 * level)),
    "solarize_add": _solarize_add,
    "color": _enhance(ImageEnhance.Color),
    "contrast": _enhance(ImageEnhance.Contrast),
    "brightness": _enhance(ImageEnhance.Brightness),
    "sharpness": _enhance(ImageEnhance.Sharpness),
    "rotate": _rotate,
    "shear_x": lambda image, level, sign: _affine(image, 1, 0.3 * level * sign, 0, 0, 1, 0),
    "shear_y": lambda image, level, sign: _affine(image, 1, 0, 0, 0.3 * level * sign, 1, 0),
    "translate_x": lambda image, level, sign: _affine(image, 1, 0, 0.45 * level * sign * image.width, 0, 1, 0),
    "translate_y": lambda image, level, sign: _affine(image, 1, 0, 0, 0, 1, 0.45 * level * sign * image.height),
}
"""What RandAugment draws from: (image, level 0..1, direction -1 or 1) -> image. The first three have one strength."""
