"""Options of the causal tokenizer. No JAX here."""

import dataclasses

from world_models.nn.options import PixelOptions, TransformerOptions


@dataclasses.dataclass(frozen=True)
class TokenizerOptions:
    """Architecture and masking of a causal tokenizer.

    Attributes:
      encoder, decoder: the two transformers.
      patch: pixels of a patch along height and width.
      latents, latent_channels: number of latent tokens of a frame, and values of each.
      layout: "queries", learned tokens that gather what they like, as published; or "grid", each of a square of
        patches, which learns in fewer steps: `latents` is then the number of patches divided by a square.
      time_every: every `time_every`-th block attends over time, the others within a frame; divides both depths.
      window: frames that a block attends to over time, the current one included; at most the clip length in training.
      mask_ratio_max: the share of patches that are masked is drawn from U(0, this) for every frame.
      motion_weight: share of the loss in which a pixel counts by how far it is from its mean over the clip; in the
        rest all count alike. Without it a thing of a few dozen pixels is lost where the background stands still.
      pixels: how frames become floats.
      dtype: of the computation; parameters, latents and losses are float32.
    """

    encoder: TransformerOptions
    decoder: TransformerOptions
    patch: int = 8
    latents: int = 16
    latent_channels: int = 16
    layout: str = "queries"
    time_every: int = 4
    window: int = 16
    mask_ratio_max: float = 0.9
    motion_weight: float = 0.0
    pixels: PixelOptions = PixelOptions()
    dtype: str = "float32"
