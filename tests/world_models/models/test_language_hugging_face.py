"""BERT's weights in Hugging Face's layout: the same losses and gradients as its models, and files that do not fit."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from world_models.core.errors import ConfigError, UserError
from world_models.core.types import SentenceBatch
from world_models.data.sentences import encoded
from world_models.data.sources import packages
from world_models.data.wordpiece import SPECIAL, WordPieceTokenizer, read_vocabulary
from world_models.models.language import hugging_face
from world_models.models.language.masking import Masked
from world_models.models.language.model import LanguageModel, SentenceClassifier, mean_features
from world_models.models.language.options import LanguageOptions
from world_models.nn.options import TransformerOptions

safetensors = pytest.importorskip("safetensors.numpy", reason="pip install -e '.[huggingface]' to test weight files")
REASON = "pip install torch transformers to compare with Hugging Face's models"
LENGTH, VOCABULARY = 24, 61
SIZES = [(32, 2, 4), (48, 3, 2), (64, 1, 8)]  # width, depth, heads
CLASSES = 3


def options_of(size):
    return LanguageOptions(TransformerOptions(*size), LENGTH, post_norm=True, norm_epsilon=1e-12)


def build(kind, size=SIZES[0]):
    """A model all of whose parameters are noise, so that none can be taken for another."""
    options = options_of(size)
    if kind == "pretraining":
        make = lambda: LanguageModel(options, VOCABULARY, rngs=nnx.Rngs(0))
    else:
        make = lambda: SentenceClassifier(options, VOCABULARY, CLASSES, rngs=nnx.Rngs(0))
    model = nnx.eval_shape(make)
    rng = np.random.default_rng(0)
    noise = lambda x: jnp.asarray(rng.normal(0, 0.2, x.shape).astype(np.float32))
    nnx.update(model, jax.tree.map(noise, nnx.as_pure(nnx.state(model, nnx.Param))))
    return model


def peer(kind, model):
    """Hugging Face's model with the same weights."""
    torch = pytest.importorskip("torch", reason=REASON)
    transformers = pytest.importorskip("transformers", reason=REASON)
    config = transformers.BertConfig(vocab_size=VOCABULARY, num_labels=CLASSES, **hugging_face._make_config(model))
    family = {"pretraining": "BertForPreTraining", "classification": "BertForSequenceClassification"}[kind]
    theirs = getattr(transformers, family)(config).eval()
    tensors = hugging_face.to_tensors(nnx.state(model, nnx.Param), model)
    missing, unexpected = theirs.load_state_dict({k: torch.from_numpy(v) for k, v in tensors.items()}, strict=False)
    assert not unexpected
    assert set(missing) <= {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
    return theirs


def inputs():
    """Rows of different lengths with both types, and predictions of which some do not count."""
    rng = np.random.default_rng(1)
    lengths = np.array([LENGTH, 9, 17])
    tokens = rng.integers(5, VOCABULARY, (3, LENGTH)).astype(np.int32)
    filled = np.arange(LENGTH) < lengths[:, None]
    types = (np.arange(LENGTH) >= lengths[:, None] // 2).astype(np.int32)
    positions = np.tile(np.arange(LENGTH, dtype=np.int32), (3, 1))
    batch = SentenceBatch(tokens * filled, filled.astype(np.int32), positions, types * filled, np.array([1, 0, 1]))
    places = np.stack([rng.permutation(n)[:4] for n in lengths])
    targets = rng.integers(0, VOCABULARY, (3, 4))
    return batch, Masked(
        batch.tokens, places, targets, np.array([[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 1, 0]], np.float32)
    )


def their_loss(kind, theirs, batch, masked):
    torch = pytest.importorskip("torch", reason=REASON)
    tensor = lambda x: torch.from_numpy(np.asarray(x).astype(np.int64))
    given = {
        "input_ids": tensor(batch.tokens),
        "attention_mask": tensor(batch.blocks),
        "token_type_ids": tensor(batch.types),
    }
    if kind == "classification":
        return theirs(**given, labels=tensor(batch.labels)).loss
    labels = np.full(batch.tokens.shape, -100)
    for row, (places, targets, weights) in enumerate(zip(masked.places, masked.targets, masked.weights)):
        labels[row, places[weights > 0]] = targets[weights > 0]
    return theirs(**given, labels=tensor(labels), next_sentence_label=tensor(batch.labels)).loss


def our_loss(kind, model, batch, masked):
    return model.loss(batch)[0] if kind == "classification" else model.loss(batch, masked)[0]


CASES = [*(("pretraining", size) for size in SIZES), ("classification", SIZES[0])]


@pytest.mark.parametrize(("kind", "size"), CASES, ids=str)
def test_loss_and_every_gradient_are_those_of_hugging_face(kind, size):
    model = build(kind, size)
    theirs, (batch, masked) = peer(kind, model), inputs()
    expected = their_loss(kind, theirs, batch, masked)
    expected.backward()
    loss, gradients = nnx.jit(nnx.value_and_grad(lambda model: our_loss(kind, model, batch, masked)))(model)
    np.testing.assert_allclose(float(loss), float(expected.detach()), rtol=1e-5)
    ours = hugging_face.to_tensors(gradients, model)
    found = {name: x.grad.numpy() for name, x in theirs.named_parameters()}
    assert set(ours) == set(found)
    for name, own in ours.items():
        scale = max(np.abs(found[name]).max(), 1e-3)  # a key's bias has no effect, and no gradient but rounding
        np.testing.assert_allclose(own / scale, found[name] / scale, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("kind", ["pretraining", "classification"])
def test_written_weights_open_in_transformers_and_come_back(kind, tmp_path):
    transformers = pytest.importorskip("transformers", reason=REASON)
    model, (batch, masked) = build(kind), inputs()
    tokenizer = WordPieceTokenizer([*SPECIAL, *(f"w{i}" for i in range(VOCABULARY - len(SPECIAL)))])
    hugging_face.write(model, tokenizer, tmp_path / "out")
    family = {"pretraining": "BertForPreTraining", "classification": "BertForSequenceClassification"}[kind]
    theirs, said = getattr(transformers, family).from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not said["missing_keys"]
    assert not said["unexpected_keys"]
    expected = float(their_loss(kind, theirs.eval(), batch, masked).detach())
    ours = jax.jit(lambda model: our_loss(kind, model, batch, masked))(model)
    assert float(ours) == pytest.approx(expected, rel=1e-5)
    assert read_vocabulary(tmp_path / "out").vocabulary == tokenizer.vocabulary
    assert hugging_face.described(tmp_path / "out") == (model.options, VOCABULARY)
    theirs.save_pretrained(tmp_path / "theirs")  # under the names of this version
    for folder in ("out", "theirs"):
        found = hugging_face.read(tmp_path / folder, nnx.eval_shape(lambda: build(kind)))
        assert found.left_out == []
        for a, b in zip(jax.tree.leaves(found.params), jax.tree.leaves(nnx.as_pure(nnx.state(model, nnx.Param)))):
            np.testing.assert_array_equal(a, b)
    with pytest.raises(UserError, match="is there already"):
        hugging_face.write(model, tokenizer, tmp_path / "out")


def write_files(folder, model, **changes):
    tensors = hugging_face.to_tensors(nnx.state(model, nnx.Param), model)
    folder.mkdir()
    safetensors.save_file(tensors, folder / "model.safetensors")
    config = hugging_face._make_config(model) | {"vocab_size": VOCABULARY} | changes
    (folder / "config.json").write_text(json.dumps(config))
    return tensors


def test_an_encoder_alone_leaves_the_heads_as_they_are(tmp_path):
    model = build("classification")
    tensors = write_files(tmp_path / "whole", model)
    alone = {k.removeprefix("bert."): v for k, v in tensors.items() if k.startswith("bert.") and "pooler" not in k}
    alone["embeddings.position_ids"] = np.arange(LENGTH)[None]
    safetensors.save_file(alone, tmp_path / "alone.safetensors")
    new = nnx.jit(lambda: SentenceClassifier(options_of(SIZES[0]), VOCABULARY, CLASSES, rngs=nnx.Rngs(1)))()
    found = hugging_face.read(tmp_path / "alone.safetensors", new)
    assert [said.partition(":")[0] for said in found.left_out[1:]] == ["bert.pooler", "classifier"]
    read = dict(nnx.to_flat_state(found.params))
    own = dict(nnx.to_flat_state(nnx.as_pure(nnx.state(new, nnx.Param))))
    there = dict(nnx.to_flat_state(nnx.as_pure(nnx.state(model, nnx.Param))))
    for path, value in read.items():
        np.testing.assert_array_equal(value, (there if path[0] == "encoder" else own)[path])


def test_files_that_do_not_fit_are_named(tmp_path):
    model = build("pretraining")
    tensors = write_files(tmp_path / "whole", model)
    write_files(tmp_path / "heads", model, num_attention_heads=8)
    with pytest.raises(UserError, match="num_attention_heads=8 where this model has 4"):
        hugging_face.read(tmp_path / "heads", model)
    write_files(tmp_path / "epsilon", model, layer_norm_eps=1e-5)
    assert "norm_epsilon" in hugging_face.read(tmp_path / "epsilon", model).left_out[0]
    del tensors["bert.encoder.layer.1.output.dense.bias"]
    safetensors.save_file(tensors, tmp_path / "part.safetensors")
    with pytest.raises(UserError, match=r"1 missing \(bert.encoder.layer.1.output.dense.bias\)"):
        hugging_face.read(tmp_path / "part.safetensors", model)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(UserError, match="no BERT"):
        hugging_face.described(tmp_path)
    with pytest.raises(UserError, match="is not there"):
        hugging_face.read(tmp_path / "none", model)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("post_norm", {"post_norm": False}),
        ("transformer.norm", {"transformer": TransformerOptions(16, 1, 2, norm="rms")}),
        ("transformer.mlp", {"transformer": TransformerOptions(16, 1, 2, mlp="swiglu")}),
    ],
)
def test_models_without_a_counterpart_are_named(field, change):
    options = dataclasses.replace(options_of(SIZES[0]), **change)
    model = nnx.eval_shape(lambda: LanguageModel(options, VOCABULARY, rngs=nnx.Rngs(0)))
    with pytest.raises(ConfigError) as error:
        hugging_face.layout(model)
    assert error.value.field == f"config.model.{field}"


TEXTS = ["A man plays the guitar.", "Prices of shares rose sharply on Tuesday, analysts said.", "the cat sat"]


REAL = packages.MINILM.find()  # of the user: a test's own cache is empty


@pytest.mark.skipif(REAL is None, reason="MiniLM is not installed: make data")
def test_the_real_minilm_gives_its_embeddings():
    torch = pytest.importorskip("torch", reason=REASON)
    transformers = pytest.importorskip("transformers", reason=REASON)
    options, vocabulary_size = hugging_face.described(REAL)
    options = dataclasses.replace(options, masked=0.0, pairs=0.0)
    model = nnx.eval_shape(lambda: LanguageModel(options, vocabulary_size, rngs=nnx.Rngs(0)))
    found = hugging_face.read(REAL, model)
    assert found.left_out == ["bert.pooler: not in this model"]
    nnx.update(model, found.params)
    tokenizer = read_vocabulary(REAL)
    batch = encoded([tokenizer.encode(text) for text in TEXTS], tokenizer, 24)
    ours = np.asarray(jax.jit(mean_features)(model.encoder, batch))
    own = transformers.BertTokenizer(str(REAL / "vocab.txt"))(TEXTS, padding="max_length", max_length=24)
    np.testing.assert_array_equal(batch.tokens, own["input_ids"])
    mask = torch.tensor(own["attention_mask"])
    with torch.no_grad():
        theirs = transformers.BertModel.from_pretrained(REAL)(torch.tensor(own["input_ids"]), mask).last_hidden_state
    theirs = ((theirs * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)).numpy()
    cosine = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    assert cosine.min() >= 0.9999
