"""The peers' training steps of the benchmark `video`, in plain PyTorch. No JAX here."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from experiments.tools.benchmarks.steps import Step
from experiments.tools.benchmarks.torch_step import DEVICE, training
from experiments.tools.benchmarks.video_peers import Diamond, Transformer
from experiments.tools.benchmarks.video_sizes import SIZES, Size, clips
from world_models.core.errors import UserError


def make_steps(
    size: str, batch: int, dtype: str, compiled: bool, exchange: str
) -> tuple[dict[str, Step], dict[str, Any]]:
    """The step "torch" of a model with our weights, and facts: how far its outputs are from ours in float32, too."""
    torch.manual_seed(0)
    chosen = SIZES[size]
    with np.load(exchange) as file:
        arrays = dict(file)
    if chosen.transformer:
        model = Transformer(chosen.model, chosen.image, chosen.clip, chosen.actions)
    else:
        model = Diamond(chosen.model, chosen.actions)
    copy_weights(model, {name.removeprefix("model."): x for name, x in arrays.items() if name.startswith("model.")})
    model = model.to(DEVICE)
    apart = difference(chosen, model, arrays)
    if DEVICE == "cuda":
        model = model.to(memory_format=torch.channels_last)
    torch.set_float32_matmul_precision("high")  # as XLA has it
    torch.backends.cudnn.allow_tf32 = True
    frames, actions = (torch.from_numpy(x).to(DEVICE) for x in clips(chosen, batch))
    forward = torch.compile(model) if compiled else model
    loss = transformer_loss if chosen.transformer else unet_loss
    step, parameters = training(model, lambda: loss(chosen, forward, frames, actions), dtype)
    return {"torch": step}, {"parameters": parameters, "version": torch.__version__, "difference": apart}


def copy_weights(model: torch.nn.Module, arrays: Mapping[str, np.ndarray]) -> None:
    """Copies our arrays, by dotted name, into a model.

    Raises:
      UserError: if one is missing or left over.
    """
    copied, used = {}, set()
    for name, tensor in model.state_dict().items():
        ours, index = _our_name(name)
        names = [ours, *(re.sub("weight$", last, ours) for last in ("kernel", "scale", "embedding"))]
        found = next((known for known in names if known in arrays), None)
        if found is None:
            raise UserError(f"The peer's parameter {name!r} has no counterpart.")
        used.add(found)
        array = arrays[found][index]
        if found.endswith(".kernel"):
            outputs, inputs, *window = tensor.shape
            wide = array.ndim == 4 and window == [3, 3]
            array = array.transpose(3, 2, 0, 1) if wide else array.reshape(inputs, outputs).T
        copied[name] = torch.from_numpy(np.ascontiguousarray(array).reshape(tensor.shape))
    if set(arrays) - used:
        raise UserError(f"The peer has nothing like {sorted(set(arrays) - used)}.")
    model.load_state_dict(copied)


def _our_name(name: str) -> tuple[str, tuple[int, ...]]:
    """(our dotted name, index in its stack of layers) of a parameter of a peer."""
    inner = re.fullmatch(r"groups\.(\d+)\.space\.(\d+)\.(.*)", name)
    if inner:
        return f"transformer.groups.space.blocks.{inner[3]}", (int(inner[1]), int(inner[2]))
    outer = re.fullmatch(r"groups\.(\d+)\.(time\..*)", name)
    return (f"transformer.groups.{outer[2]}", (int(outer[1]),)) if outer else (name, ())


@torch.no_grad()
def difference(size: Size, model: torch.nn.Module, arrays: Mapping[str, np.ndarray]) -> float:
    """The largest difference of the outputs from ours, over the largest of ours (or 1), in float32."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    inputs = {name.removeprefix("input."): x for name, x in arrays.items() if name.startswith("input.")}
    inputs = {name: torch.from_numpy(x).to(DEVICE) for name, x in inputs.items()}
    if size.transformer:
        output = model(**inputs) * size.process.data_std
    else:
        inputs |= {name: inputs[name].movedim(-1, -3) for name in ("scaled", "context")}
        output = model(**inputs).movedim(-3, -1)
    ours = arrays["output"]
    return float(np.max(np.abs(output.cpu().numpy() - ours)) / max(1.0, np.max(np.abs(ours))))


def transformer_loss(size: Size, model: torch.nn.Module, frames: Tensor, actions: Tensor) -> Tensor:
    """Flow matching with a noise level per frame and clean predictions, every frame weighted alike."""
    batch, time, side, patch = *frames.shape[:2], size.image // size.model.patch, size.model.patch
    cut = frames.reshape(batch, time, side, patch, side, patch, 3).transpose(3, 4)
    clean = (cut.reshape(batch, time, side**2, -1).float() / 127.5 - 1) / size.process.data_std
    level = torch.rand(batch, time, device=DEVICE)
    wide = level[..., None, None]
    noisy = wide * clean + (1 - wide) * torch.randn_like(clean)
    return functional.mse_loss(model(noisy, level, actions[:, :-1]).float(), clean)


def unet_loss(size: Size, model: torch.nn.Module, frames: Tensor, actions: Tensor) -> Tensor:
    """EDM with offset noise; from the second predicted frame on, the context ends with the model's own frames."""
    options, length = size.process, size.model.context_frames
    frames = frames.movedim(-1, -3).contiguous().float() / 127.5 - 1
    context, losses = frames[:, :length], []
    for step in range(frames.shape[1] - length):
        clean = frames[:, step + length]
        sigma = torch.randn(len(clean), device=DEVICE).mul(options.sigma_std).add(options.sigma_mean).exp()
        sigma = sigma.clamp(options.sigma_low, options.sigma_high)[:, None, None, None]
        shared = options.offset_noise * torch.randn(*clean.shape[:2], 1, 1, device=DEVICE)
        noisy = clean + sigma * torch.randn_like(clean) + shared
        variance = sigma**2 + options.offset_noise**2
        total = variance + options.sigma_data**2
        c_skip = options.sigma_data**2 / total
        c_out = (variance * c_skip).sqrt()
        level = variance.log().flatten() / 8
        output = model(noisy / total.sqrt(), level, context, actions[:, step : step + length]).float()
        losses.append(functional.mse_loss(output, (clean - c_skip * noisy) / c_out))
        denoised = (c_skip * noisy + c_out * output).detach()
        denoised = denoised.add(1).mul(127.5).clamp(0, 255).round().div(127.5).sub(1)
        context = torch.cat([context[:, 1:], denoised[:, None]], dim=1)
    return torch.stack(losses).mean()
