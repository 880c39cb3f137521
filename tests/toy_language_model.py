"""A family of language models outside the repository: a small causal transformer over characters."""

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from ml_collections import ConfigDict

from experiments.evaluation.options import EvalOptions
from experiments.families import base
from experiments.families.options import ExperimentConfig
from experiments.training.options import OptimizerOptions, RuntimeOptions, TrainOptions
from world_models.core.options import to_dict
from world_models.data.options import TextDataOptions
from world_models.nn.options import TransformerOptions
from world_models.nn.transformer import Transformer

WORDS = ("the", "model", "sees", "many", "words", "and", "learns", "what", "follows", "them")


class LanguageModel(nnx.Module):
    """Logits of the next token."""

    def __init__(self, vocabulary_size, length, *, rngs):
        self.embedding = nnx.Embed(vocabulary_size, 32, rngs=rngs)
        self.positions = nnx.Embed(length, 32, rngs=rngs)
        self.transformer = Transformer(TransformerOptions(32, 2, 2), causal=True, rngs=rngs)
        self.head = nnx.Linear(32, vocabulary_size, rngs=rngs)

    def __call__(self, tokens):
        x = self.embedding(tokens) + self.positions(jnp.arange(tokens.shape[1]))
        return self.head(self.transformer(x))


class Experiment(base.TextExperiment):
    """Cross-entropy of the next token, in nats."""

    def init(self, rngs):
        return LanguageModel(self.spec.vocabulary_size, self.spec.length, rngs=rngs)

    def loss(self, model, batch, keys):
        logits, mask = model(batch.tokens[:, :-1]), batch.mask[:, 1:]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.tokens[:, 1:])
        loss = jnp.sum(losses, where=mask) / jnp.sum(mask)
        return loss, {"loss": loss}


def write_text(path, *, shuffled=False):
    """Writes words in random order to `path`, or their characters in random order."""
    rng = np.random.default_rng(0)
    text = " ".join(rng.choice(WORDS, 5000))
    path.write_text("".join(rng.permutation(list(text))) if shuffled else text)
    return path


def get_config(text, num_steps=150, checkpoint_every=1000, **data):
    """A config that trains on the file `text`; `data` are further fields of `config.data`."""
    options = ExperimentConfig(
        experiment=__name__,
        data=TextDataOptions(dataset=str(text), text_length=32, **data),
        train=TrainOptions(
            batch_size=16,
            num_steps=num_steps,
            ema_decay=0.9,
            optimizer=OptimizerOptions(1e-2, "constant", 10, 0.0, b2=0.99, eps=1e-6),
        ),
        eval=EvalOptions(every=0),
        runtime=RuntimeOptions(log_every=1, checkpoint_every=checkpoint_every),
    )
    return ConfigDict(to_dict(options))
