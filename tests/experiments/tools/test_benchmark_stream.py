"""The benchmark of imagined frames: what it counts is right, it takes runs and configs, and it names bad input."""

import json
import re
import sys

import jax
import pytest

import launch
from experiments.reports.speed_pages import speed_page
from experiments.tools.benchmarks import __main__ as door
from experiments.tools.benchmarks import stream
from world_models.core.errors import UserError

QUICK = ("--batches=2", "--frames=3", "--rounds=3")


@pytest.fixture
def run(monkeypatch, capsys):
    """A function that runs the benchmark as from the command line: (status, JSON of the last line, stdout, stderr)."""
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(jax.config.jax_compilation_cache_dir))

    def run(*words):
        status = door.main(["benchmarks", "stream", *map(str, words)])
        out, err = capsys.readouterr()
        return status, json.loads(out.splitlines()[-1]) if out.strip() else None, out, err

    return run


def test_windows_of_a_transformer(run, square_data, tmp_path):
    file = tmp_path / "stream_speed.json"
    words = ["configs/car_world.py:debug", f"--config.data.dataset={square_data}", "--config.eval.sampler.num_steps=4"]
    words += ["--windows=3,6", f"--output={file}"]
    status, found, out, err = run(*words, *QUICK)
    assert status == 0, err
    assert json.loads(file.read_text()) == found
    rows = found["rows"]
    assert [(row["window"], row["kind"], row["batch"]) for row in rows] == [
        (3, "stream", 1),
        (3, "scan", 2),
        (6, "stream", 1),
        (6, "scan", 2),
    ]
    for row in rows:
        assert row["compilations"] == 1  # over 3 windows' worth of frames, past the end of the ring buffer
        assert 0 < row["frames_per_second"] <= row["frames_per_second_best"]
        # 4 steps of the sampler and the pass that is kept; 4 patches and 4 registers; 2 heads of 8; scores and values.
        past = 5 * 8 * 2 * 8 * 2 * 2 * (row["window"] - 1)
        assert row["time_attention_share"] == pytest.approx(past / row["flops_per_frame"])
    assert [(row["kind"], row["from"], row["to"]) for row in found["growth"]] == [("stream", 3, 6), ("scan", 3, 6)]
    for row in found["growth"]:
        assert row["interval"][0] <= row["ratio"] <= row["interval"][1]
    assert "from window 3 to 6" in out
    page = speed_page(tmp_path)
    assert "| configs/car_world.py:debug | 6 | 2 in a scan |" in page
    assert "stream_speed.json" in page


def test_a_trained_run_keeps_its_window(run, square_data, tmp_path):
    words = ["--config=configs/car_unet.py:debug", f"--config.data.dataset={square_data}", "--config.eval.every=0"]
    assert launch.main(["launch.py", "train", *words, f"--workdir={tmp_path / 'run'}"]) == 0
    status, found, _, err = run(f"--workdir={tmp_path / 'run'}", *QUICK)
    assert status == 0, err
    assert (found["workdir"], found["step"], found["growth"]) == ("run", 2, [])
    assert [(row["window"], row["compilations"]) for row in found["rows"]] == [(4, 1), (4, 1)]
    assert found["rows"][0]["time_attention_share"] is None


def test_a_stream_that_compiles_again_is_an_error():
    row = {"window": 64, "kind": "stream", "batch": 1, "compilations": 1}
    stream.check({"rows": [row]})
    with pytest.raises(UserError, match="window 64, stream of 1: 2 programs"):
        stream.check({"rows": [row, row | {"compilations": 2}]})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "CONFIG, or --workdir"),
        (["configs/car_world.py:debug", "--workdir=here"], "not both"),
        (["configs/car_unet.py:debug", "--windows=8"], "--windows=8: .* no config.model.window"),
        (["configs/car_world.py:debug", "--windows=8,4"], "--windows=8,4 must rise"),
        (["configs/lewm.py:debug"], "config.experiment=.*latent_dynamics.* no video world model"),
        (["configs/car_world.py:debug", "--config.model.time_every=3"], "config.model"),
    ],
)
def test_bad_input(run, words, said, square_data):
    status, _, out, err = run(*words, *([f"--config.data.dataset={square_data}"] if words else []))
    assert (status, out) == (1, "")
    assert re.search(said, err)
