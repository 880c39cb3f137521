"""Options of the networks that all families share. No JAX: configs and recording workers import this."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class ComputeOptions:
    """How a transformer is computed: what concerns the machine, not the result.

    Attributes:
      remat: what the backward pass computes again instead of keeping: "none", "dots" (all but the results of matrix
        products with parameters), "full" (everything inside a block).
      unroll: blocks an iteration of the scan over depth; -1 for all, which compiles longer and can run faster.
      attention: "xla", or "cudnn": that implementation of `jax.nn.dot_product_attention` (flash attention; GPUs,
        bfloat16).
    """

    remat: str = "none"
    unroll: int = 1
    attention: str = "xla"


@dataclasses.dataclass(frozen=True)
class TransformerOptions:
    """Size of a transformer, and how it is computed.

    Attributes:
      width: of a token.
      depth: number of blocks.
      heads: of the attention; divides `width`.
      mlp_ratio: hidden width of the MLP over `width`.
      remat: what the backward pass computes again instead of keeping: "none", "dots" (all but the results of matrix
        products with parameters), "full" (everything inside a block).
      unroll: blocks an iteration of the scan over depth. `depth` compiles longer and can run faster.
      attention: "xla", or "cudnn": that implementation of `jax.nn.dot_product_attention` (flash attention; GPUs,
        bfloat16).
    """

    width: int
    depth: int
    heads: int
    mlp_ratio: float = 4.0
    remat: str = "none"
    unroll: int = 1
    attention: str = "xla"

    @property
    def hidden(self) -> int:
        """Hidden width of the MLP."""
        return round(self.mlp_ratio * self.width)


@dataclasses.dataclass(frozen=True)
class UNetOptions:
    """Size of a U-Net; the defaults are the published ones.

    Attributes:
      channels: width of each level; the image is halved between levels.
      blocks: residual blocks of a level.
    """

    channels: tuple[int, ...] = (64, 64, 64, 64)
    blocks: int = 2
