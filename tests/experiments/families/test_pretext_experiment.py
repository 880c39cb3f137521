"""Pretext tasks as an experiment: trained, held out beside chance, probed, and refused where the data do not suit."""

import json

import pytest
from conftest import set_fields

from configs.fashion_pretext import get_config
from experiments.evaluation.measure import measure
from experiments.runs.loading import load
from experiments.training.loop import train


def config_of(data, variant="debug"):
    """The debug variant of a task on striped images of 16x16."""
    config = get_config(variant)
    config.data.dataset = str(data)
    if config.model.task.kind == "relative_position":
        config.model.task.patch = 4
    return config


def test_a_task_is_learned_and_its_encoder_probed(stripes_data, tmp_path):
    config = config_of(stripes_data)
    config.eval.probes.names = ("ridge", "knn")
    config.eval.held_out.num_examples = 30
    set_fields(config, num_steps=60, batch_size=30, learning_rate=3e-3, every=60)
    train(config, tmp_path)
    found = measure(load(tmp_path))
    assert found["eval/held_out/accuracy_chance"] == 1 / 8
    assert found["eval/held_out/accuracy"] > 0.25
    for name in ("ridge", "knn"):
        for kind in ("accuracy", "raw_pixels", "random_features", "random_init"):
            assert 0 <= found[f"eval/{name}/{kind}"] <= 100
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["eval/held_out/accuracy"] == pytest.approx(found["eval/held_out/accuracy"])
