"""The commands as a user types them: record, train, eval, report, config, and their errors."""

import argparse
import errno
import json
import os
import pathlib
import shutil
import subprocess
import sys
import textwrap
from unittest import mock

import pytest
from conftest import run_command

import launch
from experiments.commands import report
from experiments.commands.common import split_overrides
from experiments.runs import loading, runtime
from experiments.runs.config import load_file, override
from experiments.tables import definition
from experiments.training import setup
from world_models.core.errors import ConfigError, UserError

ROOT = pathlib.Path(__file__).resolve().parents[3]


def test_record_then_train_in_one_folder(tmp_path, capsys):
    words = ["--config=configs/car_unet.py:debug", f"--workdir={tmp_path}"]
    status, last, _ = run_command(capsys, "record", *words)
    assert (status, last) == (0, str(tmp_path / "data"))
    status, last, err = run_command(capsys, "train", *words)
    assert (status, last) == (0, str(tmp_path / "checkpoints"))
    assert "parameters" in err
    assert "step 2/2" in err
    provenance = json.loads((tmp_path / "provenance.json").read_text())
    assert provenance["data"] == str(tmp_path / "data")
    assert provenance["versions"]["jax"]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {"step", "train/loss", "frames_per_second", "data_wait"} <= lines[0].keys()
    assert "eval/held_out/loss" in lines[-1]
    (loss,) = (line["train/loss"] for line in lines if line["step"] == 2 and "train/loss" in line)
    assert f"step 2/2 | loss {loss:.4f} |" in err  # of this very step
    (events,) = (path.read_bytes() for path in (tmp_path / "tensorboard").iterdir())
    assert b"eval/open_loop/futures" in events
    assert b"GIF89a" in events


def test_eval_writes_and_prints_metrics(workdir, capsys):
    status, last, _ = run_command(capsys, "eval", f"--workdir={workdir}")
    assert (status, last) == (0, str(workdir / "eval" / "2.json"))
    found = json.loads(pathlib.Path(last).read_text())
    trained = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()][-1]
    assert found["eval/held_out/loss"] == pytest.approx(trained["eval/held_out/loss"], rel=1e-5)


def test_runs_are_reported(workdir, capsys):
    status, last, _ = run_command(capsys, "report", f"--workdir={workdir}")
    assert (status, last) == (0, str(workdir / "index.html"))
    assert "eval/held_out/loss" in (workdir / "index.html").read_text()
    (workdir / "index.html").unlink()


FLAGS = {
    "record": ("--config", "--workdir"),
    "train": ("--config", "--workdir", "--sweep", "--launch", "--coordinator"),
    "eval": ("--workdir", "--step", "--coordinator"),
    "imagine": ("--workdir", "--step"),
    "plan": ("--workdir", "--step"),
    "table": ("NAME", "--list", "--scale", "--seeds", "--publish"),
    "report": ("--workdir",),
    "config": ("FILE",),
}


def test_help_names_every_command_and_flag_and_imports_no_jax():
    """In one process, where JAX has not been imported."""
    script = f"""
        import contextlib, io, sys
        import launch
        def said(*words):
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                try:
                    status = launch.main(["launch.py", *words])
                except SystemExit as error:
                    status = error.code
            assert status == 0, words
            return out.getvalue()
        for command, flags in {FLAGS}.items():
            assert command in said("--help"), command
            text = said(command, "--help")
            assert all(flag in text for flag in flags), (command, text)
        assert "drift" in said("table", "--list")
        assert "UniSim" in said("table", "--list")
        slow = {{"jax", "tensorflow_datasets", "matplotlib", "scipy", "orbax"}} & set(sys.modules)
        assert not slow, slow
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, check=True)


def test_every_flag_has_a_sentence():
    subcommands = next(a for a in launch.make_parser()._actions if isinstance(a, argparse._SubParsersAction)).choices
    assert tuple(subcommands) == launch.COMMANDS
    for command in subcommands.values():
        assert all(action.help and len(action.help) > 10 for action in command._actions), command.prog


def test_what_is_no_command_lists_those_that_are(capsys):
    for words in (["dream"], []):
        status, _, err = run_command(capsys, *words)
        assert status == 2
        assert all(command in err for command in launch.COMMANDS)
    assert "'dream'" in run_command(capsys, "dream")[2]


def test_overrides_are_taken_out_of_a_command_line():
    words = ["--config=a.py", "--config.x=1 2", "--config.y", "-3", "--step", "4", "--config.z", "--workdir=b"]
    own, overrides = split_overrides(words)
    assert own == ["--config=a.py", "--step", "4", "--workdir=b"]
    assert overrides == ["--config.x=1 2", "--config.y=-3", "--config.z"]


def test_config_prints_every_value_with_its_origin(capsys):
    status = launch.main(["launch.py", "config", "configs/car_unet.py", "--config.train.num_steps=7"])
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert status == 0
    assert lines["train.num_steps"].split()[1:] == ["7", "command", "line"]
    assert lines["train.optimizer.learning_rate"].split()[1:] == ["0.0005", "configs/car_unet.py"]
    assert lines["seed"].split()[1:3] == ["0", "default"]


TRAIN = ["train", "--config=configs/car_unet.py", "--workdir=/tmp/none"]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["train", "--workdir=/tmp/none"], ["--config"]),
        (["train", "--config=configs/car_unet.py"], ["--workdir"]),
        (["train", "--config=configs/car_unet.py", "--workdir="], ["--workdir"]),
        (["train", "--config=configs/car_unet.py", "--workdir=gs://a/b"], ["--workdir", "gs://a/b"]),
        (["train", "--config=configs/car_unet.py", "--workdir=s3:/a/b"], ["--workdir", "s3:/a/b"]),
        (["train", "--config=configs/car_unet.py", "--workdir=/tmp/none/a\nb"], ["--workdir", "'\\n'"]),
        (["train", "--config=configs/car_unet.py", "--workdir=/tmp/none/a[1]"], ["--workdir", "'['"]),
        (["record", "--config=configs/car_unet.py", "--workdir=/tmp/none/a\\b"], ["--workdir", "'\\\\'"]),
        (["table", "drift", "--workdir=/tmp/none/a*"], ["--workdir", "'*'"]),
        (
            ["record", "--config=configs/car_unet.py", "--workdir=/tmp/none", "--config.data.dataset=gs://a/b"],
            ["config.data.dataset", "gs://a/b"],
        ),
        (["train", "--config=configs/none.py", "--workdir=/tmp/none"], ["configs/none.py", "configs/atari_diamond.py"]),
        (["train", "--config=configs/car_unet.py:huge", "--workdir=/tmp/none"], ["'huge'", "'debug'"]),
        ([*TRAIN, "--config.train.num_step=1"], ["train.num_step:", "config.train.num_steps"]),
        ([*TRAIN, "--config.model.context_nois=1"], ["config.model.context_noise", "config.model.context_offsets"]),
        ([*TRAIN, "--config.train.num_steps=many"], ["config.train.num_steps='many'", "int"]),
        ([*TRAIN, "--config.train.num_steps=1.5"], ["config.train.num_steps='1.5'", "int"]),
        ([*TRAIN, "--config.train.num_steps"], ["config.train.num_steps=''"]),
        ([*TRAIN, "--config.train=5"], ["config.train is a block", "batch_size"]),
        ([*TRAIN, "--config.train.=5"], ["train.", "batch_size"]),
        ([*TRAIN, "--config.horizon=5"], ["config.eval.open_loop.horizon", "config.eval.imagine.horizon", " or "]),
        ([*TRAIN, "--config.eval.sampler.foo=5"], ["config.eval.sampler has", "sigma_max"]),
        ([*TRAIN, "--config.foo=5"], ["config has", "diffusion"]),
        ([*TRAIN, "fast"], ["fast"]),
        (TRAIN, ["config.data.dataset", "/tmp/none/data"]),
        (["train", "--config=configs/atari_diamond.py", "--workdir=/tmp/none", "--sweep"], ["get_sweep()"]),
        ([*TRAIN, "--sweep", "--parallel=9"], ["--parallel=9"]),
        ([*TRAIN, "--config.runtime.xla_flags=fast"], ["config.runtime.xla_flags", "fast"]),
        ([*TRAIN, "--num_processes=2"], ["--coordinator"]),
        ([*TRAIN, "--nodes=two"], ["--nodes", "two"]),
        (["table"], ["--list", *definition.names()]),
        (["table", "drifd", "--workdir=/tmp/none"], ["'drifd'", "'drift'"]),
        (["table", "drift", "--workdir=/tmp/none", "--seed=3"], ["--seed=3"]),
        (["table", "drift", "--workdir=/tmp/none", "--config.seed=3"], ["--config.seed=3"]),
        (["report", "--workdir=/tmp/none"], ["--workdir=/tmp/none"]),
        (["eval", "--workdir=/tmp/none"], ["--workdir=/tmp/none"]),
        (["imagine", "--workdir=/tmp/none"], ["--workdir=/tmp/none"]),
        (["config", "configs/none.py"], ["configs/none.py"]),
    ],
)
def test_bad_command_lines_end_with_one_sentence_that_names_the_flag(capsys, words, names):
    status, _, err = run_command(capsys, *words)
    assert status == 1
    assert all(name in err for name in names), err
    assert len(err.strip().splitlines()) == 1
    assert not os.path.exists("/tmp/none")
    assert not os.path.exists("gs:")


def test_a_second_training_in_a_workdir_is_told_so_and_a_dead_one_holds_no_lock(tmp_path, square_data, capsys):
    words = [
        "train",
        "--config=configs/car_unet.py:debug",
        f"--workdir={tmp_path}",
        f"--config.data.dataset={square_data}",
        "--config.eval.every=0",
    ]
    script = "import sys, time; from experiments.runs.lock import exclusive; import pathlib\n"
    script += "with exclusive(pathlib.Path(sys.argv[1])): print(flush=True); time.sleep(60)"
    other = subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE, cwd=ROOT)
    other.stdout.readline()
    status, _, err = run_command(capsys, *words)
    assert status == 1
    assert f"--workdir={tmp_path}: another process" in err
    assert {path.name for path in tmp_path.iterdir()} == {"lock"}
    other.kill()
    other.communicate()
    assert run_command(capsys, *words)[0] == 0
    assert not (tmp_path / "lock").exists()
    # Nothing is compiled for a training that is finished, and no other config can claim it.
    launches = len(json.loads((tmp_path / "provenance.json").read_text())["launches"])
    status, last, err = run_command(capsys, *words)
    assert (status, last) == (0, str(tmp_path / "checkpoints"))
    assert "config.train.num_steps=2 already" in err
    assert len(json.loads((tmp_path / "provenance.json").read_text())["launches"]) == launches
    assert "config.seed" in run_command(capsys, *words, "--config.seed=5")[2]
    # Nor is a run taken over whose config is gone or damaged.
    (tmp_path / "config.json").write_text("{")
    assert "config.json is damaged" in run_command(capsys, *words, "--config.train.num_steps=3")[2]
    (tmp_path / "config.json").unlink()
    assert "config.json is missing" in run_command(capsys, *words, "--config.train.num_steps=3")[2]


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (["eval"], '{"revision'),
        (["imagine"], "[]"),
        (["train", "--config=configs/car_unet.py:debug", "--config.train.num_steps=3"], '{"launches": 3}'),
    ],
)
def test_damage_is_named_before_anything_is_computed(
    workdir, square_data, tmp_path, monkeypatch, capsys, command, text
):
    folder = tmp_path / "run"
    shutil.copytree(workdir, folder)
    (folder / "provenance.json").write_text(text)
    monkeypatch.setattr(setup, "_compile", mock.Mock(side_effect=AssertionError))
    monkeypatch.setattr(loading, "load", mock.Mock(side_effect=AssertionError))
    words = [*command, f"--config.data.dataset={square_data}"]
    status, _, err = run_command(capsys, *words, f"--workdir={folder}")
    assert status == 1
    assert f"{folder / 'provenance.json'} is damaged" in err
    assert len(err.strip().splitlines()) == 1


def test_a_refused_training_leaves_the_folder_to_the_corrected_command(tmp_path, square_data, capsys):
    words = [
        "train",
        "--config=configs/car_unet.py:debug",
        f"--workdir={tmp_path}",
        f"--config.data.dataset={square_data}",
    ]
    status, _, err = run_command(capsys, *words, f"--config.init_from.checkpoints={tmp_path}/none")
    assert status == 1
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "config.json").exists()


def test_a_full_or_read_only_disk_is_named(tmp_path, monkeypatch, capsys):
    for number in (errno.ENOSPC, errno.EROFS):
        error = OSError(number, os.strerror(number), str(tmp_path / "index.html"))
        monkeypatch.setattr(report, "run", mock.Mock(side_effect=error))
        status, _, err = run_command(capsys, "report", f"--workdir={tmp_path}")
        assert status == 1
        assert str(tmp_path / "index.html") in err
        assert len(err.strip().splitlines()) == 1
    monkeypatch.setattr(report, "run", mock.Mock(side_effect=OSError(errno.EIO, "bad")))
    with pytest.raises(OSError, match="bad"):
        run_command(capsys, "report", f"--workdir={tmp_path}")


def test_flags_of_xla_in_a_workdir_are_not_applied(workdir, capsys, monkeypatch):
    """The folder may be somebody else's; those of the command line are."""
    seen = []
    monkeypatch.setattr(runtime, "setup", seen.append)
    monkeypatch.setattr(loading, "load", mock.Mock(side_effect=UserError("stop")))
    config = json.loads((workdir / "config.json").read_text())
    config["runtime"]["xla_flags"] = "--xla_stored=1"
    (workdir / "config.json").write_text(json.dumps(config))
    run_command(capsys, "eval", f"--workdir={workdir}")
    run_command(capsys, "eval", f"--workdir={workdir}", "--config.runtime.xla_flags=--xla_given=1")
    assert seen == ["", "--xla_given=1"]
    config["runtime"]["xla_flags"] = ""
    (workdir / "config.json").write_text(json.dumps(config))


def test_a_checkpoint_that_is_not_there_is_named(workdir, capsys):
    status, _, err = run_command(capsys, "eval", f"--workdir={workdir}", "--step=7")
    assert status == 1
    assert "has no checkpoint 7; it has [2]" in err


def test_the_core_needs_neither_tensorflow_nor_torch():
    script = """
        import sys
        import launch, experiments.training.loop
        from experiments.evaluation import futures
        from experiments.runs import recording
        from world_models.data import rlds, videos
        assert not {"tensorflow", "torch", "gymnasium"} & set(sys.modules), set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, check=True)


def test_workers_that_record_do_not_import_jax():
    script = "import sys, experiments.runs.recording, world_models.environments.gymnasium, world_models.data.videos\n"
    script += "assert not {'jax', 'tensorflow_datasets'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_fields_and_whole_blocks_are_overridden_with_their_types():
    config = load_file("configs/car_unet.py:debug")
    words = ["seed=3", "runtime.mesh=(1, 1, -1)", "data.dataset=a=b", "record.environment_kwargs={'length': 7}"]
    override(config, [f"--config.{word}" for word in words])
    assert (config.seed, config.runtime.mesh, config.data.dataset) == (3, (1, 1, -1), "a=b")
    assert config.record.environment_kwargs.to_dict() == {"length": 7}
    with pytest.raises(ConfigError) as error:
        override(config, ["--config.trian.num_steps=3"])
    assert error.value.field == "config.trian.num_steps"
    with pytest.raises(UserError, match="num_steps"):
        override(config, ["--config.train.num_steps=2.5"])
