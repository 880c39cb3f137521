"""The benchmark of masked autoencoders: its numbers agree with each other, and both sides are the same model."""

import importlib.util
import json
import sys

import jax
import numpy as np
import pytest

from experiments.tools.benchmarks import __main__ as door
from experiments.tools.benchmarks import mae

HAS_TORCH = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))


@pytest.fixture
def run(monkeypatch, capsys):
    """A function that runs the benchmark as from the command line: (status, JSON of the last line, stdout, stderr)."""
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(jax.config.jax_compilation_cache_dir))

    def run(*words):
        status = door.main(["benchmarks", "mae", *words])
        out, err = capsys.readouterr()
        return status, json.loads(out.splitlines()[-1]) if out.strip() else None, out, err

    return run


@pytest.mark.skipif(not HAS_TORCH, reason="needs torch and transformers: pip install -e '.[dev]'")
def test_beside_torch(run, tmp_path):
    words = ["--size=debug", "--batch=4", "--rounds=3", "--seconds=0.01", "--memory=both"]
    status, found, out, err = run(*words, "--peer=torch", f"--output={tmp_path / 'found.json'}")
    assert status == 0, err
    assert json.loads((tmp_path / "found.json").read_text()) == found
    assert list(found["steps"]) == ["ours", "torch", "dense", "sorted"]
    assert found["peer"]["parameters"] == found["parameters"]
    # 4 of 16 patches and the class token, 32 wide and 2 deep, then 16 patches and it, 16 wide and 1 deep.
    forward = lambda tokens, width, depth: depth * tokens * (24 * width**2 + 4 * tokens * width)
    ends = lambda tokens: 2 * (tokens - 1) * 16 * 32 + 2 * tokens * 32 * 16 + 2 * 12 * 16 * 16
    for name, tokens in (("flops", 5), ("dense_flops", 17)):
        expected = 4 * (3 * (forward(tokens, 32, 2) + forward(17, 16, 1) + ends(tokens)))
        pixels_need_no_gradient = 4 * 2 * (tokens - 1) * 16 * 32
        assert found[name] == expected - pixels_need_no_gradient
    for row in found["steps"].values():
        assert 0 < row["images_per_second"] <= row["images_per_second_best"]
        assert 0.2 < row["loss"] < 2  # that of normalized targets, early
    assert 0 < found["masking_alone"]["ratio"] < 1
    for name in ("to_torch", "to_torch_cpu", "sparse_speed_up"):
        low, high = found[name]["interval"]
        assert low <= found[name]["ratio"] <= high
        assert f"{found[name]['ratio']:.2f}x" in out
    assert found["mfu"] == pytest.approx(found["model_flops_per_second"] / found["matmul_flops_per_second"])


def test_numbers_of_known_rounds():
    """A machine that slows down halfway through slows all steps of a round: paired ratios do not see it."""
    pace = np.array([1, 1, 1, 4, 4.0])
    rows = lambda seconds: [{"seconds": s, "cpu_seconds": 2 * s, "loss": 1.0} for s in seconds * pace]
    found = {"ours": rows(0.5), "torch": rows(0.4), "dense": rows(1.5), "sorted": rows(0.48)}
    found["masking"] = rows(0.01)
    result = mae.summary(found, {"flops": 100, "dense_flops": 310}, 8, 1000.0)
    for name, expected in {"to_torch": 0.8, "to_torch_cpu": 0.8, "sparse_speed_up": 3.0}.items():
        assert result[name]["ratio"] == pytest.approx(expected)
        np.testing.assert_allclose(result[name]["interval"], expected)
    assert result["masking_share"]["share"] == pytest.approx(0.04)
    assert result["masking_alone"]["ratio"] == pytest.approx(0.02)
    assert result["steps"]["ours"]["images_per_second"] == pytest.approx(16)
    assert result["sparse_flops_ratio"] == pytest.approx(3.1)
    assert result["mfu"] == pytest.approx(100 / 0.5 / 1000)


def test_a_process_that_ends_is_named(run, monkeypatch):
    monkeypatch.setitem(mae.MEMORY, "ours", ({"JAX_PLATFORMS": "nowhere"}, {}))
    status, _, _, err = run("--size=debug", "--batch=2")
    assert status == 1
    assert "The process of 'ours' ended with status 1" in err


def test_a_peer_that_is_not_installed_is_named(run, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    status, _, _, err = run("--peer=torch")
    assert status == 1
    assert "--peer=torch needs torch and transformers: pip install" in err
