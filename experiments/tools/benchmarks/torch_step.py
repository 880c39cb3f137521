"""The training step of a peer in PyTorch. No JAX here."""

import contextlib
from collections.abc import Callable

import torch

from experiments.tools.benchmarks.steps import BETAS, LEARNING_RATE, WEIGHT_DECAY, Step

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def training(model: torch.nn.Module, loss_of: Callable[[], torch.Tensor], dtype: str) -> tuple[Step, int]:
    """(a training step that minimizes `loss_of()` with AdamW, in autocast if `dtype` is bfloat16; trained numbers)."""
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=LEARNING_RATE, betas=BETAS, weight_decay=WEIGHT_DECAY, fused=True)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        narrow = torch.autocast(DEVICE, torch.bfloat16) if dtype == "bfloat16" else contextlib.nullcontext()
        with narrow:
            loss = loss_of()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step, sum(parameter.numel() for parameter in learned)
