"""Reads the denoiser of DIAMOND's released checkpoints (github.com/eloialonso/diamond) into `VideoDiffusion`.

Every tensor of the denoiser corresponds to one array here: the same network, in another layout. The agent and the model
of rewards in the same file are left out.
"""

import pathlib
from typing import Any, NamedTuple

import numpy as np
from flax import nnx

from world_models.core.errors import UserError
from world_models.core.types import ActionSpec
from world_models.diffusion.edm import EDM
from world_models.models.video_diffusion.model import VideoDiffusion
from world_models.models.video_diffusion.options import VideoDiffusionOptions
from world_models.nn.embeddings import Constant
from world_models.nn.options import UNetOptions

SUFFIXES = (".pt", ".pth")
PREFIXES = ("denoiser.inner_model.", "inner_model.", "")  # of an agent, of its denoiser, of the network alone
SHOWN = 5  # tensors that an error names before it counts the rest
_OUTSIDE = {
    "noise_embedding": "noise_emb",
    "action_embedding": "act_emb.0",
    "condition_in": "cond_proj.0",
    "condition_out": "cond_proj.2",
    "conv_in": "conv_in",
    "norm_out": "norm_out.norm",
    "conv_out": "conv_out",
}
_BLOCKS = {"down": "d_blocks.{}.resblocks.{}", "up": "u_blocks.{}.resblocks.{}", "middle": "mid_blocks.resblocks.{}"}
_IN_BLOCK = {
    "skip": "proj",
    "norm1": "norm1.linear",
    "norm2": "norm2.linear",
    "conv1": "conv1",
    "conv2": "conv2",
    "norm": "attn.norm.norm",
    "qkv": "attn.qkv_proj",
    "out": "attn.out_proj",
}


class Imported(NamedTuple):
    """A denoiser that was read.

    Attributes:
      params, constants: of the model, pure `nnx.State`s of NumPy arrays.
      options: of the model that they fit.
      actions: of its action space.
      channels: of a frame.
      left_out: sentences about what was not read.
    """

    params: nnx.State
    constants: nnx.State
    options: VideoDiffusionOptions
    actions: ActionSpec
    channels: int
    left_out: list[str]


def read(file: str | pathlib.Path) -> Imported:
    """Reads a checkpoint that PyTorch wrote: a state dict of the agent, of its denoiser or of the network.

    Raises:
      UserError: if the file cannot be read, or holds no denoiser of this architecture.
    """
    file = pathlib.Path(file)
    everything = load_tensors(file)
    prefix = next((p for p in PREFIXES if f"{p}conv_in.weight" in everything), None)
    if prefix is None:
        raise UserError(f"{file} holds no denoiser of DIAMOND: there is no 'denoiser.inner_model.conv_in.weight'.")
    tensors = {name.removeprefix(prefix): x for name, x in everything.items() if name.startswith(prefix)}
    options, actions, channels = _described(file, tensors)
    make = lambda: VideoDiffusion(options, EDM(), (64, 64, channels), actions, rngs=nnx.Rngs(0))
    _, params, constants = nnx.split(nnx.eval_shape(make), nnx.Param, Constant)
    shapes = [dict(nnx.to_flat_state(nnx.as_pure(state))) for state in (params, constants)]
    names = {path: _name(path) for state in shapes for path in state}
    _check(file, tensors, {names[path]: _in_torch(path, x.shape) for state in shapes for path, x in state.items()})
    filled = [[(path, _ours(path, tensors[names[path]])) for path in state] for state in shapes]
    rest = sorted({name.split(".")[0] for name in everything if not name.startswith(prefix)})
    left_out = [f"{', '.join(rest)}: not part of the denoiser, left out"] if rest else []
    return Imported(*map(nnx.from_flat_state, filled), options, actions, channels, left_out)


def load_tensors(file: pathlib.Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict in a file that PyTorch wrote. Raises UserError if it cannot be read."""
    if not file.is_file():
        raise UserError(f"{file} is not there: name a file of PyTorch's, such as Breakout.pt.")
    try:
        import torch
    except ImportError as error:
        raise UserError(f"{file} is a file of PyTorch's: pip install torch to import it.") from error
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)  # tensors alone: the file cannot run code
        return {name: x.numpy() for name, x in found.items()}
    except Exception as error:  # PyTorch raises many kinds
        raise UserError(f"{file} is no state dict of PyTorch's that can be read ({type(error).__name__}).") from error


def _described(file: pathlib.Path, tensors: dict[str, np.ndarray]) -> tuple[VideoDiffusionOptions, ActionSpec, int]:
    """The model that shapes of tensors describe: its options, its actions and the channels of a frame."""
    try:
        number, width = tensors["act_emb.0.weight"].shape
        condition, channels = len(tensors["cond_proj.0.weight"]), len(tensors["conv_out.weight"])
        count = lambda pattern: next(i for i in range(100) if pattern.format(i) not in tensors)
        levels = count("unet.d_blocks.{}.resblocks.0.conv1.weight")
        widths = tuple(len(tensors[f"unet.d_blocks.{i}.resblocks.0.conv1.weight"]) for i in range(levels))
        network = UNetOptions(widths, count("unet.d_blocks.0.resblocks.{}.conv1.weight"))
        offsets = tuple(range(condition // width, 0, -1))
    except (KeyError, ValueError, ZeroDivisionError) as error:
        raise UserError(f"{file} holds no denoiser of DIAMOND's Atari models: {error}.") from error
    return (
        VideoDiffusionOptions(context_offsets=offsets, network=network, condition=condition),
        ActionSpec("discrete", number),
        channels,
    )


def _check(file: pathlib.Path, tensors: dict[str, np.ndarray], expected: dict[str, tuple[int, ...]]) -> None:
    groups = {
        "missing": [name for name in expected if name not in tensors],
        "unexpected": [name for name in tensors if name not in expected],
        "of another shape": [
            f"{name} {tensors[name].shape} instead of {shape}"
            for name, shape in expected.items()
            if name in tensors and tensors[name].shape != shape
        ],
    }
    said = [
        f"{len(names)} {what} ({'; '.join(names[:SHOWN])}{'; …' if len(names) > SHOWN else ''})"
        for what, names in groups.items()
        if names
    ]
    if said:
        raise UserError(f"{file} holds another denoiser than DIAMOND's for Atari: {', '.join(said)}.")


def _name(path: tuple[Any, ...]) -> str:
    """The name in the network's state dict of our array."""
    last = "bias" if path[-1] == "bias" else "weight"
    inner = path[1:] if path[0] == "net" else path
    if inner[0] in _OUTSIDE:
        return f"{_OUTSIDE[inner[0]]}.{last}"
    if inner[0] in ("shrink", "grow"):
        kind = "downsamples" if inner[0] == "shrink" else "upsamples"
        return f"unet.{kind}.{inner[1] + 1}.conv.{last}"
    indices = [key for key in inner[1:] if isinstance(key, int)]
    module = next(key for key in inner[1 + len(indices) :] if key != "attention")
    return f"unet.{_BLOCKS[inner[0]].format(*indices)}.{_IN_BLOCK[module]}.{last}"


def _is_pointwise(path: tuple[Any, ...]) -> bool:
    """Whether our linear map is a 1x1 convolution there."""
    return any(key in ("skip", "attention") for key in path)


def _in_torch(path: tuple[Any, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape there of our array."""
    if path[-1] == "frequencies":
        return (1, *shape)
    if path[-1] != "kernel":
        return shape
    turned = (shape[-1], shape[-2], *shape[:-2])
    return (*turned, 1, 1) if _is_pointwise(path) else turned


def _ours(path: tuple[Any, ...], tensor: np.ndarray) -> np.ndarray:
    """Our array of a tensor there."""
    if path[-1] == "frequencies":
        return tensor[0]
    if path[-1] != "kernel":
        return tensor
    tensor = tensor[:, :, 0, 0] if _is_pointwise(path) else tensor
    return np.ascontiguousarray(np.moveaxis(tensor, (0, 1), (-1, -2)))
