"""Inception-v3 with the changes of the network that FID is defined on, read from a local file.

The file has the names of torchvision's `inception_v3` (`Mixed_5b.branch1x1.conv.weight` …), as the weights that were
ported from TensorFlow's of 2015 for FID have. Against torchvision's forward pass, that network has means over what lies
inside the image in its pooled branches, and in its last block the maximum. The features are the 2048 numbers after the
last pooling. Only with those weights, 299x299 bilinear and unsharpened resizing from the data's own size, and 10,000
images or more are Fréchet distances on them like published FIDs; with others they are not.
"""

import functools
import pathlib

import jax
import jax.numpy as jnp

from world_models.core.types import Array
from world_models.metrics import tensor_files
from world_models.metrics.convolutions import convolve, max_pool, mean_pool, to_rgb
from world_models.metrics.tensor_files import Weights

SIDE = 299
_STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
_POOLED = ("mean", "branch_pool")
_A = (("branch1x1",), ("branch5x5_1", "branch5x5_2"), ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"), _POOLED)
_B = (("branch3x3",), ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"), ("reduce",))
_C = (
    ("branch1x1",),
    ("branch7x7_1", "branch7x7_2", "branch7x7_3"),
    tuple(f"branch7x7dbl_{i}" for i in range(1, 6)),
    _POOLED,
)
_D = (("branch3x3_1", "branch3x3_2"), tuple(f"branch7x7x3_{i}" for i in range(1, 5)), ("reduce",))
_E = (
    ("branch1x1",),
    ("branch3x3_1", ("branch3x3_2a", "branch3x3_2b")),
    ("branch3x3dbl_1", "branch3x3dbl_2", ("branch3x3dbl_3a", "branch3x3dbl_3b")),
)
_BLOCKS = {
    **dict.fromkeys(("Mixed_5b", "Mixed_5c", "Mixed_5d"), _A),
    "Mixed_6a": _B,
    **dict.fromkeys(("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"), _C),
    "Mixed_7a": _D,
    "Mixed_7b": (*_E, _POOLED),
    "Mixed_7c": (*_E, ("max", "branch_pool")),
}
_HALVING = ("Mixed_6a", "Mixed_7a")  # the last layer of each of their branches has stride 2 and no padding
_POOLS = ("mean", "max", "reduce")


def load(file: str | pathlib.Path, field: str) -> Weights:
    """Reads the network from a file of `tensor_files`; `field` is the config's that names it, for errors.

    Raises:
      UserError: if the file cannot be read or holds another network.
    """
    fits = lambda weights: jax.eval_shape(features_of, weights, jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.uint8))
    return tensor_files.read_network(
        file, field, "an Inception-v3 in torchvision's layout", "conv", layer_names(), (), fits
    )


def layer_names() -> tuple[str, ...]:
    """Of all convolutions."""
    steps = [(block, step) for block, branches in _BLOCKS.items() for branch in branches for step in branch]
    flat = [(block, one) for block, step in steps for one in (step if isinstance(step, tuple) else (step,))]
    return (*_STEM, *(f"{block}.{name}" for block, name in flat if name not in _POOLS))


@jax.jit
def features_of(weights: Weights, frames: Array) -> jax.Array:
    """Features float32 [n, 2048] of frames, uint8 0..255 or float 0..1 [n, h, w, 1 or 3] of any size."""
    x = to_rgb(frames)
    if x.shape[1:3] != (SIDE, SIDE):
        x = jax.image.resize(x, (len(x), SIDE, SIDE, 3), "linear", antialias=False)
    return forward(weights, x)


def forward(weights: Weights, x: Array) -> jax.Array:
    """Features [n, 2048] of images float32 [n, h, w, 3] in [-1, 1], as they are, sides of at least 75."""
    layer = functools.partial(_layer, weights)
    x = layer("Conv2d_1a_3x3", x, stride=2)
    x = layer("Conv2d_2b_3x3", layer("Conv2d_2a_3x3", x), same=True)
    x = layer("Conv2d_4a_3x3", layer("Conv2d_3b_1x1", max_pool(x, 3, 2)))
    x = max_pool(x, 3, 2)
    for block, branches in _BLOCKS.items():
        x = jnp.concatenate([_branch(weights, block, branch, x) for branch in branches], axis=-1)
    return jnp.mean(x, axis=(1, 2))


def _branch(weights: Weights, block: str, branch: tuple, x: Array) -> jax.Array:
    pools = {"mean": lambda x: mean_pool(x, 3, 1), "max": lambda x: max_pool(x, 3, 1, 1)}
    for i, step in enumerate(branch):
        halve = block in _HALVING and i == len(branch) - 1
        run = lambda name, x, halve=halve: _layer(weights, f"{block}.{name}", x, stride=1 + halve, same=not halve)
        if isinstance(step, tuple):
            x = jnp.concatenate([run(name, x) for name in step], axis=-1)
        elif step in _POOLS:
            x = max_pool(x, 3, 2) if step == "reduce" else pools[step](x)
        else:
            x = run(step, x)
    return x


def _layer(weights: Weights, name: str, x: Array, *, stride: int = 1, same: bool = False) -> jax.Array:
    kernel, bias = weights[name]
    pad = ((kernel.shape[0] - 1) // 2, (kernel.shape[1] - 1) // 2) if same else (0, 0)
    return jax.nn.relu(convolve(x, kernel, bias, stride, pad))
