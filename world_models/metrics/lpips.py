"""Learned perceptual distance of two frames (LPIPS, version 0.1; Zhang et al. 2018, arXiv 1801.03924), from a file.

Features of five layers of AlexNet or VGG16 are normalised to length 1 over channels at every place; squared differences
are weighted by channel with learned weights, averaged over places and summed over layers. Name the network with every
number: AlexNet's and VGG16's values differ by a factor.

The file holds the network under torchvision's names (`features.0.weight` …) or those of the package lpips
(`net.slice1.0.weight` …), and the linear weights under those of that package (`lin0.model.1.weight` …). The shapes say
which network it is.
"""

import pathlib
import re
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from world_models.core.errors import config_error
from world_models.core.types import Array
from world_models.metrics import tensor_files
from world_models.metrics.convolutions import convolve, max_pool, to_rgb

SHIFT = np.array([-0.030, -0.088, -0.188], np.float32)
SCALE = np.array([0.458, 0.448, 0.450], np.float32)
_EPSILON = 1e-10
# Numbers of the convolutions between the layers that are compared, and the pooling before each but the first.
_ALEX = ((0,), (3,), (6,), (8,), (10,))
_VGG = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
NETWORKS = {"alex": _ALEX, "vgg16": _VGG}
LEAST_SIDE = {"alex": 32, "vgg16": 16}


class Weights(NamedTuple):
    """The network and the linear weights.

    Attributes:
      layers: (kernel [height, width, in, out], bias [out]) of every convolution by its number.
      linear: weights of the channels of the five layers, [channels] each.
    """

    layers: Mapping[int, tuple[np.ndarray, np.ndarray]]
    linear: tuple[np.ndarray, ...]

    @property
    def name(self) -> str:
        """Which network it is: "alex" or "vgg16"."""
        return "alex" if self.layers[0][0].shape[0] == 11 else "vgg16"


def load(file: str | pathlib.Path, field: str) -> Weights:
    """Reads the weights from a file of `tensor_files`; `field` is the config's that names it, for errors.

    Raises:
      UserError: if the file cannot be read, or is no AlexNet or VGG16 with linear weights that fit.
    """
    found = {}
    for name, x in tensor_files.read(file, field).items():
        if match := re.fullmatch(r"(?:net\.slice\d+|features)\.(\d+)\.(weight|bias)", name):
            found[match[2], int(match[1])] = x
        elif match := re.fullmatch(r"(?:lin|lins\.)(\d+)\.model\.1\.weight", name):
            found["linear", int(match[1])] = np.asarray(x, np.float32).reshape(-1)
    first = found.get(("weight", 0))
    if first is None or first.ndim != 4 or first.shape[1:] not in ((3, 11, 11), (3, 3, 3)):
        valid = "hold AlexNet or VGG16 with a first convolution 'features.0.weight' or 'net.slice1.0.weight'"
        raise config_error(field, str(file), valid)
    name = "alex" if first.shape[2] == 11 else "vgg16"
    numbers = [number for part in NETWORKS[name] for number in part]
    needed = [(kind, i) for i in numbers for kind in ("weight", "bias")] + [("linear", i) for i in range(5)]
    missing = [key for key in needed if key not in found]
    if missing:
        kind, number = missing[0]
        one = f"lin{number}.model.1.weight" if kind == "linear" else f"features.{number}.{kind}"
        raise config_error(field, str(file), f"hold LPIPS on {name}; {len(missing)} tensors are missing: {one} first")
    layer = lambda i: (tensor_files.kernel(found["weight", i]), np.asarray(found["bias", i], np.float32))
    weights = Weights({i: layer(i) for i in numbers}, tuple(found["linear", i] for i in range(5)))
    try:
        frame = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.uint8)
        jax.eval_shape(lambda x, y: lpips(weights, x, y), frame, frame)
    except (ValueError, TypeError) as error:
        valid = f"hold LPIPS on {name} whose layers fit each other ({str(error).splitlines()[0]})"
        raise config_error(field, str(file), valid) from error
    return weights


def lpips(weights: Weights, prediction: Array, truth: Array) -> jax.Array:
    """The distance of every pair of frames, at least 0.

    Args:
      weights: of `load`.
      prediction, truth: uint8 0..255 or float 0..1 [n, h, w, 1 or 3] of one size, sides of at least 32 pixels (AlexNet)
        or 16 (VGG16); small frames give other values than large ones.

    Returns:
      float32 [n].

    Raises:
      ValueError: if frames are too small.
    """
    total = jnp.zeros(len(prediction))
    for linear, a, b in zip(weights.linear, activations(weights, prediction), activations(weights, truth)):
        difference = jnp.square(_unit(a) - _unit(b))
        total += jnp.mean(jnp.sum(difference * linear, axis=-1), axis=(1, 2))
    return total


def activations(weights: Weights, frames: Array) -> list[jax.Array]:
    """Activations [n, height, width, channels] of the five layers, of frames as in `lpips`."""
    name = weights.name
    if min(frames.shape[1:3]) < LEAST_SIDE[name]:
        raise ValueError(f"{name} needs frames of at least {LEAST_SIDE[name]} pixels a side, not {frames.shape[1:3]}")
    x, found = (to_rgb(frames) - SHIFT) / SCALE, []
    for i, numbers in enumerate(NETWORKS[name]):
        if name == "alex":
            x = max_pool(x, 3, 2) if i in (1, 2) else x
        elif i:
            x = max_pool(x, 2, 2)
        for number in numbers:
            kernel, bias = weights.layers[number]
            stride, pad = (4, 2) if kernel.shape[0] == 11 else (1, kernel.shape[0] // 2)
            x = jax.nn.relu(convolve(x, kernel, bias, stride, (pad, pad)))
        found.append(x)
    return found


def _unit(x: Array) -> jax.Array:
    """[..., channels] at length 1."""
    return x / (jnp.sqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True)) + _EPSILON)
