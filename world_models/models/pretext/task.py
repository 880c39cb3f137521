"""What a pretext task must offer."""

from collections.abc import Callable
from typing import Any, ClassVar

import jax
from flax import nnx

from world_models.core.types import Array, Clip
from world_models.models.pretext.options import PretextOptions

Encode = Callable[[Array], jax.Array]
"""The encoder: frames, or equal parts of them, [n, h, w, c] in 0..255 -> feature maps float32 [n, rows, columns, size].

Of a part that is smaller than a frame, the maps are smaller in proportion; a ViT takes multiples of its patch.
"""


class Task(nnx.Module):
    """A pretext task: makes inputs and targets of a batch, and has the head that predicts the targets.

    Attributes:
      chance: by metric of `loss`, its value for guesses that need no frame.
      stages: names of the images of `pictures`, the original first and the prediction last; empty if there are none.
    """

    chance: ClassVar[dict[str, float]] = {}
    stages: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def check(cls, options: PretextOptions, frames_shape: tuple[int, int, int, int]) -> None:
        """Raises ConfigError if `options.task` cannot work on clips of (time, height, width, channel)."""

    @classmethod
    def chances(cls, options: Any, batch: int) -> dict[str, float]:
        """`chance`, where it depends on the options of the task or the size of the batch."""
        return cls.chance

    def __init__(self, options: Any, size: int, frames_shape: tuple[int, int, int, int], *, rngs: nnx.Rngs):
        """Builds the head.

        Args:
          options: `PretextOptions.task`.
          size: of the encoder's features.
          frames_shape: (time, height, width, channel) of the clips.
          rngs: random keys.
        """

    def view(self, frames: Array) -> Array:
        """Frames [n, h, w, c] in 0..255 as the encoder sees them outside training, for probes; by default as they are.

        A task that always hides something from the encoder, such as colour, hides it here as well.
        """
        return frames

    def correspondence(self, maps: Array) -> Array:
        """Features [n, rows, columns, size] by whose cosine places of frames are compared, of the encoder's maps."""
        return maps

    def loss(self, encode: Encode, clip: Clip, keys: Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """(scalar loss, scalar metrics with "loss" among them), means over the batch; `keys` [batch], one an example.

        What it does to a `Constant` of its own stays so after a training step: statistics of the data live there.
        """
        raise NotImplementedError(f"{type(self).__name__} has no loss")

    def pictures(self, encode: Encode, clip: Clip, keys: Array) -> dict[str, Array]:
        """Images of a batch by stage: uint8 [batch, time, h, w, c], all of one shape."""
        raise NotImplementedError(f"{type(self).__name__} has no pictures")
