"""The peer's step of the benchmark `bert`. No JAX here."""

from typing import Any

import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertForPreTraining

from experiments.tools.benchmarks.bert_sizes import EPSILON, LENGTH, SIZES, rows
from experiments.tools.benchmarks.steps import Step
from experiments.tools.benchmarks.torch_step import DEVICE, training

IGNORED = -100  # label of a place that is not predicted


def make_steps(size: str, batch: int, dtype: str, compiled: bool, exchange: str) -> tuple[dict[str, Step], dict]:
    """The training step of Hugging Face's BERT, from our weights, and facts about it."""
    chosen, data = SIZES[size], rows(SIZES[size], batch)
    config = BertConfig(
        vocab_size=chosen.vocabulary,
        hidden_size=chosen.width,
        num_hidden_layers=chosen.depth,
        num_attention_heads=chosen.heads,
        intermediate_size=4 * chosen.width,
        max_position_embeddings=LENGTH,
        layer_norm_eps=EPSILON,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = BertForPreTraining(config)
    missing, unexpected = model.load_state_dict(load_file(exchange), strict=False)
    if unexpected or any(not name.startswith("cls.predictions.decoder") for name in missing):
        raise ValueError(f"Our weights do not fit Hugging Face's model: {missing} missing, {unexpected} unexpected.")
    model.tie_weights()
    model = model.to(DEVICE).train()
    tensor = lambda values: torch.from_numpy(values).long().to(DEVICE)
    labels = torch.full(data.tokens.shape, IGNORED).scatter_(
        1, *(torch.from_numpy(x).long() for x in (data.places, data.targets))
    )
    inputs: dict[str, Any] = {
        "input_ids": tensor(data.tokens),
        "token_type_ids": tensor(data.types),
        "labels": labels.to(DEVICE),
        "next_sentence_label": tensor(data.labels),
    }
    with torch.no_grad():
        first = float(model(**inputs).loss)
    forward = torch.compile(model) if compiled else model
    step, parameters = training(model, lambda: forward(**inputs).loss, dtype)
    return {"torch": step}, {"parameters": parameters, "first_loss": first, "version": torch.__version__}
