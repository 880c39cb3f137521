"""Options of multi-level latent dynamics. No JAX here."""

import dataclasses
import math

from world_models.nn.options import ComputeOptions, HeadOptions, PixelOptions, TransformerOptions

ENCODERS = ("frames", "mlp", "identity")
PREDICTORS = ("gru", "mlp", "transformer")
TERMS = ("std", "cov", "time", "inverse", "sigreg", "distance")


@dataclasses.dataclass(frozen=True)
class LevelOptions:
    """Architecture and losses of a level.

    Attributes:
      encoder: "frames" (level 1 alone: features of a frame), "mlp" on the latents of the level below (H-JEPA), or
        "identity" (HWM: both levels share one space).
      stride: ticks of the level below in one of this; 1 at level 1.
      width: of a latent; at an identity, that of the level below.
      action: size of an action: the environment's at level 1, above it of a macro-action in [−1, 1].
      predictor: "gru", whose hidden state is the latent (eb_jepa), "mlp", two residual blocks that the action modulates
        (adaLN-zero), or "transformer", which is also conditioned on earlier latents (LeWM).
      history: number of latents that a "transformer" attends to at most; 1 for the others. In acting, level 1 has those
        that were observed; plans and rollouts at a level above start from one.
      depth, heads: blocks of a "transformer", and attention heads of each.
      hidden: width of all MLPs.
      rollout: ticks that are predicted in a row in training, from every tick that has as many after it. A "transformer"
        starts from `history` true latents, and predicts one tick from each of them but the last, too.
      weight: of the level in the loss; at 0 it is not trained, and its parameters are constants.
      std, cov, time, inverse, sigreg, distance: weights of `regularizers` beside the prediction's squared error; 0
        omits one. "inverse" predicts the action between two neighbouring latents; "distance" trains an embedding in
        which distances are path lengths, see `Level.distance_embedding`.
      max_distance: approximate ticks of the longest path; "distance" does not separate longer ones.
      compute: its `ops` applies to norms and to a "transformer".
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
      frozen: whether its weights are not trained; the projection to latents always is.
    """

    channels: tuple[int, ...] = (16, 32, 32)
    blocks: int = 2
    frozen: bool = False


@dataclasses.dataclass(frozen=True)
class ViTOptions(TransformerOptions):
    """A vision transformer: the encoder of `masked_autoencoder.model` on all patches of a frame.

    Its parameters have the same names below "encoder", so that `init_from` can load a trained one.

    Attributes:
      patch: pixels of a patch along height and width.
      class_token: whether it has a class token, which is not part of the features.
      frozen: as in `CNNOptions`.
    """

    patch: int = 8
    class_token: bool = False
    frozen: bool = False


@dataclasses.dataclass(frozen=True)
class DecoderOptions:
    """Decoders of single frames, one per level.

    Attributes:
      channels: of its convolutions, from coarse to fine, each after an upsampling by 2. Empty: no decoder.
      frames: number of frames per clip and step, evenly spaced from a random one; at most the ticks of a level.
      weight: of its squared error, over normalized pixels, in the loss.
      detach: whether its gradient stops at the latents; if not, reconstruction trains them too.
    """

    channels: tuple[int, ...] = (32, 16)
    frames: int = 2
    weight: float = 1.0
    detach: bool = True


@dataclasses.dataclass(frozen=True)
class LatentDynamicsOptions:
    """Architecture of multi-level latent dynamics.

    Attributes:
      levels: 1 to 4 levels, from the bottom up.
      encoder: of frames.
      decoder: of latents, for inspection.
      detach_lower: whether no gradient of an upper level's loss reaches the levels below; False trains end to end.
      pixels: how frames become floats.
      heads: of level 1, for rewards and termination; their gradients reach its latents.
      dtype: of the frame encoder; all else is float32.
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
        """Frames per tick, by level."""
        return tuple(math.prod(level.stride for level in self.levels[: i + 1]) for i in range(len(self.levels)))
