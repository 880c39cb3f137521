"""Features that need neither training nor a file: a convolutional network with fixed random weights.

Version 1: three 3x3 convolutions of stride 2 with 32, 32 and 16 channels and ReLU (He's normal weights, no biases),
then the mean over each quarter of the last map: 64 numbers a frame. Weights come from NumPy's legacy generator, whose
stream is frozen, so that the space is the same everywhere and for ever. Distances in it tell textures, colours and
coarse layout apart; they say nothing of what people find alike.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

from world_models.core.types import Array
from world_models.metrics.convolutions import convolve, to_rgb

NAME = "random-convolutions-1"
SIZE = 64
LEAST_SIDE = 16
_CHANNELS = (3, 32, 32, 16)


@functools.cache
def kernels() -> tuple[np.ndarray, ...]:
    """The weights, float32 [3, 3, in, out] each."""
    rng = np.random.RandomState(0)
    make = lambda inputs, outputs: rng.standard_normal((3, 3, inputs, outputs)) * math.sqrt(2 / (9 * inputs))
    return tuple(make(*sizes).astype(np.float32) for sizes in itertools.pairwise(_CHANNELS))


@jax.jit
def random_features(frames: Array) -> jax.Array:
    """Features of frames, float32 [n, 64].

    Args:
      frames: uint8 0..255 or float 0..1 [n, h, w, 1 or 3], sides of at least 16 pixels.

    Raises:
      ValueError: if frames are smaller.
    """
    if min(frames.shape[1:3]) < LEAST_SIDE:
        raise ValueError(f"random features need frames of at least {LEAST_SIDE}x{LEAST_SIDE}, not {frames.shape[1:3]}")
    x = to_rgb(frames)
    for kernel in kernels():
        x = jax.nn.relu(convolve(x, kernel, stride=2, pad=(1, 1)))
    rows, columns = x.shape[1] // 2, x.shape[2] // 2
    halves = (x[:, :rows], x[:, rows:])
    quarters = [part for half in halves for part in (half[:, :, :columns], half[:, :, columns:])]
    return jnp.concatenate([jnp.mean(part, axis=(1, 2)) for part in quarters], axis=-1)
