"""Options of the video transformer. No JAX here."""

import dataclasses

from world_models.models.tokenizer.options import TokenizerOptions
from world_models.nn.options import HeadOptions, PixelOptions, TransformerOptions


@dataclasses.dataclass(frozen=True)
class VideoTransformerOptions:
    """Options of the model.

    Attributes:
      network: the space-time transformer.
      time_every: every `time_every`-th block attends over time, the others within a frame; divides the depth.
      window: frames that a block attends to over time, the current one included; at most the clip length in training.
      registers: learned tokens that join each frame's (Darcet et al. 2023).
      condition: width of the embedding of noise level, step size and action, which modulates every block.
      actions: how actions come in: "modulation", with the condition of every block (adaLN); "add", to all tokens of the
        frame; "film", as scale and shift of them; "cross", as four tokens, which those of the frame attend to once,
        before the first block; "token", as one more token, which the others attend to in every block.
      forcing: what a frame is denoised with in training: "diffusion", earlier frames of any noise, each of its own;
        "teacher", earlier frames as a rollout shows them; "self", the same, but those that the model itself imagines
        (after Huang et al. 2025, "Self Forcing", with the true next frame as the target); "sequence", earlier frames
        of the same noise.
      own_after: true frames that the imagined ones follow, for "self".
      context_level: noise level at which past frames are shown in rollouts, in the process's unit: a signal level τ for
        flow matching and shortcuts. A little noise, which the model knows of, hides the errors of its own frames.
      patch: without a tokenizer a frame's tokens are its patches, with sides of so many pixels.
      pixels: how frames become floats, without a tokenizer.
      tokenizer: the architecture of a causal tokenizer, whose weights `config.init_from` reads and which is not trained
        further; None to work on pixels.
      heads: that predict rewards and ends of episodes.
      dtype: of the computation; parameters and losses are float32.
    """

    network: TransformerOptions
    time_every: int = 4
    window: int = 16
    registers: int = 4
    condition: int = 256
    actions: str = "modulation"
    forcing: str = "diffusion"
    own_after: int = 4
    context_level: float = 0.9
    patch: int = 8
    pixels: PixelOptions = PixelOptions()
    tokenizer: TokenizerOptions | None = None
    heads: HeadOptions = HeadOptions()
    dtype: str = "float32"
