"""The documentation's examples of a new family and a new evaluator are run as they stand."""

import json
import pathlib
import re
import sys
import types

import numpy as np
import pytest

import experiments
from experiments.evaluation import futures, measure
from experiments.runs.metrics import read_metrics
from experiments.training.loop import train
from world_models.core.errors import ConfigError

DOCS = pathlib.Path(__file__).resolve().parents[3] / "docs"


def load_example(page, name, monkeypatch):
    """The code of a page as a module of this name."""
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL)
    module = types.ModuleType(name)
    exec(compile(code, page, "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, name, module)
    return module


def test_the_page_on_new_families_works_through_every_command(tiny_config, tmp_path, monkeypatch):
    load_example("new_family.md", "my_lab.brightness", monkeypatch)
    tiny_config.experiment = "my_lab.brightness"
    train(tiny_config, tmp_path)
    with pytest.raises(ConfigError) as error:  # the copy of the config in the folder alone may not have it imported
        experiments.load(tmp_path)
    assert error.value.field == "config.experiment"
    run = experiments.load(tmp_path, trusted=["my_lab"])
    assert run.model.change.embedding.shape == (2, 1)
    assert futures.write(run).exists()


def test_the_page_on_new_evaluators_works_in_training_and_eval(tiny_config, tmp_path, monkeypatch):
    module = load_example("new_evaluator.md", "my_lab.motion", monkeypatch)
    tiny_config.experiment = "my_lab.motion"
    tiny_config.eval.best, tiny_config.eval.better = "eval/motion/ratio", "higher"
    train(tiny_config, tmp_path)
    ratio = read_metrics(tmp_path)[-1]["eval/motion/ratio"]
    assert ratio > 0
    assert "eval/held_out/loss" in read_metrics(tmp_path)[-1]
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"eval/motion/example" in events.read_bytes()
    found = json.loads(measure.write(experiments.load(tmp_path, trusted=["my_lab"])).read_text())
    assert found["eval/motion/ratio"] == pytest.approx(ratio, rel=0.05)
    assert "eval/motion/example" not in found
    # What it measures is right: 1 for the truth, 0 for what stands still.
    frames = np.random.default_rng(0).integers(0, 255, (2, 5, 8, 8, 3), np.uint8)
    assert module.change(frames[:, :1].repeat(5, axis=1)) == 0
    by_hand = np.mean([abs(int(a) - int(b)) for a, b in zip(frames[:, 1:].flat, frames[:, :-1].flat)])
    assert module.change(frames) == pytest.approx(by_hand)
