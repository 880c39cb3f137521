"""Moving digits: procedural episodes with instance masks and labels of what moves and where to."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
import tensorflow_datasets as tfds

from world_models.data import rlds
from world_models.data.episodes import encode
from world_models.data.sources import digits, packages
from world_models.data.sources.collection import Collection, Split

MOTIONS = ("right", "down right", "down", "down left", "left", "up left", "up", "up right")
SOLID = 64  # gray level from which a pixel belongs to an object
OTHERS = 0.6  # brightness of all objects but the first
_SIDE = 28 / 64  # of an object, as a share of the smaller side of the frame


class Drawn(NamedTuple):
    """One episode.

    Attributes:
      frames: uint8 [num_frames, height, width, 1], or 3 with colours.
      instances: uint8 [num_frames, height, width, 1], the number, from 1, of the topmost object of every pixel and 0
        for the background.
      digit: class of the first object.
      motion: its direction, in `MOTIONS`.
      speed: its speed, in `Scene.speeds`.
    """

    frames: np.ndarray
    instances: np.ndarray
    digit: int
    motion: int
    speed: int


@dataclasses.dataclass(frozen=True)
class Scene:
    """How frames are made: Moving MNIST (Srivastava et al. 2015, arXiv 1502.04681, section 4.1) with labels.

    The first object is the one that labels speak of. It lies on top, is the brightest, and keeps its direction, one of
    eight, throughout: what leaves the frame on one side comes in on the other. The others, if any, are dimmer, start in
    any direction and bounce off the walls.

    Attributes:
      image_size: (height, width) of the frames.
      num_frames: of an episode.
      num_objects: at least one.
      speed: pixels that an object moves from the first frame to the second, at most. The slower, the more alike are
        neighbouring frames.
      seed: of all episodes.
      num_speeds: how many speeds there are; the slowest is `speed / num_speeds`. All objects of an episode have one.
      friction: share of its speed that an object loses from frame to frame: above 0, time has a direction.
      color: whether objects and background are filled with smooth random colours, which may be alike.
    """

    image_size: tuple[int, int]
    num_frames: int
    num_objects: int
    speed: float
    seed: int
    num_speeds: int = 1
    friction: float = 0.0
    color: bool = False

    @property
    def speeds(self) -> tuple[float, ...]:
        """The speeds that occur, in pixels from the first frame to the second, rising."""
        return tuple(self.speed * (i + 1) / self.num_speeds for i in range(self.num_speeds))

    def draw(self, index: int, images: np.ndarray, labels: np.ndarray) -> Drawn:
        """Episode `index`, a function of the scene, the index and the images alone.

        Args:
          index: of the episode.
          images: uint8 [n, h, w, 1], what objects look like.
          labels: int [n], their classes.
        """
        rng = np.random.default_rng([self.seed, 0x307E, index])
        chosen = rng.integers(len(labels), size=self.num_objects)
        motion = int(rng.integers(len(MOTIONS)))
        angles = rng.uniform(0, 2 * np.pi, self.num_objects)
        angles[0] = motion * np.pi / 4
        side = max(4, round(_SIDE * min(self.image_size)))
        room = np.array(self.image_size, float) - side  # of the top left corner, for objects that bounce
        starts = rng.uniform(0, 1, (self.num_objects, 2)) * room
        if self.friction:  # else a whole first object would tell where time begins
            starts[0] *= np.array(self.image_size) / room
        speed = int(rng.integers(self.num_speeds))
        travelled = self.speeds[speed] * np.cumsum([0.0, *(1 - self.friction) ** np.arange(self.num_frames - 1)])
        paint = _Colors(rng, self.image_size, side) if self.color else _Grey()
        frames = np.repeat(paint.background(self.image_size)[None], self.num_frames, axis=0)
        masks = np.zeros((self.num_frames, *self.image_size), np.uint8)
        for number in reversed(range(self.num_objects)):  # the first lands on top
            glyph = cv2.resize(images[chosen[number]], (side, side), interpolation=cv2.INTER_AREA)
            corners = starts[number] + travelled[:, None] * np.array([np.sin(angles[number]), np.cos(angles[number])])
            corners = corners if number == 0 else room - np.abs(room - corners % (2 * room))
            over, solid = paint.object(glyph, number)
            for frame, mask, corner in zip(frames, masks, np.floor(corners + 0.5).astype(int)):
                place = np.ix_(*((corner[a] + np.arange(side)) % self.image_size[a] for a in (0, 1)))
                frame[place] = over(frame[place])
                mask[place] = np.where(solid, number + 1, mask[place])
        return Drawn(frames, masks[..., None], int(labels[chosen[0]]), motion, speed)


class _Grey:
    """Objects of their own brightness on black."""

    def background(self, size: tuple[int, int]) -> np.ndarray:
        """Black, uint8 [*size, 1]."""
        return np.zeros((*size, 1), np.uint8)

    def object(self, glyph: np.ndarray, number: int) -> tuple[Callable[[np.ndarray], np.ndarray], np.ndarray]:
        """(what lies below -> the same with the object over it, bool [h, w] where it is)."""
        brightness = 1.0 if number == 0 else OTHERS
        glyph = glyph if number == 0 else np.rint(OTHERS * glyph).astype(np.uint8)
        solid = glyph >= brightness * SOLID
        return lambda below: np.where(solid[..., None], glyph[..., None], np.maximum(below, glyph[..., None])), solid


class _Colors:
    """Objects and background in smooth random colours; an object covers what is below as far as it is bright."""

    def __init__(self, rng: np.random.Generator, size: tuple[int, int], side: int):
        self._rng, self._side = rng, side
        self._background = self._drawn(size)

    def _drawn(self, size: tuple[int, int]) -> np.ndarray:
        corners = self._rng.integers(0, 256, (3, 3, 3)).astype(np.uint8)
        return cv2.resize(corners, size[::-1], interpolation=cv2.INTER_LINEAR)

    def background(self, size: tuple[int, int]) -> np.ndarray:
        """The background, uint8 [*size, 3]."""
        return self._background

    def object(self, glyph: np.ndarray, number: int) -> tuple[Callable[[np.ndarray], np.ndarray], np.ndarray]:
        """As of `_Grey`; all objects are equally bright."""
        share, own = glyph[..., None] / 255, self._drawn((self._side, self._side))
        return lambda below: np.rint(share * own + (1 - share) * below).astype(np.uint8), glyph >= SOLID


def _features(scene: Scene, classes: tuple[str, ...]) -> dict[str, Any]:
    image = lambda channels: tfds.features.Image(shape=(*scene.image_size, channels), encoding_format="png")
    steps = {
        "observation": {"image": image(3 if scene.color else 1), "instances": image(1)},
        "is_first": np.bool_,
        "is_last": np.bool_,
        "is_terminal": np.bool_,
    }
    metadata = {
        "index": np.int64,
        "digit": tfds.features.ClassLabel(names=list(classes)),
        "motion": tfds.features.ClassLabel(names=list(MOTIONS)),
        "speed": tfds.features.ClassLabel(names=[f"{speed:g}" for speed in scene.speeds]),
    }
    return {"steps": tfds.features.Dataset(steps), "episode_metadata": metadata}


def _example(scene: Scene, arrays: digits.Arrays) -> Callable[[int], dict[str, Any]]:
    def make(index: int) -> dict[str, Any]:
        drawn = scene.draw(index, *arrays)
        times = np.arange(len(drawn.frames))
        steps = {
            "observation": {
                "image": [encode(frame, scene.image_size) for frame in drawn.frames],
                "instances": [encode(mask, scene.image_size) for mask in drawn.instances],
            },
            "is_first": times == 0,
            "is_last": times == len(times) - 1,
            "is_terminal": np.zeros(len(times), bool),
        }
        labels = {"digit": drawn.digit, "motion": drawn.motion, "speed": drawn.speed}
        return {"steps": steps, "episode_metadata": {"index": index, **labels}}

    return make


def collection(scene: Scene, num_episodes: int, kind: str, fractions: dict[str, float]) -> Collection:
    """Moving digits as an RLDS data set; the labels are in `episode_metadata`.

    Training episodes show images of the training split of `kind`, the others images of its test split.

    Args:
      scene: how frames are made.
      num_episodes: in all splits together.
      kind: what moves, "mnist" or "fashion_mnist".
      fractions: split name -> share of the episodes.

    Raises:
      UserError: if the images are not installed or damaged, or a split would be empty.
    """
    arrays = digits.read(kind, scene.seed)
    dealt = rlds.split_episodes(range(num_episodes), fractions, scene.seed)

    def split(name: str, chosen: list[int]) -> Split:
        make = _example(scene, arrays["train" if name == "train" else "test"])
        return Split(len(chosen), lambda i: make(chosen[i]))

    package = packages.FASHION_MNIST if kind == "fashion_mnist" else packages.MNIST
    return Collection(
        name="moving_digits",
        description=f"Episodes of {scene.num_objects} moving image(s) of {kind} at {scene.speed:g} pixels a frame.",
        features=_features(scene, digits.FASHION_CLASSES if kind == "fashion_mnist" else digits.DIGIT_CLASSES),
        splits={name: split(name, chosen) for name, chosen in dealt.items()},
        licence=package.licence,
        source=f"procedural, from the images of the {package.source}",
    )
