"""Options of pretext tasks. No JAX here."""

import dataclasses
from typing import Any

from world_models.core.options import OneOf
from world_models.models.latent_dynamics.options import CNNOptions, ViTOptions
from world_models.nn.options import PixelOptions


@dataclasses.dataclass(frozen=True)
class RelativePositionOptions:
    """Which of its eight neighbours a patch is (Doersch et al. 2015).

    Attributes:
      patch: pixels along a side of a patch.
      gap: pixels between neighbouring patches, so that edges do not run on from one into the other.
      jitter: pixels by which every patch is moved at random, up, down and to the sides.
      color: what is done against chromatic aberration: "keep" nothing; "drop" two random channels of every patch and
        put noise in their place; "project" the axis from green to magenta away.
      aberration: of a lens that is put before the frames, to plant that shortcut: by which share the red channel is
        enlarged about the centre and the blue one reduced; 0 for none.
      hidden: width of the head.
    """

    patch: int = 8
    gap: int = 1
    jitter: int = 1
    color: str = "drop"
    aberration: float = 0.0
    hidden: int = 128


TASK = OneOf("kind", {"relative_position": RelativePositionOptions})


@dataclasses.dataclass(frozen=True)
class PretextOptions:
    """An encoder of single frames and the task that it is trained on.

    Attributes:
      task: what is predicted of what.
      encoder: of frames and of parts of them; after training it alone is of use.
      pixels: how frames become floats.
      dtype: of the encoder; heads, targets and losses are float32.
    """

    task: Any = dataclasses.field(metadata={"schema": TASK})
    encoder: CNNOptions | ViTOptions
    pixels: PixelOptions = PixelOptions()
    dtype: str = "float32"
