"""The benchmark of video world models: both sides are the same model, and its numbers agree with each other."""

import importlib.util
import json
import sys

import jax
import numpy as np
import pytest

from experiments.reports.speed_pages import speed_page
from experiments.tools.benchmarks import __main__ as door
from experiments.tools.benchmarks import video, video_ours
from world_models.core.errors import UserError

needs_torch = pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="needs torch: pip install -e '.[dev]'")


@pytest.fixture
def run(monkeypatch, capsys):
    """A function that runs the benchmark as from the command line: (status, JSON of the last line, stdout, stderr)."""
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(jax.config.jax_compilation_cache_dir))

    def run(*words):
        status = door.main(["benchmarks", "video", *words])
        out, err = capsys.readouterr()
        return status, json.loads(out.splitlines()[-1]) if out.strip() else None, out, err

    return run


@needs_torch
def test_the_transformer_beside_torch(run, tmp_path):
    file = tmp_path / "video_speed.json"
    words = ["--sizes=debug", "--batch=2", "--windows=6", "--futures=3", "--rounds=3", "--seconds=0"]
    status, found, out, err = run(*words, "--devices=2", "--matmuls=128", f"--output={file}")
    assert status == 0, err
    assert json.loads(file.read_text()) == found
    row = found["sizes"]["debug"]
    assert row["dtype"] == "float32"
    assert list(row["training"]) == ["ours", "torch"]
    assert row["peer"]["parameters"] == row["parameters"]
    assert row["peer"]["difference"] < 1e-4
    # After as many steps of the same size, from the same weights, with other noise.
    assert row["training"]["torch"]["loss"] == pytest.approx(row["training"]["ours"]["loss"], rel=0.3)
    # 4 blocks of width 16, in which keys and values have 2 of 4 heads, on 5 tokens a frame, 2 clips of 4 frames.
    tokens, width, hidden = 2 * 4 * 5, 16, 43
    products = tokens * (2 * width * 2 * width + 2 * width**2 + 6 * width * hidden) + 2 * 4 * 2 * width * 6 * width
    attended = 4 * width * (2 * tokens * 5 + 2 * tokens * 4)
    patches = 2 * 4 * 4
    ends = patches * 2 * 2 * 192 * width + 2 * 4 * (4 * width**2 + 2 * width * 2 * width)
    forward = 4 * products + attended + ends
    assert row["flops"] == pytest.approx(3 * forward, rel=0.1)  # pixels and levels need no gradient
    for each in (*row["training"].values(), *row["imagining"].values()):
        assert 0 < each["frames_per_second"] <= each["frames_per_second_best"]
    assert list(row["imagining"]) == ["stream 6", "batch 6"]
    assert row["mfu"] == pytest.approx(row["model_flops_per_second"] / row["matmul_flops_per_second"])
    for name in ("to_torch", "to_torch_cpu"):
        low, high = row[name]["interval"]
        assert low <= row[name]["ratio"] <= high
        assert f"{row[name]['ratio']:.2f}x" in out
    page = speed_page(tmp_path)
    assert "| debug, batch 2, float32, 1 x cpu, split over 2 devices |" in page
    assert "stream 6: " in page


@needs_torch
def test_the_unet_of_both_sides_learns_the_same(tmp_path):
    """The same network, and the same loss but for the noise; in one process, which the benchmark avoids."""
    from experiments.tools.benchmarks import video_torch

    exchange = str(tmp_path / "forward.npz")
    quick = {"attention": "xla", "windows": [], "futures": 2, "matmuls": [64], "devices": 1, "exchange": exchange}
    ours, facts = video_ours.make_steps("unet_debug", 8, "float32", **quick)
    torch, peer = video_torch.make_steps("unet_debug", 8, "float32", False, exchange)
    video.check("unet_debug", facts, peer)
    with np.load(exchange) as file:
        assert np.abs(file["output"]).mean() > 0.05  # that of a network whose last layer is not zero
        arrays = {name.removeprefix("model."): x for name, x in dict(file).items() if name.startswith("model.")}
    losses = {name: np.array([step() for _ in range(6)]) for name, step in (("ours", ours["ours"]), *torch.items())}
    np.testing.assert_allclose(losses["torch"].mean(), losses["ours"].mean(), rtol=0.15)

    layer = video_torch.torch.nn.Linear(3, 2)
    with pytest.raises(UserError, match=r"weight.* no counterpart"):
        video_torch.copy_weights(layer, {})
    kernel = {"kernel": np.zeros((3, 2), np.float32), "bias": np.zeros(2, np.float32)}
    with pytest.raises(UserError, match="nothing like"):
        video_torch.copy_weights(layer, kernel | arrays)


def test_more_devices_than_there_are_is_an_error(tmp_path):
    asked = {"attention": "xla", "windows": [], "futures": 2, "matmuls": [64], "exchange": str(tmp_path / "x.npz")}
    with pytest.raises(UserError, match="--devices=1000 must be at most"):
        video_ours.make_steps("unet_debug", 1000, "float32", devices=1000, **asked)


def test_peers_that_are_another_network_are_an_error():
    same = {"parameters": 10, "difference": 1e-5}
    video.check("car", same, same)
    with pytest.raises(UserError, match="parameters"):
        video.check("car", same, same | {"parameters": 11})
    for wrong in (2e-4, float("nan")):
        with pytest.raises(UserError, match="differ"):
            video.check("car", same, same | {"difference": wrong})


def test_numbers_of_known_rounds():
    """A machine that slows down halfway through slows all steps of a round: paired ratios do not see it."""
    pace = np.array([1, 1, 1, 4, 4.0])
    rows = lambda seconds: [{"seconds": s, "cpu_seconds": 2 * s, "loss": 1.0} for s in seconds * pace]
    found = {"ours": rows(0.5), "torch": rows(0.4), "stream 64": rows(0.1), "batch 64": rows(0.2)}
    facts = {"flops": 100, "frames": {"stream 64": 1, "batch 64": 16}}
    result = video.summary(found, facts, 128, 1000.0)
    for name in ("to_torch", "to_torch_cpu"):
        assert result[name]["ratio"] == pytest.approx(0.8)
        np.testing.assert_allclose(result[name]["interval"], 0.8)
    assert result["training"]["ours"]["frames_per_second"] == pytest.approx(256)
    assert result["training"]["torch"]["frames_per_cpu_second"] == pytest.approx(160)
    assert result["imagining"]["stream 64"]["frames_per_second"] == pytest.approx(10)
    assert result["imagining"]["batch 64"]["frames_per_second"] == pytest.approx(80)
    assert result["mfu"] == pytest.approx(100 / 0.5 / 1000)


def test_a_size_that_fails_leaves_the_others(run, monkeypatch):
    def measure(size, **asked):
        if size == "1B":
            raise UserError("The process of 'ours' ended with status 1: see above.")
        return {"failed": "not asked for"}

    monkeypatch.setattr(video, "measure", measure)
    status, found, _, err = run("--sizes=1B,car", "--peer=")
    assert status == 1
    assert "2 of 2 sizes failed" in err
    assert "status 1" in found["sizes"]["1B"]["failed"]
    status, _, _, err = run("--sizes=car,2B")
    assert status == 1
    assert "--sizes=car,2B must be some of debug, car" in err
    status, _, _, err = run("--batch=8", "--devices=3")
    assert status == 1
    assert "--batch=8 must be a multiple of --devices=3" in err
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    status, _, _, err = run()
    assert status == 1
    assert "--peer=torch needs torch" in err
