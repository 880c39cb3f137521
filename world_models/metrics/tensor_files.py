"""Weights of feature networks in local files: .safetensors or .npz, tensors alone, so that reading runs no code."""

import hashlib
import pathlib
from typing import NamedTuple

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


def folded(
    weight: np.ndarray, scale: np.ndarray, bias: np.ndarray, mean: np.ndarray, variance: np.ndarray, epsilon: float
) -> Layer:  # fmt: skip
    """A convolution in PyTorch's layout and a batch normalisation in evaluation mode as one; computed in float64."""
    factor = np.asarray(scale, np.float64) / np.sqrt(np.asarray(variance, np.float64) + epsilon)
    shift = np.asarray(bias, np.float64) - np.asarray(mean, np.float64) * factor
    weight = np.asarray(weight, np.float64)
    return Layer(kernel(weight * factor.reshape(-1, *(1,) * (weight.ndim - 1))), np.float32(shift))
