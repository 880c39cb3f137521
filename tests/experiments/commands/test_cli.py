"""The commands end to end, as a user types them."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import experiments
import launch
from experiments.tables import definition
from world_models.core.imagination import imagine

ROOT = pathlib.Path(__file__).resolve().parents[3]


def run(capsys, *words):
    """(exit status, last line of stdout, stderr) of `python launch.py <words>`, in this process."""
    status = launch.main(["launch.py", *map(str, words)])
    out, err = capsys.readouterr()
    return status, out.strip().splitlines()[-1] if out.strip() else "", err


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, square_data):
    """A run trained for two steps through the command line."""
    folder = tmp_path_factory.mktemp("run")
    words = ["train", "--config=configs/demo.py:debug", f"--workdir={folder}", f"--config.data.dataset={square_data}"]
    assert launch.main(["launch.py", *words]) == 0
    return folder


def test_record_then_train_in_one_folder(tmp_path, capsys):
    words = ["--config=configs/demo.py:debug", f"--workdir={tmp_path}"]
    status, last, _ = run(capsys, "record", *words)
    assert (status, last) == (0, str(tmp_path / "data"))
    status, last, err = run(capsys, "train", *words)
    assert (status, last) == (0, str(tmp_path / "checkpoints"))
    assert "parameters" in err
    assert "step 2/2" in err
    provenance = json.loads((tmp_path / "provenance.json").read_text())
    assert provenance["data"] == str(tmp_path / "data")
    assert provenance["versions"]["jax"]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {"step", "train/loss", "frames_per_second", "data_wait"} <= lines[0].keys()
    assert "eval/held_out/loss" in lines[-1]
    assert list((tmp_path / "tensorboard").iterdir())


def test_eval_writes_and_prints_metrics(workdir, capsys):
    status, last, _ = run(capsys, "eval", f"--workdir={workdir}")
    assert (status, last) == (0, str(workdir / "eval" / "2.json"))
    found = json.loads(pathlib.Path(last).read_text())
    trained = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()][-1]
    assert found["eval/held_out/loss"] == pytest.approx(trained["eval/held_out/loss"], rel=1e-5)


def test_imagine_makes_metrics_videos_pictures_and_a_report(workdir, capsys):
    status, last, _ = run(capsys, "imagine", f"--workdir={workdir}", "--config.eval.imagine.horizon=5")
    assert (status, last) == (0, str(workdir / "imagine" / "report.html"))
    names = {p.name for p in (workdir / "imagine").iterdir()}
    assert {"metrics.json", "futures.mp4", "futures.gif", "branches.mp4", "samples.mp4", "strip.png"} <= names
    metrics = json.loads((workdir / "imagine" / "metrics.json").read_text())
    assert metrics["horizon"] == [1, 2, 3, 4, 5]
    for name in ("psnr", "ssim", "psnr_changed", "ssim_changed"):
        assert {key: len(row) for key, row in metrics[name].items()} == {"imagined": 5, "copy_last": 5, "mean_frame": 5}
    assert {"mean", "low", "high"} == metrics["action_following"].keys()
    assert metrics["num_contexts"] == 4
    # The baseline is known: the square moves by its own width every step, so copying is wrong on two squares of pixels
    # at odd horizons, and the changed pixels hold both.
    truth = 10 * np.log10(3 / (1 + (128 / 255) ** 2 + (32 / 255) ** 2))
    assert metrics["psnr_changed"]["copy_last"][0] == pytest.approx(truth, abs=0.05)


def test_an_opened_run_can_be_stepped_in(workdir):
    loaded = experiments.load(workdir)
    clip = loaded.windows("test", 8).load(np.arange(2))
    futures = loaded.imagine(clip.frames[:, :4], clip.actions[:, :-1], seed=3)
    assert futures.shape == (2, 4, 16, 16, 3)
    import jax

    by_hand = imagine(loaded.model, clip.frames[:, :4], clip.actions[:, :3], clip.actions[:, 3:-1], jax.random.key(3))
    np.testing.assert_allclose(np.asarray(futures, int), np.asarray(by_hand, int), atol=1)


def test_tables_are_listed_and_runs_reported(workdir, capsys):
    status = launch.main(["launch.py", "table", "--list"])
    assert status == 0
    assert "UniSim" in capsys.readouterr().out
    status, last, _ = run(capsys, "report", f"--workdir={workdir}")
    assert (status, last) == (0, str(workdir / "index.html"))
    assert "eval/held_out/loss" in (workdir / "index.html").read_text()
    (workdir / "index.html").unlink()


def test_usage_lists_the_verbs(capsys):
    status, _, err = run(capsys, "--help")
    assert status == 0
    assert all(command in err for command in ("record", "train", "eval", "imagine", "table", "report"))
    status, _, err = run(capsys, "dream")
    assert status == 2
    assert "'dream' is no command" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--workdir=/tmp/none"], "--config is missing"),
        (["train", "--config=configs/demo.py"], "--workdir is missing"),
        (
            ["train", "--config=configs/none.py", "--workdir=/tmp/none"],
            "is no file; configs here: configs/atari_diamond.py, configs/",
        ),
        (["train", "--config=configs/demo.py:huge", "--workdir=/tmp/none"], "no variant 'huge'"),
        (["train", "--config=configs/demo.py", "--workdir=/tmp/none", "--config.train.lr=1"], "no field \"'lr'\""),
        (["train", "--config=configs/demo.py", "--workdir=/tmp/none", "fast"], "'fast' is no flag"),
        (["train", "--config=configs/demo.py", "--workdir=/tmp/none"], "config.data.dataset='/tmp/none/data' must"),
        (["train", "--config=configs/atari_diamond.py", "--workdir=/tmp/none", "--sweep"], "has no get_sweep()"),
        (["train", "--config=configs/demo.py", "--workdir=/tmp/none", "--sweep", "--parallel=9"], "--parallel=9"),
        (
            ["train", "--config=configs/demo.py", "--workdir=/tmp/none", "--config.runtime.xla_flags=fast"],
            "no flag of XLA",
        ),
        (["train", "--config=configs/demo.py", "--workdir=/tmp/none", "--num_processes=2"], "--coordinator is missing"),
        (["train", "--config=configs/demo.py", "--workdir=/tmp/none", "--nodes=two"], "flag --nodes=two"),
        (
            ["table"],
            f"name one table ({', '.join(definition.names())}), or --list them",
        ),
        (["table", "drifd", "--workdir=/tmp/none"], "no table 'drifd': did you mean 'drift'?"),
        (["table", "drift", "--workdir=/tmp/none", "--seed=3"], "Unknown command line flag 'seed'"),
        (["report", "--workdir=/tmp/none"], "--workdir=/tmp/none is no folder"),
        (["eval", "--workdir=/tmp/none"], "holds no run"),
        (["imagine", "--workdir=/tmp/none"], "holds no run"),
    ],
)
def test_bad_command_lines_end_with_one_sentence(capsys, words, message):
    status, _, err = run(capsys, *words)
    assert status == 1
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert not os.path.exists("/tmp/none")


def test_a_checkpoint_that_is_not_there_is_named(workdir, capsys):
    status, _, err = run(capsys, "eval", f"--workdir={workdir}", "--step=7")
    assert status == 1
    assert "has no checkpoint 7; it has [2]" in err


def test_a_horizon_beyond_every_episode_is_refused(workdir, capsys):
    status, _, err = run(capsys, "imagine", f"--workdir={workdir}", "--config.eval.imagine.horizon=90")
    assert status == 1
    assert "config.eval.imagine.num_context + config.eval.imagine.horizon=94 must" in err


def test_data_of_another_kind_are_refused(workdir, capsys, tmp_path):
    from conftest import write_dataset

    other = write_dataset(tmp_path, {"train": [9], "validation": [9], "test": [20]}, size=24)
    status, _, err = run(capsys, "imagine", f"--workdir={workdir}", f"--config.data.dataset={other}")
    assert status == 1
    assert "has frames (24, 24, 3) and 2 discrete actions; the model of" in err


def test_the_core_needs_neither_tensorflow_nor_torch():
    script = """
        import sys
        import launch, experiments.training.loop
        from experiments.commands import eval, imagine, record
        from world_models.data import rlds, videos
        assert not {"tensorflow", "torch", "gymnasium"} & set(sys.modules), set(sys.modules)
    """
    import textwrap

    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, check=True)


def test_workers_that_record_do_not_import_jax():
    script = "import sys, experiments.commands.record, world_models.environments.gymnasium, world_models.data.videos\n"
    script += "assert not {'jax', 'tensorflow_datasets'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
