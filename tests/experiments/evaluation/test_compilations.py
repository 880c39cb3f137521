"""Evaluators of the same kind and shapes share their compiled programs, whatever objects they are."""

import importlib
import logging

import jax
import pytest
from flax import nnx

from experiments.training.data import open_windows
from experiments.training.experiment import make_experiment


def compiled(caplog, function):
    """Names of the programs that JAX compiles while `function` runs."""
    caplog.clear()
    with caplog.at_level(logging.DEBUG, logger="jax"), jax.log_compiles():
        function()
    return [record.getMessage().split()[1] for record in caplog.records if record.getMessage().startswith("Compiling")]


def evaluators(config, workdir):
    """A new experiment's evaluators, and a new model."""
    spec = open_windows(config, workdir, "train", config.data.clip_length, 1).episodes.spec
    experiment = make_experiment(config, spec)
    model = jax.jit(lambda: experiment.init(nnx.Rngs(0)))()
    return experiment.evaluators(workdir), model


@pytest.mark.parametrize("name", ["car_unet", "two_rooms", "car_tokenizer", "fashion_mae"])
def test_a_second_evaluator_compiles_nothing(name, square_data, stripes_data, tmp_path, caplog):
    def make():
        config = importlib.import_module(f"configs.{name}").get_config("debug")
        config.data.dataset = str(stripes_data if name == "fashion_mae" else square_data)
        if name == "fashion_mae":
            config.eval.probes.names = ("ridge", "fine_tune")
        return evaluators(config, tmp_path)

    first, model = make()
    programs = compiled(caplog, lambda: [evaluator(model) for evaluator in first.values()])
    assert "jit(_loss)" in programs or "_loss" in programs, programs
    second, model = make()
    assert not {id(one) for one in first.values()} & {id(one) for one in second.values()}
    assert compiled(caplog, lambda: [evaluator(model) for evaluator in second.values()]) == []
