"""I3D, an Inception network of clips (Carreira and Zisserman 2017, arXiv 1705.07750), read from a local file.

The file has the names of pytorch-i3d (`Mixed_3b.b1a.conv3d.weight` …), as the weights of Kinetics-400 have on which FVD
is defined. The features are the 400 logits. Only with those weights, clips of 16 frames, bilinear resizing to 224x224
from the data's own size and as many clips as a published number had are Fréchet distances on them like FVDs.
"""

import pathlib

import jax
import jax.numpy as jnp

from world_models.core.types import Array
from world_models.metrics import tensor_files
from world_models.metrics.convolutions import to_rgb
from world_models.metrics.tensor_files import Layer, Weights

SIDE = 224
LEAST_FRAMES = 9
"""Shorter clips have no two moments left at the end, which the last pooling joins."""
_STEM = ("Conv3d_1a_7x7", "Conv3d_2b_1x1", "Conv3d_2c_3x3")
_PARTS = ("b0", "b1a", "b1b", "b2a", "b2b", "b3b")
# Later blocks, each lot after a pooling: (time, side) of its windows, the same of its strides, names.
_REST = (
    ((3, 3), (2, 2), ("Mixed_4b", "Mixed_4c", "Mixed_4d", "Mixed_4e", "Mixed_4f")),
    ((2, 2), (2, 2), ("Mixed_5b", "Mixed_5c")),
)
_FIRST = ("Mixed_3b", "Mixed_3c")


def load(file: str | pathlib.Path, field: str) -> Weights:
    """Reads the network from a file of `tensor_files`; `field` is the config's that names it, for errors.

    Raises:
      UserError: if the file cannot be read or holds another network.
    """
    fits = lambda weights: jax.eval_shape(
        features_of, weights, jax.ShapeDtypeStruct((1, LEAST_FRAMES, SIDE, SIDE, 3), jnp.uint8)
    )
    return tensor_files.read_network(
        file, field, "an I3D with pytorch-i3d's names", "conv3d", layer_names(), ("logits",), fits
    )


def layer_names() -> tuple[str, ...]:
    """Of all convolutions but the last, which has no batch normalisation."""
    blocks = (*_FIRST, *(name for *_, names in _REST for name in names))
    return (*_STEM, *(f"{block}.{part}" for block in blocks for part in _PARTS))


@jax.jit
def features_of(weights: Weights, clips: Array) -> jax.Array:
    """Features float32 [n, 400] of clips, uint8 0..255 or float 0..1 [n, time, h, w, 1 or 3] of any size.

    Raises:
      ValueError: for clips of less than nine frames.
    """
    x = to_rgb(clips)
    if x.shape[1] < LEAST_FRAMES:
        raise ValueError(f"clips must have at least {LEAST_FRAMES} frames, not {x.shape[1]}")
    if x.shape[2:4] != (SIDE, SIDE):
        x = jax.image.resize(x, (*x.shape[:2], SIDE, SIDE, 3), "linear", antialias=False)
    return forward(weights, x)


def forward(weights: Weights, x: Array) -> jax.Array:
    """Logits [n, 400] of clips float32 [n, time, h, w, 3] in [-1, 1], as they are."""
    x = _layer(weights["Conv3d_1a_7x7"], x, stride=2)
    x = _layer(weights["Conv3d_2b_1x1"], _pool(x, (1, 3), (1, 2)))
    x = _pool(_layer(weights["Conv3d_2c_3x3"], x), (1, 3), (1, 2))
    for name in _FIRST:
        x = _block(weights, name, x)
    for size, stride, names in _REST:
        x = _pool(x, size, stride)
        for name in names:
            x = _block(weights, name, x)
    x = jnp.mean(x, axis=(2, 3), keepdims=True)
    x = (x[:, :-1] + x[:, 1:]) / 2  # means over two moments, then over all: those at the ends count half
    return jnp.mean(_convolve(weights["logits"], x), axis=(1, 2, 3))


def _block(weights: Weights, name: str, x: Array) -> jax.Array:
    layer = lambda part, x: _layer(weights[f"{name}.{part}"], x)
    branches = (
        layer("b0", x),
        layer("b1b", layer("b1a", x)),
        layer("b2b", layer("b2a", x)),
        layer("b3b", _pool(x, (3, 3), (1, 1))),
    )
    return jnp.concatenate(branches, axis=-1)


def _layer(layer: Layer, x: Array, stride: int = 1) -> jax.Array:
    return jax.nn.relu(_convolve(layer, x, stride))


def _convolve(layer: Layer, x: Array, stride: int = 1) -> jax.Array:
    """[n, time, h, w, c], padded as TensorFlow does: the odd place of a padding is at the end."""
    y = jax.lax.conv_general_dilated(
        x,
        layer.kernel,
        (stride, stride, stride),
        "SAME",
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
        precision=jax.lax.Precision.HIGHEST,  # accelerators would else compute in bfloat16 or TF32
    )
    return y + layer.bias


def _pool(x: Array, size: tuple[int, int], stride: tuple[int, int]) -> jax.Array:
    """Maximum over windows of [n, time, h, w, c], (time, side) large, padded as in `_convolve`."""
    whole = lambda pair: (1, pair[0], pair[1], pair[1], 1)
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, whole(size), whole(stride), "SAME")
