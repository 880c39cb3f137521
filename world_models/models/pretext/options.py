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
      aberration: of a lens that is put before the frames, to plant that shortcut: by which share red is enlarged about
        the centre more than green, and green more than blue; 0 for none.
      hidden: width of the head.
    """

    patch: int = 8
    gap: int = 1
    jitter: int = 1
    color: str = "drop"
    aberration: float = 0.0
    hidden: int = 128


@dataclasses.dataclass(frozen=True)
class ColorizationOptions:
    """The colours of an image of which only the lightness is seen (Zhang et al. 2016).

    Attributes:
      neighbors, sigma: a colour is encoded as a distribution over its nearest bins, by a Gaussian of so many units.
      rebalance: share of the uniform distribution that the distribution of bins is mixed with, whose inverse weights
        pixels; 1 gives all the same weight.
      temperature: at which the mean over bins is taken: near 0 it is the mode, at 1 the mean.
    """

    neighbors: int = 5
    sigma: float = 5.0
    rebalance: float = 0.5
    temperature: float = 0.38


@dataclasses.dataclass(frozen=True)
class ExemplarOptions:
    """Which image an augmented image is made of (Dosovitskiy et al. 2014).

    Attributes:
      form: "classes", every one of `num_images` images is a class of its own; "triplet", two views of an image are to
        be nearer to each other than to those of other images in the batch.
      num_images: of the training split, chosen at random, in the form "classes".
      crop_scale: (least, greatest) share of the area of random crops, which are resized to the whole.
      flip: whether half of the views are mirrored.
      contrast, brightness: by which factor contrast changes at most, either way, and by which share of the range
        brightness does.
      grey: share of the views of colour images that lose their colours.
      hues: whether the channels of colour images are scaled one by one, each by the square root of `contrast` at most.
      margin: of squared distances in the form "triplet".
      embedding: size of what is compared there.
    """

    form: str = "classes"
    num_images: int = 2000
    crop_scale: tuple[float, float] = (0.5, 1.0)
    flip: bool = True
    contrast: float = 2.0
    brightness: float = 0.1
    grey: float = 0.3
    hues: bool = True
    margin: float = 0.5
    embedding: int = 64


@dataclasses.dataclass(frozen=True)
class ClassificationOptions:
    """The label of an image or clip: no pretext task, but what they are compared with.

    Attributes:
      label_key: path of the label inside an example.
      num_classes: how many there are.
    """

    label_key: str = "label"
    num_classes: int = 10


@dataclasses.dataclass(frozen=True)
class OrderOptions:
    """Whether three frames are in the order of time (Misra et al. 2016): five frames a < b < c < d < e of a clip.

    Attributes:
      near: frames from a to b and from d to e.
      far: frames from b to d, at least 2.
      negatives: share of tuples that are not in order; 0.75 in the paper.
      control: "static" repeats a clip's first frame, so that nothing can be learned.
      hidden: width of the head.
    """

    near: int = 1
    far: int = 4
    negatives: float = 0.5
    control: str = "none"
    hidden: int = 128


@dataclasses.dataclass(frozen=True)
class DirectionOptions:
    """Whether a clip runs forwards or backwards (Wei et al. 2018).

    Attributes:
      border: pixels that are blanked along the sides of all frames: black bars and what codecs leave there tell the
        direction.
      control: "static" repeats a clip's first frame, "symmetric" turns half of the clips round beforehand; nothing can
        then be learned.
      hidden: width of the head.
    """

    border: int = 0
    control: str = "none"
    hidden: int = 128


@dataclasses.dataclass(frozen=True)
class ColorTrackingOptions:
    """Which place of earlier frames every place of a frame has its colour from (Vondrick et al. 2018).

    Attributes:
      references: earlier frames.
      gap: frames from one to the next.
      inputs: what the encoder sees: "grey", or "dropout", colours of which one or two are lost in most clips.
      dropout: share of clips that lose any, with inputs="dropout".
      embedding: size of the embedding by which places are compared.
      temperature: cosines are divided by it.
      colors: classes of colours of a clip.
    """

    references: int = 3
    gap: int = 1
    inputs: str = "grey"
    dropout: float = 0.7
    embedding: int = 64
    temperature: float = 0.1
    colors: int = 16


@dataclasses.dataclass(frozen=True)
class NextFrameOptions:
    """The next frame.

    Attributes:
      context: frames before it that are encoded.
      hidden: channels of the network that predicts.
    """

    context: int = 3
    hidden: int = 32


TASK = OneOf(
    "kind",
    {
        "relative_position": RelativePositionOptions,
        "colorization": ColorizationOptions,
        "exemplar": ExemplarOptions,
        "order": OrderOptions,
        "direction": DirectionOptions,
        "color_tracking": ColorTrackingOptions,
        "next_frame": NextFrameOptions,
        "classification": ClassificationOptions,
    },
)


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
