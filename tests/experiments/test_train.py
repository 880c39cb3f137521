"""The training loop: learning, resuming, stopping, and refusing."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import jax
import numpy as np
import pytest

import experiments
from experiments import rollouts, state
from experiments import train as training
from experiments.progress import read_metrics
from experiments.train import train
from world_models import checkpoints
from world_models.errors import UserError


def weights(workdir):
    """All trees of the newest checkpoint, as raw arrays by path."""
    latest = max(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())
    run = experiments.load(workdir)
    assert run.step == latest
    return latest, [np.asarray(x) for x in jax.tree.leaves(run.weights)]


def assert_same_weights(a, b):
    (step_a, leaves_a), (step_b, leaves_b) = weights(a), weights(b)
    assert step_a == step_b
    for x, y in zip(leaves_a, leaves_b, strict=True):
        np.testing.assert_array_equal(x, y)


def configured(config, **train_fields):
    config.train.update(train_fields)
    return config


def test_stopping_and_resuming_changes_nothing(tiny_config, tmp_path):
    config = configured(tiny_config, num_steps=8, eval_every=4, checkpoint_every=3, ema_decay=0.5)
    train(config, tmp_path / "straight")
    stepper = training.make_step
    calls = []

    def stop_after_four(*args):
        step = stepper(*args)

        def noisy(*inputs):
            jax.debug.callback(lambda: (calls.append(1), len(calls) == 4 and signal.raise_signal(signal.SIGTERM)))
            return step(*inputs)

        return noisy

    # The first part is stopped by a real SIGTERM in the middle; the rest runs undisturbed.
    training.make_step = stop_after_four
    try:
        train(config, tmp_path / "parts")
    finally:
        training.make_step = stepper
    stopped_at = weights(tmp_path / "parts")[0]
    assert 4 <= stopped_at < 8
    train(config, tmp_path / "parts")
    assert_same_weights(tmp_path / "straight", tmp_path / "parts")
    lines = [json.loads(line) for line in (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if "train/loss" in line]
    assert steps == list(range(1, 9))
    straight = [line for line in read_metrics(tmp_path / "straight") if "train/loss" in line]
    assert [line["train/loss"] for line in lines if "train/loss" in line] == [line["train/loss"] for line in straight]
    assert len(json.loads((tmp_path / "parts" / "provenance.json").read_text())["launches"]) == 2


def test_killed_run_resumes_to_the_same_weights(tiny_config, square_data, tmp_path):
    overrides = ["--config.train.num_steps=30", "--config.train.checkpoint_every=4", "--config.train.eval_every=100"]
    config = configured(tiny_config, num_steps=30, checkpoint_every=4, eval_every=100)
    train(config, tmp_path / "straight")
    command = [
        sys.executable,
        "launch.py",
        "train",
        "--config=configs/demo.py:debug",
        f"--workdir={tmp_path / 'killed'}",
    ]
    command += [f"--config.data.dataset={square_data}", *overrides]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    folder, deadline = tmp_path / "killed" / "checkpoints", time.monotonic() + 120
    while not (folder / "8").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "30").exists()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=200)
    assert_same_weights(tmp_path / "straight", tmp_path / "killed")


def test_second_signal_exits_at_once(tmp_path):
    script = """
        import time
        from experiments.progress import StopSignal
        with StopSignal():
            print("ready", flush=True)
            time.sleep(60)
            time.sleep(60)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == -signal.SIGTERM


def test_accumulated_steps_equal_whole_steps(tiny_config, tmp_path):
    one = configured(tiny_config, num_steps=3, batch_size=8, accumulate=1, eval_every=9)
    train(one, tmp_path / "one")
    train(configured(one, accumulate=4), tmp_path / "four")
    for a, b in zip(weights(tmp_path / "one")[1], weights(tmp_path / "four")[1], strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_step_is_compiled_once_and_the_state_is_donated(tiny_config, tmp_path):
    run = training.prepare(tiny_config, tmp_path)
    before = run.state
    batch, _ = next(run.batches)
    run.step(run.state, batch)
    assert before.params["unet"]["conv_in"]["kernel"].is_deleted()
    run.saver.close()
    run.writers.close()


def test_weight_decay_spares_biases_and_embeddings():
    params = {"a": {"kernel": np.ones(2), "bias": np.ones(2)}, "table": {"embedding": np.ones(2)}}
    assert state._decayed(params) == {"a": {"kernel": True, "bias": False}, "table": {"embedding": False}}


def test_nan_stops_with_the_step_the_position_and_the_last_good_checkpoint(tiny_config, tmp_path, monkeypatch):
    config = configured(tiny_config, num_steps=20, checkpoint_every=2, eval_every=100)
    from world_models.video_diffusion.model import VideoDiffusion

    loss = VideoDiffusion.loss

    def poisoned(self, clip, keys):
        value, metrics = loss(self, clip, keys)
        bad = jax.random.key_data(keys)[0, 0] == jax.random.key_data(self_key)[0]
        value = jax.numpy.where(bad, jax.numpy.nan, value)
        return value, metrics | {"loss": value}

    step_five = jax.random.fold_in(jax.random.key(config.seed), 5)
    self_key = jax.random.fold_in(step_five, 0)
    monkeypatch.setattr(VideoDiffusion, "loss", poisoned)
    with pytest.raises(
        training.Diverged, match=r"not finite at step 6 .*'next_index': 6.*last good checkpoint is step 4"
    ):
        train(config, tmp_path)
    _, leaves = weights(tmp_path)
    assert all(np.isfinite(x).all() for x in leaves)


def test_workdir_of_another_config_is_left_alone(tiny_config, tmp_path):
    train(tiny_config, tmp_path)
    before = (tmp_path / "config.json").read_text()
    tiny_config.train.learning_rate = 0.5
    tiny_config.model.condition = 32
    with pytest.raises(
        UserError, match=r"config.model.condition is 32, there it is 16; config.train.learning_rate is 0.5"
    ):
        train(tiny_config, tmp_path)
    assert (tmp_path / "config.json").read_text() == before


def test_run_can_be_made_longer(tiny_config, tmp_path):
    train(tiny_config, tmp_path)
    train(configured(tiny_config, num_steps=4), tmp_path)
    assert weights(tmp_path)[0] == 4


def test_other_data_under_the_same_name_are_refused(tiny_config, tmp_path):
    from conftest import write_dataset

    lengths = {"train": [12], "validation": [12], "test": [12]}
    data = write_dataset(tmp_path / "a", lengths)
    tiny_config.data.dataset = str(data)
    train(tiny_config, tmp_path / "run")
    other = write_dataset(tmp_path / "b", lengths | {"train": [13]})
    data.rename(tmp_path / "old")
    other.rename(data)
    with pytest.raises(UserError, match=r"is not the data set that .* was trained on"):
        train(configured(tiny_config, num_steps=4), tmp_path / "run")


def test_full_disk_while_saving_names_the_newest_complete_checkpoint(tiny_config, tmp_path, monkeypatch):
    config = configured(tiny_config, num_steps=6, checkpoint_every=2, eval_every=100)
    save = checkpoints.ocp.CheckpointManager.save

    def full(self, step, *args, **kwargs):
        if step == 4:
            raise OSError(28, "No space left on device")
        return save(self, step, *args, **kwargs)

    monkeypatch.setattr(checkpoints.ocp.CheckpointManager, "save", full)
    with pytest.raises(UserError, match=r"No space left while writing checkpoint 4 .* newest complete one is step 2"):
        train(config, tmp_path)
    monkeypatch.undo()
    train(config, tmp_path)
    assert weights(tmp_path)[0] == 6


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "model.context_offsets",
            (5, 1),
            r"config.data.clip_length=5 must be larger than 5, the first of",
        ),
        ("model.context_offsets", (1, 2), r"config.model.context_offsets=\(1, 2\) must fall and end with 1"),
        ("diffusion.process", "flow", r"config.diffusion.process='flow' must be one of"),
        ("diffusion.process", "ddpm", r"which the process 'ddpm' does not know"),
        ("sampler.order", 3, r"config.sampler.order=3 must be one of"),
        ("sampler.num_steps", 0, r"config.sampler.num_steps=0 must be at least 1"),
        ("model.channels", (8, 8, 8, 8, 8, 8), r"multiples of config.model.patch x 2\^\(levels - 1\) = 32"),
        ("model.channels", (8, 40), r"config.model.channels=\(8, 40\)"),
        ("model.condition", 15, r"config.model.condition=15 must be"),
        ("model.target", "velocity", r"target='velocity' must be one of"),
        ("train.batch_size", 6, r"config.train.batch_size=6 must be a multiple of 1 .* config.train.accumulate=4"),
        ("train.schedule", "linear", r"config.train.schedule='linear' must be"),
        ("mesh", (3, 1, 1), r"config.mesh=\(3, 1, 1\) does not fit 1 device"),
        ("experiment", "video_transformer", r"config.experiment='video_transformer' is no file"),
        ("data.clip_length", 100, r"config.data.clip_length=100 is longer than every episode"),
        ("eval.num_context", 2, r"config.eval.num_context=2 must be at least"),
    ],
)
def test_config_that_cannot_run_is_refused_before_anything_is_written(tiny_config, tmp_path, field, value, message):
    tiny_config.train.accumulate = 4
    tiny_config.unlock()
    tiny_config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=message):
        train(tiny_config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_sharded_training_equals_one_device(square_data, tmp_path):
    script = f"""
        import pathlib, sys
        import jax, numpy as np
        from configs.demo import get_config
        from experiments.train import prepare
        config = get_config("debug")
        config.data.dataset = {str(square_data)!r}
        config.train.batch_size = 8
        losses = {{}}
        for mesh in ((8, 1, 1), (1, 8, 1), (2, 4, 1)):
            config.mesh = mesh
            run = prepare(config, pathlib.Path({str(tmp_path)!r}) / str(mesh[1]))
            moment = run.state.optimizer[1][0].mu["unet"]["conv_in"]["kernel"]
            assert moment.sharding.shard_shape(moment.shape)[3 if moment.shape[3] % 8 == 0 else 2] <= moment.shape[3]
            held = sum(x.addressable_shards[0].data.size for x in jax.tree.leaves(run.state.optimizer))
            whole = sum(x.size for x in jax.tree.leaves(run.state.optimizer))
            assert mesh[1] == 1 or held < 2 * whole / mesh[1], (held, whole)
            state, out = run.state, []
            for _ in range(3):
                batch, _ = next(run.batches)
                state, metrics = run.step(state, batch)
                out.append(float(metrics["loss"]))
            losses[mesh] = out
        print(list(losses.values()))
    """
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, env=environment, timeout=250
    )
    assert result.returncode == 0, result.stderr[-2000:]
    losses = json.loads(result.stdout.splitlines()[-1])
    from configs.demo import get_config

    config = get_config("debug")
    config.data.dataset = str(square_data)
    config.train.batch_size = 8
    run = training.prepare(config, tmp_path / "one")
    single, current = [], run.state
    for _ in range(3):
        batch, _ = next(run.batches)
        current, metrics = run.step(current, batch)
        single.append(float(metrics["loss"]))
    for sharded in losses:
        np.testing.assert_allclose(sharded, single, rtol=1e-4)


def test_toy_world_is_learned_to_a_stated_error(tiny_config, tmp_path):
    """Held-out futures of the square world: under 10/255 root mean squared error where copying makes over 45."""
    config = configured(
        tiny_config, num_steps=350, batch_size=16, learning_rate=2e-3, eval_every=1000, checkpoint_every=1000
    )
    config.model.update({"channels": (32, 32), "condition": 64, "sigma_data": 0.5, "sigma_mean": -0.4})
    config.sampler.sigma_max = 5.0
    train(config, tmp_path)
    run = experiments.load(tmp_path)
    windows = run.windows("test", 4 + 8)
    results = rollouts.run_rollouts(run.graphdef, run.weights, windows, 4, 16, jax.random.key(0))
    error = lambda frames: float(np.sqrt(np.mean((frames.astype(float) - results.truth) ** 2)))
    copied = np.broadcast_to(results.clip.frames[:, 3:4], results.truth.shape)
    assert error(copied) > 45
    assert error(results.imagined) < 10
    # Another window's actions are partly right by chance (they are binary on a ring of four), so they cost less than
    # copying, but they must cost.
    assert error(results.shuffled) > error(results.imagined) + 10
    table = rollouts.measure(results, rollouts.mean_frame(windows), 8)
    assert table["action_following"]["low"] > 0
    # After an odd number of steps the square never is where it was; after an even number copying may be perfect.
    assert table["psnr_changed"]["imagined"][6] > table["psnr_changed"]["copy_last"][6] + 10
