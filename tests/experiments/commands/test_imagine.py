"""What `imagine` writes, and what it does with a policy and a long rollout."""

import errno
import json
import pathlib
import re
from unittest import mock

import av
import jax
import numpy as np
import pytest
from conftest import run_command, write_dataset

import experiments
from configs import car_tokenizer
from experiments.reports import pictures
from experiments.reports import report as write_report
from experiments.runs import loading
from world_models.core.imagination import imagine

ROOT = pathlib.Path(__file__).resolve().parents[3]


def test_imagine_makes_metrics_videos_pictures_and_a_report(workdir, capsys):
    words = ["imagine", f"--workdir={workdir}", "--config.eval.imagine.horizon=5"]
    status, last, _ = run_command(capsys, *words, "--config.eval.imagine.long=7")
    assert (status, last) == (0, str(workdir / "imagine" / "report.html"))
    assert "A long rollout" in (workdir / "imagine" / "report.html").read_text()
    with av.open(str(workdir / "imagine" / "long.mp4")) as video:
        assert video.streams.video[0].frames == 4 + 7
    status, _, err = run_command(capsys, *words, "--config.eval.imagine.long=700")
    assert (status, len(err.splitlines())) == (1, 1)
    assert "config.eval.imagine.num_context + config.eval.imagine.long" in err
    assert run_command(capsys, *words)[0] == 0
    names = {p.name for p in (workdir / "imagine").iterdir()}
    assert "long.mp4" not in names
    assert {"metrics.json", "futures.mp4", "futures.gif", "branches.mp4", "samples.mp4", "strip.png"} <= names
    metrics = json.loads((workdir / "imagine" / "metrics.json").read_text())
    assert metrics["horizon"] == [1, 2, 3, 4, 5]
    for name in ("psnr", "ssim", "psnr_changed", "ssim_changed"):
        assert {key: len(row) for key, row in metrics[name].items()} == {"imagined": 5, "copy_last": 5, "mean_frame": 5}
    assert {"mean", "low", "high"} == metrics["action_following"].keys()
    assert metrics["num_contexts"] == 2
    # The baseline is known: the square moves by its own width every step, so copying is wrong on two squares of pixels
    # at odd horizons, and the changed pixels hold both.
    truth = 10 * np.log10(3 / (1 + (128 / 255) ** 2 + (32 / 255) ** 2))
    assert metrics["psnr_changed"]["copy_last"][0] == pytest.approx(truth, abs=0.05)


def test_a_policy_steers_a_long_rollout_by_what_it_sees_there(workdir, capsys, monkeypatch):
    seen, write = [], pictures.write_media
    futures = []
    monkeypatch.setattr(car_tokenizer, "watch", lambda _, rng: lambda frame: seen.append(frame) or 1, raising=False)
    monkeypatch.setattr(write_report, "write_media", lambda *a, **k: futures.append(a[1]) or write(*a, **k))
    words = ["imagine", f"--workdir={workdir}", "--config.eval.imagine.long=6"]
    assert run_command(capsys, *words, "--config.eval.imagine.policy=configs.car_tokenizer:watch")[0] == 0
    (found,) = futures
    assert found.long.shape[1] == 6
    context = loading.load(workdir).windows("test", 4).load(np.zeros(1, int)).frames
    expected = np.concatenate([context[:, -1:], found.long[:, :-1]], axis=1)
    np.testing.assert_array_equal(np.stack(seen), expected[0])
    with av.open(str(workdir / "imagine" / "long.mp4")) as video:
        assert video.streams.video[0].frames == 6
    status, _, err = run_command(capsys, *words, "--config.eval.imagine.policy=configs.car_tokenizer:nothing")
    assert (status, len(err.splitlines())) == (1, 1)
    assert "config.eval.imagine.policy='configs.car_tokenizer:nothing'" in err


def test_an_imagine_that_fails_leaves_the_old_files(workdir, capsys, monkeypatch):
    (workdir / "imagine").mkdir(exist_ok=True)
    before = {path.name: path.stat().st_mtime_ns for path in (workdir / "imagine").iterdir()}
    monkeypatch.setattr(write_report, "plot_metrics", mock.Mock(side_effect=OSError(errno.ENOSPC, "full")))
    status, _, err = run_command(capsys, "imagine", f"--workdir={workdir}", "--config.eval.imagine.horizon=5")
    assert status == 1
    assert len(err.strip().splitlines()) == 1
    assert {path.name: path.stat().st_mtime_ns for path in (workdir / "imagine").iterdir()} == before
    assert not [path.name for path in workdir.iterdir() if path.name.startswith(".")]


def test_an_opened_run_can_be_stepped_in(workdir):
    loaded = experiments.load(workdir)
    clip = loaded.windows("test", 8).load(np.arange(2))
    futures = loaded.imagine(clip.frames[:, :4], clip.actions[:, :-1], seed=3)
    assert futures.shape == (2, 4, 16, 16, 3)
    by_hand = imagine(loaded.model, clip.frames[:, :4], clip.actions[:, :3], clip.actions[:, 3:-1], jax.random.key(3))
    np.testing.assert_allclose(np.asarray(futures, int), np.asarray(by_hand, int), atol=1)


@pytest.mark.parametrize("page", ["README.md", "docs/getting_started.md"])
def test_the_example_in_python_runs_compiled_and_the_run_prints_as_one_line(workdir, page):
    code = next(c for c in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL) if "load(" in c)
    found = {}
    exec(code.replace("runs/rooms", str(workdir)).replace("[0, 50]", "[0, 1]"), found)
    assert found["futures"].shape == (2, 16, 16, 16, 3)
    assert found["frames"].shape == (2, 16, 16, 3)
    # Without jit each operation of a step would be a program of its own: tens of seconds.
    assert [found[name]._cache_size() for name in ("observe", "step", "decode")] == [1, 1, 1]
    text = repr(found["run"])
    assert len(text) < 300
    assert all(word in text for word in (str(workdir), "step 2", found["run"].config.experiment))


def test_a_horizon_beyond_every_episode_is_refused(workdir, capsys):
    status, _, err = run_command(capsys, "imagine", f"--workdir={workdir}", "--config.eval.imagine.horizon=90")
    assert status == 1
    assert "config.eval.imagine.horizon=94 must" in err


def test_data_of_another_kind_are_refused(workdir, capsys, tmp_path):
    other = write_dataset(tmp_path, {"train": [9], "validation": [9], "test": [20]}, size=24)
    status, _, err = run_command(capsys, "imagine", f"--workdir={workdir}", f"--config.data.dataset={other}")
    assert status == 1
    assert "has frames (24, 24, 3) and 2 discrete actions; the model of" in err
