"""What a language model predicts right of held-out texts, beside counts of words."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.evaluation.rollouts import held_out_rows
from world_models.core import sharding as parallel
from world_models.core.types import Array, SentenceBatch
from world_models.data.dataset import Dataset
from world_models.data.wordpiece import CONTINUED
from world_models.models.language.masking import Masked
from world_models.models.language.ngrams import NGrams


class Predicted:
    """Evaluator: masked tokens and pairs of fixed held-out rows, with fixed masks.

    All that is predicted is hidden: of the tokens that BERT leaves as they are in training, copies are right.
    Bits per character count the characters of the masked pieces, with a space before each word: other vocabularies can
    be compared. The baselines predict the same pieces from the same rows; they know the neighbours alone.
    """

    def __init__(
        self, experiment: Any, held_out: Dataset, training: Dataset | None, batch: int, count: int, seed: int
    ):  # fmt: skip
        """`training`, where it is not None, is what the baselines are counted in."""
        self._experiment, self._data, self._batch, self._seed = experiment, held_out, batch, seed
        self._rows = held_out_rows(held_out, count)
        self._ngrams = None
        if training is not None:
            documents = [own for part in training.parts for own in part.tokens]
            self._ngrams = NGrams(documents, held_out.spec.vocabulary_size)
        pieces = held_out.spec.tokenizer["vocabulary"]
        self._characters = np.array(
            [len(p) - len(CONTINUED) if p.startswith(CONTINUED) else len(p) + 1 for p in pieces]
        )

    def __call__(self, model: nnx.Module) -> dict[str, float]:
        """Measures a model."""
        made = list(self._predictions(model))
        found: dict[str, float] = {}
        if made[0].pair is not None:
            labels = np.concatenate([one.labels for one in made])
            found["pair_accuracy"] = float(np.mean(np.concatenate([one.pair for one in made])[labels >= 0]))
            found["pair_majority"] = float(np.bincount(labels[labels >= 0]).max() / np.sum(labels >= 0))
        if made[0].log_probability is None:
            return found
        join = lambda name: np.concatenate([getattr(one, name)[one.masked.weights > 0] for one in made])
        targets = np.concatenate([one.masked.targets[one.masked.weights > 0] for one in made])
        found |= self._measured("", join("log_probability"), join("right"), targets)
        if self._ngrams is not None:
            left, right = (np.concatenate(x) for x in zip(*(_neighbours(one.masked) for one in made)))
            found |= self._measured("unigram_", *self._ngrams.unigrams(targets), targets)
            found |= self._measured("trigram_", *self._ngrams.between(left, right, targets), targets)
        return found

    def _measured(
        self, name: str, log_probability: np.ndarray, right: np.ndarray, targets: np.ndarray
    ) -> dict[str, float]:
        bits = -float(log_probability.sum()) / np.log(2) / self._characters[targets].sum()
        return {f"{name}bits_per_character": bits, f"{name}masked_accuracy": float(right.mean())}

    def _predictions(self, model: nnx.Module) -> Iterator["_Prediction"]:
        for begin in range(0, len(self._rows), self._batch):
            rows = self._rows[begin : begin + self._batch]
            count = len(rows)
            filled = np.concatenate([rows, np.repeat(rows[:1], self._batch - count)])  # one shape, one compilation
            batch = self._data.load(filled)
            inputs = parallel.place_beside(model, (batch, filled))
            made = _predict(self._experiment, model, *inputs, self._seed)
            made = (batch.labels, *jax.tree.map(parallel.on_host, made))
            yield _Prediction(*jax.tree.map(lambda x, count=count: x[:count], made))


class _Prediction:
    """Of a batch: labels, the masks, log-probabilities of the true tokens, which guesses are right, which pairs."""

    def __init__(self, labels: Array, masked: Masked, log_probability: Any, right: Any, pair: Any):
        self.labels, self.masked, self.log_probability, self.right, self.pair = (
            labels, masked, log_probability, right, pair,
        )  # fmt: skip


@functools.partial(jax.jit, static_argnames="experiment")
def _predict(experiment: Any, model: nnx.Module, batch: SentenceBatch, rows: Array, seed: int) -> tuple:
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), rows)
    masked = experiment.mask(batch, keys, hidden=True)
    features = model.encoder(batch._replace(tokens=masked.tokens))
    log_probability = right = pair = None
    if model.masked_head is not None:
        logits = jax.nn.log_softmax(model.logits(features, masked.places))
        log_probability = jnp.take_along_axis(logits, masked.targets[..., None], axis=-1)[..., 0]
        right = jnp.argmax(logits, axis=-1) == masked.targets
    if model.pair_head is not None:
        pair = jnp.argmax(model.pair_logits(features), axis=-1) == batch.labels
    return masked, log_probability, right, pair


def _neighbours(masked: Masked) -> tuple[np.ndarray, np.ndarray]:
    """The tokens seen to the left and right of every place that counts."""
    row, column = np.nonzero(masked.weights > 0)
    place = masked.places[row, column]
    length = masked.tokens.shape[1]
    return masked.tokens[row, place - 1], masked.tokens[row, np.minimum(place + 1, length - 1)]


class Classified:
    """Evaluator: accuracy of a classifier on all held-out texts, beside the most frequent class."""

    def __init__(self, held_out: Dataset, batch: int):
        """Takes `batch` texts at a time."""
        self._data, self._batch = held_out, batch

    def __call__(self, model: nnx.Module) -> dict[str, float]:
        """Measures a classifier."""
        right, labels = [], []
        for begin in range(0, len(self._data), self._batch):
            rows = np.arange(begin, min(begin + self._batch, len(self._data)))
            batch = self._data.load(np.concatenate([rows, np.repeat(rows[:1], self._batch - len(rows))]))
            made = parallel.on_host(_classify(model, parallel.place_beside(model, batch)))
            right.append((made == batch.labels)[: len(rows)])
            labels.append(batch.labels[: len(rows)])
        counts = np.bincount(np.concatenate(labels))
        return {"accuracy": float(np.mean(np.concatenate(right))), "majority": float(counts.max() / counts.sum())}


@jax.jit
def _classify(model: nnx.Module, batch: SentenceBatch) -> jax.Array:
    return jnp.argmax(model(batch), axis=-1)
