"""The benchmark of BERT: both sides are the same model with the same weights, and differ in the logits they compute."""

import importlib.util
import json
import sys

import jax
import pytest

from experiments.tools.benchmarks import __main__ as entry
from experiments.tools.benchmarks import bert
from experiments.tools.benchmarks.bert_sizes import LENGTH, SIZES, rows
from world_models.core.errors import UserError

HAS_TORCH = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))


@pytest.mark.skipif(not HAS_TORCH, reason="needs torch and transformers: pip install -e '.[dev]'")
def test_beside_torch(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(jax.config.jax_compilation_cache_dir))
    words = ["--size=debug", "--batch=2", "--rounds=2", "--seconds=0.01", "--peer=torch"]
    status = entry.main(["benchmarks", "bert", *words])
    out, err = capsys.readouterr()
    assert status == 0, err
    found = json.loads(out.splitlines()[-1])
    assert list(found["steps"]) == ["ours", "torch", "everywhere"]
    assert found["peer"]["parameters"] == found["parameters"]
    assert found["peer"]["first_loss"] == pytest.approx(found["first_loss"], rel=1e-5)
    size, places = SIZES["debug"], rows(SIZES["debug"], 2).places
    head = 6 * (size.width**2 + size.width * size.vocabulary)  # of a place, with both gradients
    assert found["everywhere_flops"] - found["flops"] == head * (2 * LENGTH - places.size)
    for name in ("ours_to_torch", "everywhere_to_torch_cpu"):
        low, high = found[name]["interval"]
        assert low <= found[name]["ratio"] <= high
    assert "everywhere to torch" in out


def test_another_model_beside_ours_raises():
    facts = {"parameters": 10, "first_loss": 5.0}
    bert.check(facts, facts | {"first_loss": 5.0001}, "float32")
    bert.check(facts, facts | {"first_loss": 5.1}, "bfloat16")
    with pytest.raises(UserError, match="parameters"):
        bert.check(facts, facts | {"parameters": 11}, "float32")
    with pytest.raises(UserError, match="first loss"):
        bert.check(facts, facts | {"first_loss": 5.1}, "float32")
