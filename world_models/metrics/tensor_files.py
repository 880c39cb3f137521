"""Weights of feature networks in local files: .safetensors or .npz, tensors alone, so that reading runs no code."""

import hashlib
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from world_models.core.errors import UserError, config_error

SUFFIXES = (".safetensors", ".npz")
CONVERT = "python -m experiments.tools.weights tensors"


def read(file: str | pathlib.Path, field: str) -> dict[str, np.ndarray]:
    """The tensors of a file by name.

    Args:
      file: its path.
      field: of the config that names it, for errors.

    Raises:
      UserError: if there is no such file, it cannot be read, or the package safetensors is missing.
    """
    path = pathlib.Path(file)
    if not path.is_file() or path.suffix not in SUFFIXES:
        valid = f"name a file of weights, {' or '.join(SUFFIXES)}; {CONVERT} makes one of PyTorch's"
        raise config_error(field, str(file), valid)
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as found:
                return {name: found[name] for name in found.files}
        import safetensors.numpy

        return safetensors.numpy.load_file(path)
    except ImportError as error:
        raise UserError(f"{field}={str(file)!r} needs the package safetensors: pip install safetensors.") from error
    except Exception as error:  # both libraries raise several kinds for damaged files
        raise config_error(field, str(file), f"be a file that can be read ({type(error).__name__}: {error})") from error


def write(file: str | pathlib.Path, tensors: dict[str, np.ndarray]) -> None:
    """Writes tensors as .safetensors or .npz, by the file's name.

    Raises:
      UserError: for another kind of file.
    """
    path = pathlib.Path(file)
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path} must end in {' or '.join(SUFFIXES)}.")
    tensors = {name: np.ascontiguousarray(x) for name, x in tensors.items()}
    if path.suffix == ".npz":
        np.savez(path, **tensors)
    else:
        import safetensors.numpy

        safetensors.numpy.save_file(tensors, path)


def fingerprint(tensors: dict[str, np.ndarray]) -> str:
    """Twelve hexadecimal digits that tell weights apart: of SHA-256 over names, shapes, types and values."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        x = np.ascontiguousarray(tensors[name])
        digest.update(f"{name} {x.shape} {x.dtype}".encode() + x.tobytes())
    return digest.hexdigest()[:12]


def kernel(weight: np.ndarray) -> np.ndarray:
    """A convolution's weights from PyTorch's layout [out, in, *sides] to [*sides, in, out], float32."""
    order = (*range(2, np.ndim(weight)), 1, 0)
    return np.ascontiguousarray(np.asarray(weight, np.float32).transpose(order))


class Layer(NamedTuple):
    """A convolution with its batch normalisation folded in: kernel [*sides, in, out] and bias [out]."""

    kernel: np.ndarray
    bias: np.ndarray


Weights = dict[str, Layer]
_EPSILON = 1e-3  # of batch normalisations, of Inception-v3 and I3D
_NORM = ("bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")


def read_network(
    file: str | pathlib.Path,
    field: str,
    what: str,
    convolution: str,
    normed: Sequence[str],
    plain: Sequence[str],
    fits: Callable[[Weights], Any],
) -> Weights:
    """Reads a network of convolutions under the names of PyTorch's modules.

    Args:
      file: see `read`.
      field: of the config that names it, for errors.
      what: the network, for errors.
      convolution: the name of the convolution in a layer, such as "conv".
      normed: layers whose convolution has no bias, and a batch normalisation "bn" in evaluation mode.
      plain: layers of a convolution with a bias.
      fits: raises a ValueError or TypeError for layers that do not fit each other.

    Raises:
      UserError: if the file cannot be read or holds another network.
    """
    tensors = read(file, field)
    parts, biased = (f"{convolution}.weight", *_NORM), (f"{convolution}.weight", f"{convolution}.bias")
    wanted = {name: [f"{name}.{part}" for part in parts] for name in normed}
    wanted |= {name: [f"{name}.{part}" for part in biased] for name in plain}
    if missing := [one for names in wanted.values() for one in names if one not in tensors]:
        valid = f"hold {what}; {len(missing)} tensors are missing: {missing[0]} first"
        raise config_error(field, str(file), valid)
    try:
        made = {name: tuple(tensors[one] for one in names) for name, names in wanted.items()}
        weights = {name: folded(*made[name]) for name in normed}
        weights |= {name: Layer(kernel(made[name][0]), np.float32(made[name][1])) for name in plain}
        fits(weights)
    except (ValueError, TypeError) as error:
        valid = f"hold {what}, whose layers fit each other ({str(error).splitlines()[0]})"
        raise config_error(field, str(file), valid) from error
    return weights


def folded(weight: np.ndarray, scale: np.ndarray, bias: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> Layer:
    """A convolution in PyTorch's layout and a batch normalisation in evaluation mode as one; computed in float64."""
    factor = np.asarray(scale, np.float64) / np.sqrt(np.asarray(variance, np.float64) + _EPSILON)
    shift = np.asarray(bias, np.float64) - np.asarray(mean, np.float64) * factor
    weight = np.asarray(weight, np.float64)
    return Layer(kernel(weight * factor.reshape(-1, *(1,) * (weight.ndim - 1))), np.float32(shift))
