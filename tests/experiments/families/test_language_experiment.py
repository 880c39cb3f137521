"""BERT through the commands: pretraining, fillings, fine-tuning, weights, and configs that cannot work."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import experiments
from experiments.families.language import fillings, probes
from experiments.runs.metrics import read_metrics
from experiments.tools.weights import export_weights, import_weights
from experiments.training.data import open_tagged
from experiments.training.experiment import make_experiment
from experiments.training.loop import train
from world_models.core.errors import ConfigError, UserError
from world_models.core.specs import SentenceSpec, TextSpec
from world_models.data.wordpiece import SPECIAL, WordPieceTokenizer


def get_config(text_data, **fields):
    """A config that trains on `text_data` in seconds; `fields` by dotted name with "__" for a dot."""
    from configs.bert_mini import get_config

    config = get_config("debug")
    config.data.dataset = str(text_data)
    config.model.transformer.width = 32
    config.train.batch_size = 16
    config.train.num_steps = 400
    config.train.optimizer.learning_rate = 5e-3
    config.train.optimizer.warmup_steps = 10
    config.eval.every = 400
    config.eval.held_out.num_examples = 48
    config.eval.imagine.num_shown = 6
    config.runtime.log_every = 50
    config.runtime.checkpoint_every = 400
    config.update_from_flattened_dict({name.replace("__", "."): value for name, value in fields.items()})
    return config


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory, text_data):
    """The folder of a finished run."""
    workdir = tmp_path_factory.mktemp("language") / "run"
    train(get_config(text_data, data__duplicates=4), workdir)
    return workdir


def test_it_knows_more_than_frequencies(pretrained):
    found = read_metrics(pretrained)[-1]
    bits = {name: found[f"eval/text/{name}bits_per_character"] for name in ("", "trigram_", "unigram_")}
    assert bits[""] < bits["unigram_"] * 0.8
    assert bits["trigram_"] < bits["unigram_"]
    assert found["eval/text/masked_accuracy"] > found["eval/text/unigram_masked_accuracy"] + 0.1
    assert 0 < found["eval/text/pair_accuracy"] <= 1
    assert 0.5 <= found["eval/text/pair_majority"] < 1


def test_it_learns_no_more_than_frequencies_of_shuffled_text(tmp_path, text_data):
    train(get_config(text_data, data__duplicates=4, data__shuffled=True), tmp_path)
    found = read_metrics(tmp_path)[-1]
    assert found["eval/text/bits_per_character"] > 0.95 * found["eval/text/unigram_bits_per_character"]
    # Of tokens that are not hidden, copies would be right.
    assert found["eval/text/masked_accuracy"] < found["eval/text/unigram_masked_accuracy"] + 0.05


def test_imagine_prints_fillings_with_probabilities(pretrained, capsys):
    run = experiments.load(pretrained)
    path = fillings.write(run)
    assert path.is_file()
    said = capsys.readouterr().out
    found = json.loads((path.parent / "fillings.json").read_text())
    assert len(found["masks"]) == 6
    for one in found["masks"]:
        assert one["sentence"] in said
        assert "[MASK]" in one["sentence"]
        assert one["truth"]
        chances = [filling["probability"] for filling in one["fillings"]]
        assert len(chances) == 5
        assert chances == sorted(chances, reverse=True)
        assert 0 < sum(chances) <= 1 + 1e-6
    run.config.eval.imagine.sentences = ("A cat [MASK] milk and purrs . It [MASK] milk every day .",)
    first, second = fillings.measure(run)["masks"]
    assert second["sentence"] == "a cat [MASK] milk and purrs. it [MASK] milk every day."
    for one, word in ((first, "likes"), (second, "eats")):
        assert word in [filling["token"] for filling in one["fillings"]]
    for sentence in ("no mask", "[MASK] " * 40):
        run.config.eval.imagine.sentences = (sentence,)
        with pytest.raises(ConfigError) as error:
            fillings.measure(run)
        assert error.value.field == "config.eval.imagine.sentences"


def test_a_classifier_is_fine_tuned_from_a_pretrained_run(pretrained, text_data, tmp_path):
    config = get_config(
        text_data,
        data__label_key="label",
        data__vocabulary=str(pretrained),
        init_from__checkpoints=str(pretrained / "checkpoints"),
        init_from__parts=("encoder", "pooler"),
        train__num_steps=150,
        train__optimizer__learning_rate=2e-3,
        eval__every=150,
        runtime__checkpoint_every=150,
    )
    train(config, tmp_path)
    found = read_metrics(tmp_path)[-1]
    assert found["eval/classes/accuracy"] > found["eval/classes/majority"] + 0.3
    run = experiments.load(tmp_path)
    assert run.spec.classes == ("bird", "cat", "cow", "dog")
    assert run.spec.tokenizer == experiments.load(pretrained).spec.tokenizer
    with pytest.raises(UserError, match="predicts no masked words"):
        fillings.write(run)


def test_weights_go_to_hugging_faces_layout_and_come_back(text_data, tmp_path):
    few = {"train__num_steps": 1, "eval__every": 0, "model__post_norm": True, "model__transformer__width": 16}
    train(get_config(text_data, **few), tmp_path / "run")
    export_weights(tmp_path / "run", tmp_path / "weights")
    said = import_weights(tmp_path / "weights", tmp_path / "checkpoint")
    assert "config.model.post_norm=True" in said[-1]
    config = get_config(
        text_data,
        **few,
        train__optimizer__learning_rate=0.0,
        data__vocabulary=str(tmp_path / "weights"),
        init_from__checkpoints=str(tmp_path / "checkpoint"),
    )
    train(config, tmp_path / "again")
    one, other = (experiments.load(tmp_path / name).model for name in ("run", "again"))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


SPEC = SentenceSpec(32, 31, WordPieceTokenizer([*SPECIAL, *"abcdefghijklmnopqrstuvwxyz"]).to_dict(), ("next", "other"))


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("config.data.text_length", {"data__text_length": 200}),
        ("config.model.transformer.width", {"model__transformer__width": 30}),
        ("config.model.mask.ratio", {"model__mask__ratio": 0.0}),
        ("config.model.mask.masked", {"model__mask__masked": 0.95}),
        ("config.model.masked", {"model__masked": 0.0, "model__pairs": 0.0}),
        ("config.model.pairs", {"data__pairs": "none"}),
        ("config.model.pairs", {"model__pairs": -1.0}),
        ("config.model.norm_epsilon", {"model__norm_epsilon": 0.0}),
        ("config.model.dtype", {"model__dtype": "float16"}),
    ],
)
def test_configs_that_cannot_work_are_named(text_data, field, fields):
    with pytest.raises(ConfigError) as error:
        make_experiment(get_config(text_data, **fields), SPEC)
    assert error.value.field == field


def test_a_words_tag_is_that_of_its_own_document_in_every_split(tmp_path):
    """Documents of files are dealt to splits by their text: tags must go with it, also where they are equal."""
    tag = {"a": "NN", "b": "VB", "c": "IN"}
    rng = np.random.default_rng(0)
    lines = []
    for number in range(80):
        words = [str(w) for w in rng.choice(list(tag), 3)]
        text, tags = " ".join(words), " ".join(tag[w] for w in words)
        lines.append(json.dumps({"text": f"{text}\n\n{text} {'x' * (number % 7 + 1)}", "tags": f"{tags}\n\n{tags} XX"}))
    (tmp_path / "texts.jsonl").write_text("\n".join(lines))
    config = get_config(tmp_path / "texts.jsonl")
    for split in ("train", "validation", "test"):
        found = open_tagged(config, tmp_path, split)
        made = probes._tagged(found, WordPieceTokenizer([*SPECIAL, "a", "b", "c", "x", "##x"]), 16, 500)
        assert [tag.get(word, "XX") for word in made.words] == made.tags
        assert len(set(made.words)) > 3


def test_probes_of_texts_that_are_longer_than_the_positions_are_named(text_data):
    experiment = make_experiment(get_config(text_data, model__positions=32), SPEC)
    options = dataclasses.replace(experiment.config.eval.probes, text_length=33)
    with pytest.raises(ConfigError) as error:
        probes.FewLabels(experiment, options, 0)
    assert error.value.field == "config.eval.probes.text_length"
    with pytest.raises(ConfigError) as error:
        probes.check(dataclasses.replace(options, text_length=2))
    assert error.value.field == "config.eval.probes.text_length"


def test_data_of_another_kind_and_labels_that_are_missing_are_named(text_data, tmp_path):
    with pytest.raises(ConfigError) as error:
        make_experiment(get_config(text_data), TextSpec(4, 10))
    assert error.value.field == "config.experiment"
    with pytest.raises(UserError, match=r"jsonl, line 1.*'genre'"):
        train(get_config(text_data, data__label_key="genre"), tmp_path)
    for size in (3, 20):
        with pytest.raises(ConfigError) as error:
            train(get_config(text_data, data__vocabulary_size=size), tmp_path)
        assert error.value.field == "config.data.vocabulary_size"
    (tmp_path / "own.txt").write_bytes("naïve".encode("latin-1"))
    with pytest.raises(UserError, match=r"own\.txt is not UTF-8"):
        train(get_config(tmp_path / "own.txt"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_equal_specs_make_equal_experiments(text_data):
    one, other = (make_experiment(get_config(text_data), dataclasses.replace(SPEC)) for _ in range(2))
    assert one == other
    assert one != make_experiment(get_config(text_data), dataclasses.replace(SPEC, classes=("in order", "swapped")))
