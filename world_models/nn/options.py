"""Options of the networks that all families share. No JAX: configs and recording workers import this."""

import dataclasses
from typing import Any

OPS = ("auto", "library", "cpu")


@dataclasses.dataclass(frozen=True)
class ComputeOptions:
    """How a transformer is computed: what concerns the machine, not the result.

    Attributes:
      remat: what the backward pass computes again instead of keeping: "none", "dots" (all but the results of matrix
        products with parameters), "full" (everything inside a block).
      unroll: blocks an iteration of the scan over depth; -1 for all, which compiles longer and can run faster.
      attention: "xla", or "cudnn": that implementation of `jax.nn.dot_product_attention` (flash attention; GPUs,
        bfloat16).
      ops: "library", the operations of JAX; "cpu", the same with hand-written backward passes that are faster on CPUs
        (CPUs only, no `jax.jvp`); "auto", "cpu" on a CPU and "library" elsewhere. With attention="cudnn", attention is
        cuDNN's.
    """

    remat: str = "none"
    unroll: int = 1
    attention: str = "xla"
    ops: str = "auto"


COLORS = ("rgb", "opponent")
NORMS = ("layer", "rms")
MLPS = ("gelu", "swiglu")


@dataclasses.dataclass(frozen=True)
class PixelOptions:
    """How uint8 frames become model floats, and back; see `world_models.nn.pixels.Pixels`.

    The default maps 0..255 to [-1, 1].

    Attributes:
      mean, std: of the training data's channels in 0..1, a number each or one for all.
      color: "rgb" keeps the channels as they are; "opponent" replaces them by their mean, R − G and G − B, which
        separates coloured objects from gray surroundings, so that `std` can enlarge them. For frames of three channels.
    """

    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)
    color: str = "rgb"


@dataclasses.dataclass(frozen=True)
class TransformerOptions:
    """Size of a transformer, and how it is computed.

    Attributes:
      width: of a token.
      depth: number of blocks.
      heads: of the attention; divides `width`.
      mlp_ratio: hidden width of the MLP over `width`.
      kv_heads: heads of keys and values, each shared by `heads / kv_heads` query heads (grouped queries; Ainslie et al.
        2023); 0 for as many as `heads`.
      norm: "layer", LayerNorm, or "rms", RMSNorm (Zhang & Sennrich 2019).
      qk_norm: whether queries and keys are normalized by RMSNorm, per head (Dehghani et al. 2023).
      mlp: "gelu", or "swiglu": the hidden values are gated (Shazeer 2020), which has a third matrix.
      compute: how it is computed.
    """

    width: int
    depth: int
    heads: int
    mlp_ratio: float = 4.0
    kv_heads: int = 0
    norm: str = "layer"
    qk_norm: bool = False
    mlp: str = "gelu"
    compute: ComputeOptions = dataclasses.field(default=ComputeOptions(), metadata={"config": False})

    @property
    def hidden(self) -> int:
        """Hidden width of the MLP."""
        return round(self.mlp_ratio * self.width)

    @property
    def unroll(self) -> int:
        """Blocks an iteration of the scan over depth."""
        return self.depth if self.compute.unroll < 0 else min(self.compute.unroll, self.depth)


@dataclasses.dataclass(frozen=True)
class HeadOptions:
    """Heads that predict rewards and ends of episodes.

    Attributes:
      reward, terminal: weights in the loss; 0 builds no head.
      hidden: width of their MLP.
    """

    reward: float = 0.0
    terminal: float = 0.0
    hidden: int = 128

    @property
    def any(self) -> bool:
        """Whether there is a head."""
        return bool(self.reward or self.terminal)


@dataclasses.dataclass(frozen=True)
class UNetOptions:
    """Size of a U-Net; the defaults are the published ones.

    Attributes:
      channels: width of each level; the image is halved between levels.
      blocks: residual blocks of a level.
    """

    channels: tuple[int, ...] = (64, 64, 64, 64)
    blocks: int = 2


def with_compute(options: Any, compute: ComputeOptions) -> Any:
    """Options, a dataclass or a tuple of them, with `compute` in the place of every `ComputeOptions`, at any depth."""
    if isinstance(options, ComputeOptions):
        return compute
    if isinstance(options, tuple):
        return tuple(with_compute(own, compute) for own in options)
    if not dataclasses.is_dataclass(options):
        return options
    inner = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    changed = {name: with_compute(own, compute) for name, own in inner.items()}
    return dataclasses.replace(options, **{name: own for name, own in changed.items() if own != inner[name]})
