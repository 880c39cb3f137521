"""Options of multi-level latent dynamics. No JAX here."""

import dataclasses
import math

from world_models.nn.options import ComputeOptions, HeadOptions, PixelOptions, TransformerOptions

ENCODERS = ("frames", "mlp", "identity")


PREDICTORS = ("gru", "mlp", "transformer")


TERMS = ("std", "cov", "time", "inverse", "sigreg", "distance")


@dataclasses.dataclass(frozen=True)
class LevelOptions:
    """What a level is made of.

    Attributes:
      encoder: "frames" (level 1 alone: features of a frame), "mlp" on the latents of the level below (H-JEPA), or
        "identity" (HWM: both levels share one space).
      stride: ticks of the level below in one of this; 1 at level 1.
      width: of a latent; at an identity, that of the level below.
      action: numbers of an action: the environment's at level 1, above it of a macro-action in [−1, 1].
      predictor: "gru", whose hidden state is the latent (eb_jepa), "mlp", two residual blocks that the action modulates
        (adaLN-zero), or "transformer", which does the same and sees the latents before this one too (LeWM).
      history: of a "transformer", the latents that it sees at most; 1 of the others. In acting, level 1 has those that
        were seen; what is planned or imagined at a level above begins with one.
      depth, heads: of a "transformer": blocks, and attention heads of each.
      hidden: width of all MLPs.
      rollout: ticks that are predicted in a row in training, from every tick that has so many after it. Before, a
        "transformer" is given `history` true latents, and predicts one tick on from each but the last, too.
      weight: of the level in the loss; at 0 it stays as it is and has no parameters, but constants of those names.
      std, cov, time, inverse, sigreg, distance: weights of `regularizers` beside the prediction's squared error; 0
        leaves one out. "inverse" predicts the action between two neighbouring latents; "distance" learns a map on
        which latents are as far apart as the way is long, see `Level.distance_embedding`.
      max_distance: ticks of the longest way, about; of "distance", which tells no longer ways apart.
      compute: of which `ops` says how norms and a "transformer" are computed.
    """

    encoder: str = "mlp"
    stride: int = 4
    width: int = 64
    action: int = 4
    predictor: str = "mlp"
    history: int = 1
    depth: int = 1
    heads: int = 1
    hidden: int = 128
    rollout: int = 8
    weight: float = 1.0
    std: float = 0.0
    cov: float = 0.0
    time: float = 0.0
    inverse: float = 0.0
    sigreg: float = 0.0
    distance: float = 0.0
    max_distance: float = 8.0
    compute: ComputeOptions = dataclasses.field(default=ComputeOptions(), metadata={"config": False})


@dataclasses.dataclass(frozen=True)
class CNNOptions:
    """The encoder of IMPALA (Espeholt et al. 2018, figure 3).

    Attributes:
      channels: of its stacks, each of which halves the image.
      blocks: residual blocks of a stack.
      frozen: whether its weights stay as they are; the projection to latents is trained all the same.
    """

    channels: tuple[int, ...] = (16, 32, 32)
    blocks: int = 2
    frozen: bool = False


@dataclasses.dataclass(frozen=True)
class ViTOptions(TransformerOptions):
    """A vision transformer: the encoder of `masked_autoencoder.model`, shown all patches of a frame.

    Its parameters have the names that they have there, below "encoder": a trained one can be begun with.

    Attributes:
      patch: pixels of a patch along height and width.
      class_token: whether it has one; it sees, but is no part of the features.
      frozen: as of `CNNOptions`.
    """

    patch: int = 8
    class_token: bool = False
    frozen: bool = False


@dataclasses.dataclass(frozen=True)
class DecoderOptions:
    """A decoder of single frames, one a level.

    Attributes:
      channels: from coarse to fine; between two of them, and after the last, the image doubles. Empty: no decoder.
      frames: of a clip, evenly apart from a random one, that it learns from in a step; at most the ticks of a level.
      weight: of its squared error, over normalized pixels, in the loss.
      detach: whether its gradient stops at the latents. If not, latents are shaped by reconstruction.
    """

    channels: tuple[int, ...] = (32, 16)
    frames: int = 2
    weight: float = 1.0
    detach: bool = True


@dataclasses.dataclass(frozen=True)
class LatentDynamicsOptions:
    """What a model is made of.

    Attributes:
      levels: from the bottom up, 1 to 4 of them.
      encoder: of frames.
      decoder: of latents, for people to look at.
      detach_lower: whether an upper level's loss leaves what is below it as it is. If not, all is trained end to end.
      pixels: how frames become numbers.
      heads: on level 1, that predict rewards and ends of episodes; their gradients reach its latents.
      dtype: in which frames are encoded; all else is float32.
    """

    levels: tuple[LevelOptions, ...]
    encoder: CNNOptions | ViTOptions
    decoder: DecoderOptions
    detach_lower: bool = True
    pixels: PixelOptions = PixelOptions()
    heads: HeadOptions = HeadOptions()
    dtype: str = "float32"

    @property
    def periods(self) -> tuple[int, ...]:
        """Frames in a tick, by level."""
        return tuple(math.prod(level.stride for level in self.levels[: i + 1]) for i in range(len(self.levels)))
