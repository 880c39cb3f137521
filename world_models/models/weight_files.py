"""Weights in safetensors files with other names and shapes than ours: parts of our arrays, and what does not fit."""

import json
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from world_models.core.errors import UserError

WEIGHTS, CONFIG = "model.safetensors", "config.json"
SHOWN = 5  # tensors that an error names before it counts the rest


class Tensor(NamedTuple):
    """A tensor of a file, which is a part of one of our arrays.

    Attributes:
      name: in the file.
      path: of our array.
      index: of the part in our array.
      factors: shape that the part is given.
      order: of those axes in the file.
    """

    name: str
    path: tuple[str, ...]
    index: tuple
    factors: tuple[int, ...]
    order: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape in the file."""
        return tuple(self.factors[axis] for axis in self.order)

    def take(self, array: np.ndarray) -> np.ndarray:
        """The tensor, out of our array."""
        return np.ascontiguousarray(array[self.index].reshape(self.factors).transpose(self.order))

    def put(self, array: np.ndarray, tensor: np.ndarray) -> None:
        """The inverse of `take`: writes the tensor into our array."""
        array[self.index] = tensor.transpose(np.argsort(self.order)).reshape(array[self.index].shape)


def plain(name: str, path: tuple[str, ...], index: tuple, shape: tuple[int, ...], inputs: int = -1) -> Tensor:
    """Weight or bias of a linear map or a norm; the first `inputs` axes of a kernel are its input."""
    if path[-1] == "kernel":
        factors = (int(np.prod(shape[:inputs])), int(np.prod(shape[inputs:])))
        return Tensor(f"{name}.weight", path, index, factors, (1, 0))
    return Tensor(f"{name}.{'weight' if path[-1] == 'scale' else path[-1]}", path, index, shape, (0,))


def leaves(model: nnx.Module) -> list[tuple[tuple[str, ...], Any]]:
    """Paths and values of the model's parameters."""
    return list(nnx.to_flat_state(nnx.as_pure(nnx.state(model, nnx.Param))))


def filled(model: nnx.Module, tensors: dict[str, np.ndarray], expected: list[Tensor]) -> nnx.State:
    """All parameters of a model, pure and placed like its own: those expected from tensors, the others as they are."""
    arrays, new = dict(leaves(model)), {}
    for tensor in expected:
        array = new.setdefault(tensor.path, np.zeros(arrays[tensor.path].shape, np.float32))
        tensor.put(array, tensors[tensor.name])
    for key, array in new.items():
        arrays[key] = jax.device_put(array, getattr(arrays[key], "sharding", None))
    return nnx.from_flat_state(list(arrays.items()))


def write_folder(folder: pathlib.Path, tensors: dict[str, np.ndarray], files: dict[str, str]) -> None:
    """Writes tensors as model.safetensors and other files, by name, to a new folder, which appears when it is whole.

    Raises:
      UserError: if the folder is there already.
    """
    if folder.exists():
        raise UserError(f"{folder} is there already: name a new folder for the weights.")
    library = safetensors()
    partial = folder.with_name(f"{folder.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (partial / name).write_text(content)
    library.save_file(tensors, partial / WEIGHTS, metadata={"format": "pt"})
    partial.rename(folder)


def check_tensors(file: pathlib.Path, tensors: dict[str, np.ndarray], expected: dict[str, tuple[int, ...]]) -> None:
    """Raises UserError if a file's tensors have other names or shapes than those expected."""
    both = [name for name in expected if name in tensors]
    differ = [
        f"{name} is {tensors[name].shape} there, {expected[name]} here"
        for name in both
        if tensors[name].shape != expected[name]
    ]
    groups = {
        "of another shape": differ,
        "missing": [name for name in expected if name not in tensors],
        "unexpected": [name for name in tensors if name not in expected],
    }
    said = [
        f"{len(names)} {what} ({'; '.join(names[:SHOWN])}{'; …' if len(names) > SHOWN else ''})"
        for what, names in groups.items()
        if names
    ]
    if said:
        raise UserError(f"{file} does not fit this model, of {len(expected)} tensors: {', '.join(said)}.")


def load_file(file: pathlib.Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file by name. Raises UserError if there is none, or it cannot be read."""
    library = safetensors()
    if not file.is_file():
        raise UserError(f"{file} is not there: name a safetensors file, or a folder that holds {WEIGHTS}.")
    try:
        return library.load_file(file)
    except Exception as error:  # the library raises its own kinds, for damaged files and others
        raise UserError(f"{file} is no safetensors file that can be read ({error}).") from error


def safetensors() -> Any:
    """The library's NumPy part. Raises UserError if it is not installed."""
    try:
        import safetensors.numpy as library
    except ImportError as error:
        raise UserError(
            "Weights in Hugging Face's layout need the package safetensors: pip install -e '.[huggingface]'."
        ) from error
    return library


def read_config(path: pathlib.Path) -> dict[str, Any]:
    """The content of a config.json. Raises UserError if it cannot be read."""
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError, OSError) as error:
        raise UserError(f"{path} is no config of a model ({error}).") from error
