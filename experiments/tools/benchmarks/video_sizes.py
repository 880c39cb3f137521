"""Sizes and data that both sides of `benchmarks.video` use. Neither JAX nor PyTorch here."""

import dataclasses

import numpy as np

from experiments.families.video_transformer.options import VideoTransformerConfig
from experiments.runs.config import load_file, read
from experiments.runs.files import ROOT
from world_models.diffusion.options import EDMOptions, FlowOptions
from world_models.models.video_diffusion.options import VideoDiffusionOptions
from world_models.models.video_transformer.options import VideoTransformerOptions
from world_models.nn.options import UNetOptions

_WORLD = read(load_file(str(ROOT / "configs" / "car_world.py")), VideoTransformerConfig)


@dataclasses.dataclass(frozen=True)
class Size:
    """A video world model: its options, pixels of a side, frames of a clip, and number of actions."""

    model: VideoTransformerOptions | VideoDiffusionOptions
    image: int = 64
    clip: int = 16
    actions: int = 5

    @property
    def transformer(self) -> bool:
        """Whether it is the space-time transformer, and not the U-Net."""
        return isinstance(self.model, VideoTransformerOptions)

    @property
    def process(self) -> FlowOptions | EDMOptions:
        """Its diffusion process in training."""
        return _WORLD.diffusion if self.transformer else EDMOptions()


_CAR = dataclasses.replace(_WORLD.model, tokenizer=None, forcing="diffusion")


def _transformer(width: int, depth: int, heads: int, **network: int) -> VideoTransformerOptions:
    own = dataclasses.replace(_CAR.network, width=width, depth=depth, heads=heads, **network)
    return dataclasses.replace(_CAR, network=own, condition=width)


def _unet(channels: int, levels: int = 4, blocks: int = 2, condition: int = 256) -> Size:
    options = VideoDiffusionOptions(network=UNetOptions((channels,) * levels, blocks), condition=condition)
    return Size(options, clip=6, actions=4)


SIZES = {
    "debug": Size(dataclasses.replace(_transformer(16, 4, 4), registers=1, window=4), image=16, clip=4),
    "car": Size(_CAR),
    "33M": Size(_transformer(384, 12, 6, kv_heads=0)),
    "130M": Size(_transformer(768, 12, 12, kv_heads=0)),
    "300M": Size(_transformer(1024, 16, 16, kv_heads=0)),
    "1B": Size(_transformer(1536, 24, 24, kv_heads=0)),
    "unet_debug": dataclasses.replace(_unet(8, 2, 1, 16), image=16),
    "unet_small": _unet(32),
    "unet": _unet(64),
}
"""By name. "car" is configs/car_world.py on patches of 8x8 pixels, "unet" configs/atari_diamond.py."""


def clips(size: Size, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise, uint8 [batch, time, height, width, 3], and random actions, int32 [batch, time]."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (batch, size.clip, size.image, size.image, 3), np.uint8)
    return frames, rng.integers(0, size.actions, (batch, size.clip)).astype(np.int32)
