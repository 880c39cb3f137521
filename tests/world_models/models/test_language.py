"""Masked language models: which tokens are masked, what is computed of a row, and baselines that count words."""

import dataclasses
import math

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from world_models.core.types import SentenceBatch
from world_models.data.sentences import empty, encoded, put
from world_models.data.wordpiece import SPECIAL, WordPieceTokenizer
from world_models.models.language.masking import mask_tokens, num_predictions
from world_models.models.language.model import LanguageModel, SentenceClassifier, mean_features
from world_models.models.language.ngrams import NGrams
from world_models.models.language.options import LanguageOptions, MaskOptions
from world_models.nn.options import TransformerOptions

LETTERS = WordPieceTokenizer([*SPECIAL, *"abcdefghijklmnopqrstuvwxyz"])
SIZE, LENGTH = LETTERS.vocabulary_size, 40
OPTIONS = LanguageOptions(TransformerOptions(16, 2, 2), LENGTH)


def rows(lengths):
    """Rows of random letters, with so many tokens, special ones included."""
    rng = np.random.default_rng(0)
    return encoded([rng.integers(5, SIZE, n - 2) for n in lengths], LETTERS, LENGTH)


def masked(batch, options=OPTIONS.mask, seed=0):
    keys = jax.random.split(jax.random.key(seed), len(batch.tokens))
    made = jax.jit(lambda keys, batch: mask_tokens(keys, batch, options, LETTERS.special, SIZE))(keys, batch)
    return jax.tree.map(np.asarray, made)


def test_fifteen_percent_are_predicted_and_never_special_tokens():
    lengths = [40, 40, 20, 13, 4, 3]
    batch = rows(lengths)
    made = masked(batch)
    assert made.places.shape[1] == num_predictions(LENGTH, 0.15) == 6
    assert made.weights.sum(axis=1).tolist() == [6, 6, 3, 2, 1, 1]
    for row in range(len(lengths)):
        counted = made.weights[row] > 0
        places = made.places[row][counted]
        assert len(set(places)) == len(places)
        assert (made.targets[row][counted] == batch.tokens[row, places]).all()
        assert (batch.tokens[row, places] >= 5).all()
        rest = np.delete(np.arange(LENGTH), places)
        np.testing.assert_array_equal(made.tokens[row, rest], batch.tokens[row, rest])


def test_a_row_without_words_predicts_nothing():
    assert masked(rows([2, 5])).weights.sum(axis=1).tolist() == [0, 1]


def test_eight_in_ten_are_masked_and_one_is_random():
    batch = rows([LENGTH] * 400)
    made = masked(batch)
    seen = np.take_along_axis(made.tokens, made.places, axis=1)
    is_mask, kept = seen == LETTERS.special.mask, seen == made.targets
    count = seen.size
    assert abs(is_mask.mean() - (0.8 + 0.1 / SIZE)) < 3 * np.sqrt(0.16 / count)
    assert abs(kept.mean() - (0.1 + 0.1 / SIZE)) < 3 * np.sqrt(0.09 / count)
    random = seen[~is_mask & ~kept]
    assert len(np.unique(random)) > 0.8 * SIZE
    assert random.min() < 5  # special tokens are drawn too, as in the published code
    places = np.bincount(made.places.ravel(), minlength=LENGTH)
    assert places[0] == places[-1] == 0
    assert places[1:-1].min() > 0.5 * count / LENGTH
    assert (masked(batch, seed=1).places != made.places).mean() > 0.5
    everything = masked(batch, MaskOptions(masked=1.0, random=0.0))
    assert (np.take_along_axis(everything.tokens, everything.places, axis=1) == LETTERS.special.mask).all()


@jax.jit
def encode(model, batch):
    """Features of the tokens, and their means by row."""
    return model.encoder(batch), mean_features(model.encoder, batch)


@pytest.fixture(scope="module")
def model():
    return nnx.jit(lambda: LanguageModel(OPTIONS, SIZE, rngs=nnx.Rngs(0)))()


def test_a_packed_row_has_the_features_of_its_sequences_alone(model):
    one, two = LETTERS.encode("a b c d"), LETTERS.encode("e f g")
    row = empty(1, LENGTH)
    put(row, 0, put(row, 0, 0, 1, [one], LETTERS), 2, [two], LETTERS)
    alone = encoded([one, two], LETTERS, LENGTH)
    together = SentenceBatch(*(np.concatenate(pair) for pair in zip(row, alone)))
    features, means = jax.tree.map(np.asarray, encode(model, together))
    np.testing.assert_allclose(features[0, :6], features[1, :6], atol=1e-5)
    np.testing.assert_allclose(features[0, 6:11], features[2, :5], atol=1e-5)
    np.testing.assert_allclose(means[1], features[1, :6].mean(axis=0), atol=1e-5)


def test_the_loss_is_the_mean_over_what_counts(model):
    batch = rows([30, 12])._replace(labels=np.array([1, -1], np.int32))
    made = masked(batch)
    loss, metrics = jax.jit(lambda model, batch, made: model.loss(batch, made))(model, batch, made)
    padded = jax.tree.map(lambda x: np.concatenate([x, x[:1]]), batch._replace(tokens=made.tokens))  # one program
    features = np.asarray(encode(model, padded)[0])
    p = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    linear = lambda own, x: x @ own["kernel"] + own["bias"]
    losses = []
    for row, column in np.argwhere(made.weights > 0):
        x = linear(p["masked_head"]["linear"], features[row, made.places[row, column]])
        x = x * 0.5 * (1 + np.array([math.erf(value / math.sqrt(2)) for value in x]))
        x = (x - x.mean()) / np.sqrt(x.var() + 1e-6)
        logits = p["encoder"]["tokens"]["embedding"] @ x + p["masked_head"]["bias"]
        losses.append(np.log(np.exp(logits).sum()) - logits[made.targets[row, column]])
    pair = linear(p["pair_head"], np.tanh(linear(p["pooler"]["linear"], features[0, 0])))
    pair_loss = np.log(np.exp(pair).sum()) - pair[1]
    np.testing.assert_allclose(metrics["masked_loss"], np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(metrics["pair_loss"], pair_loss, rtol=1e-5)
    np.testing.assert_allclose(loss, np.mean(losses) + pair_loss, rtol=1e-5)


def test_heads_without_weight_are_not_built():
    for name, missing in (("masked", ("masked_head",)), ("pairs", ("pooler", "pair_head"))):
        options = dataclasses.replace(OPTIONS, **{name: 0.0})
        made = nnx.eval_shape(lambda options=options: LanguageModel(options, SIZE, rngs=nnx.Rngs(0)))
        assert [part for part in ("masked_head", "pooler", "pair_head") if getattr(made, part) is None] == list(missing)


def test_a_classifier_learns_what_a_letter_says():
    texts = [("a b c", 0), ("c b d", 1), ("b a c", 0), ("d c c", 1)]
    batch = encoded([LETTERS.encode(text) for text, _ in texts], LETTERS, 8)
    batch = batch._replace(labels=np.array([label for _, label in texts], np.int32))

    @jax.jit
    def learn():
        graphdef, params = nnx.split(SentenceClassifier(OPTIONS, SIZE, 2, rngs=nnx.Rngs(0)))
        params = nnx.as_pure(params)
        loss, adam = lambda params: nnx.merge(graphdef, params).loss(batch), optax.adam(1e-2)

        def step(carry, _):
            params, moments = carry
            gradients, metrics = jax.grad(loss, has_aux=True)(params)
            updates, moments = adam.update(gradients, moments)
            return (optax.apply_updates(params, updates), moments), metrics

        return jax.lax.scan(step, (params, adam.init(params)), length=60)[1]

    metrics = learn()
    assert float(metrics["loss"][0]) == pytest.approx(np.log(2), abs=0.1)
    assert float(metrics["accuracy"][-1]) == 1


def test_counts_of_neighbours_equal_brute_force():
    rng = np.random.default_rng(0)
    documents = [rng.integers(0, 6, n) for n in (40, 1, 25, 2)]
    counted, size = NGrams(documents, 8), 8
    flat = np.concatenate(documents)
    unigrams = (np.bincount(flat, minlength=size) + 1) / (len(flat) + size)

    def smoothed(counts, otherwise):
        kinds = (counts > 0).sum()
        return otherwise if not kinds else (counts + kinds * otherwise) / (counts.sum() + kinds)

    def expected(left, right):
        after, before, between = np.zeros(size), np.zeros(size), np.zeros(size)
        for own in documents:
            for i, token in enumerate(own):
                after[token] += i > 0 and own[i - 1] == left
                before[token] += i + 1 < len(own) and own[i + 1] == right
                between[token] += 0 < i < len(own) - 1 and own[i - 1] == left and own[i + 1] == right
        mixed = smoothed(after, unigrams) * smoothed(before, unigrams) / unigrams
        return smoothed(between, mixed / mixed.sum())

    left, right, targets = (rng.integers(0, size, 50) for _ in range(3))
    found, right_guess = counted.between(left, right, targets)
    for i in range(50):
        own = expected(left[i], right[i])
        assert own.sum() == pytest.approx(1)
        assert np.exp(found[i]) == pytest.approx(own[targets[i]])
        assert right_guess[i] == (own.argmax() == targets[i])
    np.testing.assert_allclose(np.exp(counted.unigrams(targets)[0]), unigrams[targets])
