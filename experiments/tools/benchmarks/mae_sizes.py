"""Sizes and data that both sides of `benchmarks.mae` use. Neither JAX nor PyTorch here."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Size:
    """A masked autoencoder: pixels of a side and channels, side of a patch, and (width, depth, heads) of both parts."""

    image: int
    channels: int
    patch: int
    encoder: tuple[int, int, int]
    decoder: tuple[int, int, int]


SIZES = {
    "debug": Size(16, 1, 4, (32, 2, 2), (16, 1, 2)),
    "mini": Size(28, 1, 4, (96, 6, 3), (64, 2, 4)),
    "tiny": Size(32, 3, 4, (192, 12, 3), (192, 4, 3)),
    "base": Size(224, 3, 16, (768, 12, 12), (512, 8, 16)),
}


def images(size: Size, batch: int) -> np.ndarray:
    """Noise, uint8 [batch, height, width, channel]."""
    shape = (batch, size.image, size.image, size.channels)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
