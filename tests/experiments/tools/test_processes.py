"""Several real processes train as one: the same curve, one agreed stop, a dead peer noticed, other counts resumed."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from experiments.runs.metrics import read_metrics
from experiments.training.loop import train
from experiments.training.monitoring import HUNG
from tests.experiments.training.test_train import assert_same_weights, weights

ROOT = pathlib.Path(__file__).resolve().parents[3]


def start(workdir, data, count, *overrides):
    """Starts `count` processes that train together on one CPU device each."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, "launch.py", "train", "--config=configs/car_unet.py:debug", f"--workdir={workdir}"]
    words += [f"--config.data.dataset={data}", *(f"--config.{override}" for override in overrides)]
    words += [f"--coordinator=127.0.0.1:{port}", f"--num_processes={count}"]
    workdir.mkdir(parents=True, exist_ok=True)
    started = []
    for i in range(count):
        with open(workdir / f"out.{i}", "w") as out, open(workdir / f"err.{i}", "w") as err:
            started.append(
                subprocess.Popen([*words, f"--process_id={i}"], stdout=out, stderr=err, cwd=ROOT, env=dict(os.environ))
            )
    return started


def wait_for_step(workdir, step, processes, seconds=150):
    """Returns when the metrics of a step are there; fails if a process ends before."""
    deadline = time.monotonic() + seconds
    while max([line["step"] for line in read_metrics(workdir)], default=0) < step:
        assert time.monotonic() < deadline, (workdir / "err.0").read_text()[-2000:]
        ended = [(i, p.returncode) for i, p in enumerate(processes) if p.poll() is not None]
        assert not ended, (ended, (workdir / f"err.{ended[0][0]}").read_text()[-2000:])
        time.sleep(0.02)


def losses(workdir):
    return [line["train/loss"] for line in read_metrics(workdir) if "train/loss" in line]


def test_two_processes_stop_together_and_one_goes_on_to_the_same_end(tiny_config, square_data, tmp_path):
    fields = {"train.num_steps": 400, "runtime.checkpoint_every": 1000, "eval.every": 0}
    tiny_config.update_from_flattened_dict(fields)
    processes = start(tmp_path / "two", square_data, 2, *(f"{k}={v}" for k, v in fields.items()))
    wait_for_step(tmp_path / "two", 5, processes)
    processes[1].send_signal(signal.SIGTERM)  # one is told; both stop
    assert [process.wait(120) for process in processes] == [0, 0], (tmp_path / "two" / "err.1").read_text()[-2000:]
    stopped, _ = weights(tmp_path / "two")
    assert 5 <= stopped < 400
    assert f"saved step {stopped} of 400" in (tmp_path / "two" / "out.0").read_text()
    assert (tmp_path / "two" / "out.1").read_text() == ""
    assert len(losses(tmp_path / "two")) == stopped
    tiny_config.train.num_steps = stopped + 20
    train(tiny_config, tmp_path / "two")
    train(tiny_config, tmp_path / "one")
    # Sums over two devices are made in another order; that is all the difference there is.
    np.testing.assert_allclose(losses(tmp_path / "two")[:stopped], losses(tmp_path / "one")[:stopped], rtol=2e-3)
    assert losses(tmp_path / "two")[0] == pytest.approx(losses(tmp_path / "one")[0], rel=1e-5)
    assert weights(tmp_path / "two")[0] == stopped + 20


def test_a_dead_peer_ends_the_others_with_a_word(square_data, tmp_path):
    fields = ("train.num_steps=100000", "runtime.checkpoint_every=20", "eval.every=0")
    processes = start(tmp_path / "run", square_data, 2, *fields, "runtime.watchdog_seconds=8.0")
    wait_for_step(tmp_path / "run", 25, processes)
    processes[1].kill()
    assert processes[0].wait(90) == HUNG
    said = (tmp_path / "run" / "err.0").read_text()
    assert "No step ended for 8 s" in said or "onnection" in said, said[-2000:]
    assert weights(tmp_path / "run")[0] >= 20


@pytest.mark.slow
@pytest.mark.timeout(1500)  # alone on two cores it takes seven minutes
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_ten_interruptions_at_random_times_change_nothing(tiny_config, square_data, tmp_path, number):
    fields = {"train.num_steps": 300, "eval.every": 70}
    fields |= {"runtime.checkpoint_every": 1, "runtime.watchdog_seconds": 60.0}
    tiny_config.update_from_flattened_dict(fields)
    train(tiny_config, tmp_path / "straight")
    words = [
        sys.executable,
        "launch.py",
        "train",
        "--config=configs/car_unet.py:debug",
        f"--workdir={tmp_path / 'run'}",
    ]
    words += [f"--config.data.dataset={square_data}", *(f"--config.{k}={v}" for k, v in fields.items())]
    rng = np.random.default_rng(0)
    for _ in range(10):
        before = max([line["step"] for line in read_metrics(tmp_path / "run")], default=0)
        with open(tmp_path / "err", "w") as err:
            process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=err, cwd=ROOT)
        if rng.random() < 0.7:  # else somewhere in the start
            wait_for_step(tmp_path / "run", before + 1, [])
        time.sleep(rng.uniform(0, 1.5))  # a save takes most of a step's time here, so many of these hit one
        process.send_signal(number)
        status = process.wait(60)
        assert status in ((0, -number) if number == signal.SIGTERM else (-number,)), (tmp_path / "err").read_text()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT, timeout=250)
    assert_same_weights(tmp_path / "straight", tmp_path / "run")
    assert losses(tmp_path / "run") == losses(tmp_path / "straight")
