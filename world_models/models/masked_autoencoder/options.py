"""Options of the masked autoencoder. No JAX here."""

import dataclasses

from world_models.nn.options import PixelOptions, TransformerOptions

POSITIONS = ("grid", "line", "separable")


@dataclasses.dataclass(frozen=True)
class MaskedAutoencoderOptions:
    """Architecture, masking and target of a masked autoencoder.

    Attributes:
      encoder, decoder: the two transformers.
      patch, tubelet: pixels of a patch along height and width, and frames along time.
      masking, mask_ratio: see `masking.order` and `masking.num_visible`.
      encode_mask_tokens: give the encoder mask tokens in place of removed patches, as MAE's table 1c does to show that
        one should not.
      target: see `targets.target`; "pca" predicts `pca_components` principal components of patches.
      pca_components: see `target`.
      class_token: a first token of its own, as MAE has and VideoMAE has not.
      positions: "grid", fixed sine-cosine of row and column (MAE), plus that of time where there are several slices;
        "line", fixed sine-cosine of the patch's number (VideoMAE); "separable", learned, one of space plus one of
        time (Feichtenhofer et al. 2022, MAE-ST).
      decoder_input_bias: whether the map into the decoder has a bias (MAE has one, VideoMAE has none).
      pixels: how frames become floats.
      dtype: of the computation; parameters, targets and losses are float32.
    """

    encoder: TransformerOptions
    decoder: TransformerOptions
    patch: int = 16
    tubelet: int = 1
    masking: str = "random"
    mask_ratio: float = 0.75
    encode_mask_tokens: bool = False
    target: str = "patch_normalized"
    pca_components: int = 96
    class_token: bool = True
    positions: str = "grid"
    decoder_input_bias: bool = True
    pixels: PixelOptions = PixelOptions()
    dtype: str = "float32"
