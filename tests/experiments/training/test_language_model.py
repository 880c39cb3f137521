"""A language model on a text file, through the loop that trains video models."""

import os
import signal
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest
import toy_language_model as toy
from conftest import cpu_devices

import experiments
from experiments.runs.metrics import read_metrics
from experiments.training import setup
from experiments.training.experiment import make_experiment
from experiments.training.loop import train
from world_models.core import specs
from world_models.core.errors import ConfigError
from world_models.data.text import read_documents
from world_models.data.tokenizers import tokenizer_from_dict


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(text file, folder of a finished run on it)."""
    folder = tmp_path_factory.mktemp("language")
    text = toy.write_text(folder / "words.txt")
    train(toy.get_config(text), folder / "run")
    return text, folder / "run"


def losses(workdir):
    return [line["train/loss"] for line in read_metrics(workdir) if "train/loss" in line]


def held_out(workdir, text):
    """(loss on the validation split, its cross-entropy under the frequencies of training characters), in nats."""
    run = experiments.load(workdir, trusted=["toy_language_model"])
    data = run.experiment.open_data(run.config, workdir, "validation", run.spec)
    loss, _ = jax.jit(lambda model, batch: run.experiment.loss(model, batch, None))(
        run.model, data.load(np.arange(len(data)))
    )
    encode = tokenizer_from_dict(run.spec.tokenizer).encode
    splits = {"train": 0.9, "validation": 0.05, "test": 0.05}
    tokens = {name: encode(read_documents(str(text), name, text_key="", splits=splits).texts[0]) for name in splits}
    frequencies = np.bincount(tokens["train"], minlength=run.spec.vocabulary_size) / len(tokens["train"])
    return float(loss), float(-np.log(frequencies[tokens["validation"]]).mean())


def test_it_learns_more_than_the_frequencies_of_characters(trained):
    text, workdir = trained
    loss, unigram = held_out(workdir, text)
    assert loss < 0.6 * unigram
    assert {"tokens_per_second", "data_wait"} <= read_metrics(workdir)[0].keys()


def test_it_learns_no_more_of_shuffled_text(tmp_path):
    text = toy.write_text(tmp_path / "shuffled.txt", shuffled=True)
    train(toy.get_config(text, num_steps=80), tmp_path / "run")
    loss, unigram = held_out(tmp_path / "run", text)
    assert unigram - 0.02 < loss < 1.1 * unigram


def test_the_run_keeps_its_vocabulary_and_says_where_it_came_from(trained):
    text, workdir = trained
    run = experiments.load(workdir, trusted=["toy_language_model"])
    assert run.spec.unit == "tokens"
    characters = set("".join(toy.WORDS) + " ")
    assert run.spec.vocabulary_size == len(characters) + 2
    assert set(run.spec.tokenizer["characters"]) == characters
    assert run.provenance_of("validation")["data"] == str(text)


def test_stopping_and_resuming_changes_nothing(tmp_path, monkeypatch):
    text = toy.write_text(tmp_path / "words.txt")
    config = toy.get_config(text, num_steps=20, checkpoint_every=6)
    train(config, tmp_path / "straight")
    compiled, calls = setup._compile, []

    def stopped_in_the_ninth(*args):
        step = compiled(*args)

        def stepped(*inputs):
            calls.append(1)
            if len(calls) == 9:
                signal.raise_signal(signal.SIGTERM)
            return step(*inputs)

        return stepped

    with monkeypatch.context() as patch:
        patch.setattr(setup, "_compile", stopped_in_the_ninth)
        train(config, tmp_path / "parts")
    assert 9 <= len(losses(tmp_path / "parts")) < 20
    train(config, tmp_path / "parts")
    assert losses(tmp_path / "parts") == losses(tmp_path / "straight")
    one, other = (
        experiments.load(tmp_path / name, trusted=["toy_language_model"]).model for name in ("straight", "parts")
    )
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_four_devices_give_the_same_losses(trained, tmp_path):
    text, workdir = trained
    script = f"""
        import pathlib, jax
        import toy_language_model as toy
        from experiments.training.loop import train
        assert jax.device_count() == 4
        train(toy.get_config({str(text)!r}, num_steps=10), pathlib.Path({str(tmp_path)!r}))
    """
    path = os.pathsep.join(["tests", *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = cpu_devices(4) | {"PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], env=environment, check=True, timeout=200)
    np.testing.assert_allclose(losses(tmp_path), losses(workdir)[:10], rtol=1e-5)


def test_a_mixture_of_texts_has_one_vocabulary(tmp_path):
    for name, text in (("letters", "abc" * 400), ("digits", "0123" * 300)):
        (tmp_path / f"{name}.txt").write_text(text)
    mixture = ((str(tmp_path / "letters.txt"), 2.0), (str(tmp_path / "digits.txt"), 1.0))
    config = toy.get_config("", num_steps=3, mixture=mixture)
    train(config, tmp_path / "run")
    run = experiments.load(tmp_path / "run", trusted=["toy_language_model"])
    assert set(run.spec.tokenizer["characters"]) == set("abc0123")
    assert run.experiment.open_data(run.config, tmp_path, "train", run.spec).spec == run.spec
    config.data.dataset = "letters"
    with pytest.raises(ConfigError) as error:
        train(config, tmp_path / "both")
    assert error.value.field == "config.data.dataset"


def test_families_say_which_data_they_learn_from(tiny_config):
    with pytest.raises(ConfigError, match="video") as error:
        make_experiment(tiny_config, specs.TextSpec(4, 10))
    assert error.value.field == "config.experiment"
    assert "text" in str(error.value)
