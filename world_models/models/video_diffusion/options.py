"""Options of the video diffusion model. No JAX here."""

import dataclasses

from world_models.core.options import OneOf
from world_models.nn.options import HeadOptions, PixelOptions, TransformerOptions, UNetOptions

NETWORK = OneOf("kind", {"unet": UNetOptions, "transformer": TransformerOptions})


@dataclasses.dataclass(frozen=True)
class VideoDiffusionOptions:
    """Options of the model; the defaults are the published ones.

    Attributes:
      context_offsets: which past frames (and actions) the next frame is predicted from, as steps before it: falling,
        and 1, the newest, last. (4, 3, 2, 1) are the four most recent.
      network: of the U-Net or of the transformer; which one it is says which is built.
      condition: width of the embedding of noise level and actions.
      patch: the network works on patches of this side, folded into channels; 2 makes it four times cheaper.
      target: "frame" diffuses the next frame; "change" its difference from the last one, so that an untrained
        network already copies the last frame. The process's data are then the changes.
      context_noise: in training every context gets noise of a level drawn from U(0, context_noise), so that the model
        learns to mend the errors of its own frames.
      pixels: how frames become floats.
      heads: that predict rewards and ends of episodes.
      dtype: of the network's computation.
    """

    context_offsets: tuple[int, ...] = (4, 3, 2, 1)
    network: UNetOptions | TransformerOptions = dataclasses.field(default=UNetOptions(), metadata={"schema": NETWORK})
    condition: int = 256
    patch: int = 1
    target: str = "frame"
    context_noise: float = 0.0
    pixels: PixelOptions = PixelOptions()
    heads: HeadOptions = HeadOptions()
    dtype: str = "float32"

    @property
    def context_frames(self) -> int:
        """Frames that must be known, used or not, to predict the next one."""
        return max(self.context_offsets)
