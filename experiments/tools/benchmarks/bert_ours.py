"""Our steps of the benchmark `bert`."""

import jax
import numpy as np
from flax import nnx
from safetensors.numpy import save_file

from experiments.runs import runtime
from experiments.tools.benchmarks.bert_sizes import EPSILON, LENGTH, SIZES, Rows, rows
from experiments.tools.benchmarks.jax_step import ceiling, training
from experiments.tools.benchmarks.steps import Step
from world_models.core.types import SentenceBatch
from world_models.models.language import hugging_face
from world_models.models.language.masking import Masked
from world_models.models.language.model import LanguageModel
from world_models.models.language.options import LanguageOptions
from world_models.nn.options import ComputeOptions, TransformerOptions


def make_steps(size: str, batch: int, dtype: str, unroll: bool, exchange: str) -> tuple[dict[str, Step], dict]:
    """Our steps, each of which makes one update and returns the loss, and facts about them.

    - "ours": a training step, which computes logits at the places that are predicted.
    - "everywhere": the same with logits at every place, as Hugging Face's model has them.

    Writes the initial weights to the file `exchange`, in Hugging Face's layout.
    """
    runtime.setup()
    chosen, data = SIZES[size], rows(SIZES[size], batch)
    compute = ComputeOptions(unroll=-1 if unroll else 1)
    network = TransformerOptions(chosen.width, chosen.depth, chosen.heads, compute=compute)
    options = LanguageOptions(network, positions=LENGTH, post_norm=True, norm_epsilon=EPSILON, dtype=dtype)
    make = lambda: nnx.jit(lambda: LanguageModel(options, chosen.vocabulary, rngs=nnx.Rngs(0)))()
    model = make()
    save_file(hugging_face.to_tensors(nnx.state(model, nnx.Param), model), exchange)
    first = float(jax.jit(_loss)(model, _few(data), 0))
    whole, flops, parameters = training(model, _loss, _few(data))
    everywhere, all_flops, _ = training(make(), _loss, _everywhere(data))
    facts = {
        "parameters": parameters,
        "first_loss": first,
        "flops": flops,
        "everywhere_flops": all_flops,
        "device": jax.devices()[0].device_kind,
    }
    return {"ours": whole, "everywhere": everywhere, "ceiling": ceiling(dtype)}, facts


def _loss(model: LanguageModel, data: tuple[SentenceBatch, Masked], count: jax.Array) -> jax.Array:
    return model.loss(*data)[0]


def _few(data: Rows) -> tuple[SentenceBatch, Masked]:
    ones = np.ones_like(data.tokens)
    batch = SentenceBatch(data.tokens, ones, ones.cumsum(axis=1, dtype=np.int32) - 1, data.types, data.labels)
    return batch, Masked(data.tokens, data.places, data.targets, np.ones(data.places.shape, np.float32))


def _everywhere(data: Rows) -> tuple[SentenceBatch, Masked]:
    batch, few = _few(data)
    targets, weights = np.zeros_like(data.tokens), np.zeros(data.tokens.shape, np.float32)
    np.put_along_axis(targets, few.places, few.targets, axis=1)
    np.put_along_axis(weights, few.places, few.weights, axis=1)
    return batch, Masked(few.tokens, batch.positions, targets, weights)
