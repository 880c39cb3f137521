"""Moving digits: procedural episodes with instance masks and labels of what moves and where to."""

import dataclasses
from collections.abc import Callable
from typing import Any

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
      speed: pixels that an object moves from frame to frame. The slower, the more alike are neighbouring frames.
      seed: of all episodes.
    """

    image_size: tuple[int, int]
    num_frames: int
    num_objects: int
    speed: float
    seed: int

    def draw(self, index: int, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, int, int]:
        """Episode `index`, a function of the scene, the index and the images alone.

        Args:
          index: of the episode.
          images: uint8 [n, h, w, 1], what objects look like.
          labels: int [n], their classes.

        Returns:
          Frames uint8 [num_frames, height, width, 1]; masks of that shape with the number, from 1, of the topmost
          object of every pixel and 0 for the background; class of the first object; its direction, in `MOTIONS`.
        """
        rng = np.random.default_rng([self.seed, 0x307E, index])
        chosen = rng.integers(len(labels), size=self.num_objects)
        motion = int(rng.integers(len(MOTIONS)))
        angles = rng.uniform(0, 2 * np.pi, self.num_objects)
        angles[0] = motion * np.pi / 4
        side = max(4, round(_SIDE * min(self.image_size)))
        room = np.array(self.image_size, float) - side  # of the top left corner, for objects that bounce
        starts = rng.uniform(0, 1, (self.num_objects, 2)) * room
        times = np.arange(self.num_frames)[:, None]
        frames = np.zeros((self.num_frames, *self.image_size), np.uint8)
        masks = np.zeros_like(frames)
        for number in reversed(range(self.num_objects)):  # the first lands on top
            glyph = cv2.resize(images[chosen[number]], (side, side), interpolation=cv2.INTER_AREA)
            travelled = self.speed * np.array([np.sin(angles[number]), np.cos(angles[number])]) * times
            corners = starts[number] + travelled
            corners = corners if number == 0 else room - np.abs(room - corners % (2 * room))
            glyph = glyph if number == 0 else np.rint(OTHERS * glyph).astype(np.uint8)
            solid = glyph >= (SOLID if number == 0 else OTHERS * SOLID)
            for frame, mask, corner in zip(frames, masks, np.floor(corners + 0.5).astype(int)):
                place = np.ix_(*((corner[a] + np.arange(side)) % self.image_size[a] for a in (0, 1)))
                frame[place] = np.where(solid, glyph, np.maximum(frame[place], glyph))
                mask[place] = np.where(solid, number + 1, mask[place])
        return frames[..., None], masks[..., None], int(labels[chosen[0]]), motion


def _features(image_size: tuple[int, int], classes: tuple[str, ...]) -> dict[str, Any]:
    image = lambda: tfds.features.Image(shape=(*image_size, 1), encoding_format="png")
    steps = {
        "observation": {"image": image(), "instances": image()},
        "is_first": np.bool_,
        "is_last": np.bool_,
        "is_terminal": np.bool_,
    }
    metadata = {
        "index": np.int64,
        "digit": tfds.features.ClassLabel(names=list(classes)),
        "motion": tfds.features.ClassLabel(names=list(MOTIONS)),
    }
    return {"steps": tfds.features.Dataset(steps), "episode_metadata": metadata}


def _example(scene: Scene, arrays: digits.Arrays) -> Callable[[int], dict[str, Any]]:
    def make(index: int) -> dict[str, Any]:
        frames, masks, digit, motion = scene.draw(index, *arrays)
        times = np.arange(len(frames))
        steps = {
            "observation": {
                "image": [encode(frame, scene.image_size) for frame in frames],
                "instances": [encode(mask, scene.image_size) for mask in masks],
            },
            "is_first": times == 0,
            "is_last": times == len(times) - 1,
            "is_terminal": np.zeros(len(times), bool),
        }
        return {"steps": steps, "episode_metadata": {"index": index, "digit": digit, "motion": motion}}

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
        features=_features(
            scene.image_size, digits.FASHION_CLASSES if kind == "fashion_mnist" else digits.DIGIT_CLASSES
        ),
        splits={name: split(name, chosen) for name, chosen in dealt.items()},
        licence=package.licence,
        source=f"procedural, from the images of the {package.source}",
    )
