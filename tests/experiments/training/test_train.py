"""The training loop: learning, resuming, stopping, and refusing."""

import json
import signal
import subprocess
import sys
import textwrap
import time

import jax
import numpy as np
import pytest
from conftest import set_fields
from ml_collections import ConfigDict

import experiments
from experiments.evaluation import rollouts
from experiments.runs.metrics import read_metrics
from experiments.training import loop as training
from experiments.training import setup as running
from experiments.training.loop import train
from experiments.training.optimizers import is_decayed
from world_models.checkpointing import checkpoints
from world_models.core.errors import ConfigError, UserError
from world_models.models.video_diffusion.model import VideoDiffusion


def weights(workdir):
    """All trees of the newest checkpoint, as raw arrays by path."""
    latest = max(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())
    run = experiments.load(workdir)
    assert run.step == latest
    return latest, [np.asarray(x) for x in jax.tree.leaves(run.model)]


def assert_same_weights(a, b):
    (step_a, leaves_a), (step_b, leaves_b) = weights(a), weights(b)
    assert step_a == step_b
    for x, y in zip(leaves_a, leaves_b, strict=True):
        np.testing.assert_array_equal(x, y)


def saved_steps(workdir):
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit())


def configured(config, **fields):
    set_fields(config, **fields)
    return config


def test_stopping_and_resuming_changes_nothing(tiny_config, tmp_path, monkeypatch):
    config = configured(tiny_config, num_steps=8, every=4, checkpoint_every=3, ema_decay=0.5)
    train(config, tmp_path / "straight")
    compiled = running._compile
    calls = []

    # Around the compiled step, not in it: another program may round otherwise.
    def stopped_in_the_fourth(*args):
        step = compiled(*args)

        def stepped(*inputs):
            calls.append(1)
            if len(calls) == 4:
                signal.raise_signal(signal.SIGTERM)
            return step(*inputs)

        return stepped

    # The first part is stopped by a real SIGTERM in the middle; the rest runs undisturbed.
    with monkeypatch.context() as patch:
        patch.setattr(running, "_compile", stopped_in_the_fourth)
        train(config, tmp_path / "parts")
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
    overrides = ["--config.train.num_steps=30", "--config.runtime.checkpoint_every=4", "--config.eval.every=0"]
    config = configured(tiny_config, num_steps=30, checkpoint_every=4, every=0)
    train(config, tmp_path / "straight")
    command = [
        sys.executable,
        "launch.py",
        "train",
        "--config=configs/car_unet.py:debug",
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
        from experiments.runs.signals import StopSignal
        with StopSignal():
            print("ready", flush=True)
            for _ in range(4):
                time.sleep(60)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    for _ in range(2):  # the same one, sent twice
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
    assert process.poll() is None
    time.sleep(0.8)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == -signal.SIGTERM


def test_accumulated_steps_equal_whole_steps(tiny_config, tmp_path):
    one = configured(tiny_config, num_steps=3, batch_size=8, accumulate=1, every=0)
    train(one, tmp_path / "one")
    train(configured(one, accumulate=4), tmp_path / "four")
    for a, b in zip(weights(tmp_path / "one")[1], weights(tmp_path / "four")[1], strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_step_is_compiled_once_and_the_state_is_donated(tiny_config, tmp_path):
    run = training.prepare(tiny_config, tmp_path)
    before = run.state
    batch, _ = next(run.batches)
    run.step(run.state, batch, run.stop_flags[False])
    assert before.params["net"]["conv_in"]["kernel"].is_deleted()
    run.saver.close()
    run.writers.close()


def test_weight_decay_spares_biases_and_embeddings():
    params = {"a": {"kernel": np.ones(2), "bias": np.ones(2)}, "table": {"embedding": np.ones(2)}}
    assert is_decayed(params) == {"a": {"kernel": True, "bias": False}, "table": {"embedding": False}}


def poison(monkeypatch, config, steps):
    """Makes the loss NaN at some steps, counted from 0."""
    loss = VideoDiffusion.loss
    keys_of = [jax.random.fold_in(jax.random.fold_in(jax.random.key(config.seed), step), 0) for step in steps]
    bad_keys = jax.numpy.stack([jax.random.key_data(key) for key in keys_of])

    def poisoned(self, clip, keys):
        value, metrics = loss(self, clip, keys)
        bad = (jax.random.key_data(keys)[0] == bad_keys).all(axis=1).any()
        value = jax.numpy.where(bad, jax.numpy.nan, value)
        return value, metrics | {"loss": value}

    monkeypatch.setattr(VideoDiffusion, "loss", poisoned)


def test_updates_that_are_not_finite_are_skipped_counted_and_their_batches_kept(tiny_config, tmp_path, monkeypatch):
    config = configured(tiny_config, num_steps=9, checkpoint_every=9, every=0, max_nonfinite=3)
    poison(monkeypatch, config, (2, 3, 5))
    run = training.prepare(config, tmp_path / "other")
    batches = [jax.device_get(next(run.batches)[0]) for _ in range(4)]
    run.saver.close()
    train(config, tmp_path / "run")
    _, leaves = weights(tmp_path / "run")
    assert all(np.isfinite(x).all() for x in leaves)
    lines = [json.loads(line) for line in (tmp_path / "run" / "incidents.jsonl").read_text().splitlines()]
    assert [(line["kind"], line["step"], line["loss"]) for line in lines] == [
        ("nonfinite", step, "nan") for step in (3, 4, 6)
    ]
    with np.load(tmp_path / "run" / "incidents" / "batch_4.npz") as kept:
        np.testing.assert_array_equal(kept["frames"], batches[3].frames)
        np.testing.assert_array_equal(kept["actions"], batches[3].actions)
    saved = checkpoints.Checkpoints(tmp_path / "run" / "checkpoints", read_only=True)
    assert saved.restore({})[1]["nonfinite"] == 3
    saved.close()


def test_too_many_in_a_row_stop_with_the_step_the_position_and_the_last_good_checkpoint(
    tiny_config, tmp_path, monkeypatch
):
    config = configured(tiny_config, num_steps=20, checkpoint_every=2, every=0, max_nonfinite=2)
    poison(monkeypatch, config, (3, 5, 6, 7))
    match = (
        r"not finite at step 7, for the 2th time in a row .*'next_index': 7.*batch_7.npz .*good checkpoint is step 6"
    )
    with pytest.raises(training.Diverged, match=match):
        train(config, tmp_path)
    _, leaves = weights(tmp_path)
    assert all(np.isfinite(x).all() for x in leaves)


def test_a_damaged_record_is_skipped_and_noted_up_to_the_limit(tiny_config, square_data, tmp_path):
    from conftest import as_tfrecord

    data = as_tfrecord(square_data, tmp_path / "data")
    (path,) = data.glob("*train*tfrecord*")
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT", len(content) // 3) + 6] ^= 0xFF  # in a frame
    path.write_bytes(content)
    set_fields(tiny_config, every=0).data.dataset = str(data)
    with pytest.raises(UserError, match=rf"Record \d .* of {path} is damaged .*config.runtime.data.max_damaged=0"):
        train(tiny_config, tmp_path / "run")
    tiny_config.runtime.data.max_damaged = 1
    train(tiny_config, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "incidents.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["damaged_record"]
    assert str(path) in lines[0]["what"]


def test_the_best_checkpoint_is_kept_and_its_record_survives_a_restart(tiny_config, tmp_path, monkeypatch):
    values = iter([3.0, 1.0, 2.0, 2.5, 4.0])
    monkeypatch.setattr(training, "evaluate", lambda *_: {"eval/held_out/loss": next(values)})
    config = configured(tiny_config, num_steps=3, every=1, checkpoint_every=1, keep=1)
    train(config, tmp_path)
    assert saved_steps(tmp_path) == [2, 3]
    train(configured(config, num_steps=5), tmp_path)
    assert saved_steps(tmp_path) == [2, 5]
    saved = checkpoints.Checkpoints(tmp_path / "checkpoints", read_only=True)
    assert saved.restore({})[1]["best"] == {"metric": "eval/held_out/loss", "value": 1.0, "step": 2}
    saved.close()


def test_a_run_is_evaluated_before_its_first_step_once_where_the_config_says_so(tiny_config, tmp_path, monkeypatch):
    values = iter([1.0, 3.0, 2.0, 4.0])
    monkeypatch.setattr(training, "evaluate", lambda *_: {"eval/held_out/loss": next(values)})
    config = configured(tiny_config, num_steps=2, every=1, first=True, keep=1)
    train(config, tmp_path)
    assert saved_steps(tmp_path) == [0, 2]
    train(configured(config, num_steps=3), tmp_path)
    assert saved_steps(tmp_path) == [0, 3]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    found = [(line["step"], line["eval/held_out/loss"]) for line in lines if "eval/held_out/loss" in line]
    assert found == [(0, 1.0), (1, 3.0), (2, 2.0), (3, 4.0)]


def test_a_run_can_start_from_parts_of_another(tiny_config, tmp_path, capsys):
    train(configured(tiny_config, every=0), tmp_path / "first")
    config = tiny_config.copy_and_resolve_references()
    config.seed = 7
    config.model.condition = 32
    config.init_from.update({"checkpoints": str(tmp_path / "first" / "checkpoints"), "parts": ("net",)})
    capsys.readouterr()
    run = training.prepare(config, tmp_path / "second")
    said = capsys.readouterr().err
    assert "net.conv_in.kernel" not in said
    assert "net.down.0.0.norm1.modulation.kernel: shape (16, 16) there, (32, 16) here" in said, said
    assert "action_embedding.table" in said, said
    before = experiments.load(tmp_path / "first").model
    for tree in (run.state.params, run.state.ema):
        np.testing.assert_array_equal(tree["net"]["conv_in"]["kernel"], before.net.conv_in.kernel[...])
    fresh = training.prepare(configured(tiny_config), tmp_path / "third").state.params
    assert not np.array_equal(run.state.params["condition_in"]["kernel"][:16, :16], fresh["condition_in"]["kernel"])
    batch, _ = next(run.batches)
    run.step(run.state, batch, run.stop_flags[False])  # no buffer is in the state twice
    config.init_from.parts = ("nett",)
    with pytest.raises(UserError, match=r"'nett'.*net"):
        training.prepare(config, tmp_path / "fourth")


def test_workdir_of_another_config_is_left_alone(tiny_config, tmp_path):
    train(configured(tiny_config, every=0), tmp_path)
    before = (tmp_path / "config.json").read_text()
    tiny_config.train.optimizer.learning_rate = 0.5
    tiny_config.model.condition = 32
    with pytest.raises(
        UserError, match=r"config.model.condition is 32, there it is 16; config.train.optimizer.learning_rate is 0.5"
    ):
        train(tiny_config, tmp_path)
    assert (tmp_path / "config.json").read_text() == before


def test_run_can_be_made_longer(tiny_config, tmp_path):
    train(configured(tiny_config, every=0), tmp_path)
    train(configured(tiny_config, num_steps=4), tmp_path)
    assert weights(tmp_path)[0] == 4


def test_other_data_under_the_same_name_are_refused(tiny_config, tmp_path):
    from conftest import write_dataset

    lengths = {"train": [12], "validation": [12], "test": [12]}
    data = write_dataset(tmp_path / "a", lengths)
    set_fields(tiny_config, every=0).data.dataset = str(data)
    train(tiny_config, tmp_path / "run")
    other = write_dataset(tmp_path / "b", lengths | {"train": [13]})
    data.rename(tmp_path / "old")
    other.rename(data)
    with pytest.raises(UserError, match=r"is not the data set that .* was trained on"):
        train(configured(tiny_config, num_steps=4), tmp_path / "run")


def test_full_disk_while_saving_names_the_newest_complete_checkpoint(tiny_config, tmp_path, monkeypatch):
    config = configured(tiny_config, num_steps=6, checkpoint_every=2, every=0)
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


def transformer(**fields):
    """config.model.network for a small transformer."""
    return {"kind": "transformer", "width": 32, "depth": 2, "heads": 4, "mlp_ratio": 4.0, **fields}


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("model.context_offsets", (5, 1), "data.clip_length"),
        ("model.context_offsets", (1, 2), "model.context_offsets"),
        ("diffusion.process", "heat", "diffusion.process"),
        ("diffusion.process", "ddpm", "diffusion.sigma_data"),
        ("eval.sampler.process", "ddpm", "eval.sampler.initial_noise"),
        ("eval.sampler.order", 3, "eval.sampler.order"),
        ("eval.sampler.num_steps", 0, "eval.sampler.num_steps"),
        ("model.network.channels", (8, 8, 8, 8, 8, 8), "model.network.channels"),
        ("model.network.channels", (8, 40), "model.network.channels"),
        ("model.network.kind", "mamba", "model.network.kind"),
        ("model.network.depth", 3, "model.network.depth"),
        ("model.network", transformer(heads=3), "model.network.width"),
        ("model.condition", 15, "model.condition"),
        ("model.target", "velocity", "model.target"),
        ("train.optimizer.schedule", "linear", "train.optimizer.schedule"),
        ("eval.open_loop.num_context", 2, "eval.open_loop.num_context"),
        ("runtime.compute.remat", "some", "runtime.compute.remat"),
        ("runtime.compute.attention", "cudnn", "runtime.compute.attention"),
        ("runtime.compute.unroll", 0, "runtime.compute.unroll"),
        ("runtime.sharding", (("width", "model"),), "runtime.sharding"),
        ("runtime.mesh", (3, 1, 1), "runtime.mesh"),
        ("train.batch_size", 6, "train.batch_size"),
        ("experiment", "video_transformer", "experiment"),
        ("data.clip_length", 100, "data.clip_length"),
        ("data.across_episodes", True, "data.across_episodes"),
    ],
)
def test_config_that_cannot_run_raises_before_anything_is_written(tiny_config, tmp_path, field, value, named):
    tiny_config.train.accumulate = 4
    if field.startswith("runtime.compute"):
        tiny_config.unlock()
        tiny_config.model.network = ConfigDict(transformer())
    tiny_config.unlock()
    if isinstance(value, dict):
        tiny_config.model.network = ConfigDict(value)
    else:
        tiny_config.update_from_flattened_dict({field: value})
    with pytest.raises(ConfigError) as error:
        train(tiny_config, tmp_path / "run")
    assert error.value.field == f"config.{named}"
    assert not (tmp_path / "run").exists()


def test_toy_world_is_learned_to_a_stated_error(tiny_config, tmp_path):
    """Held-out futures of the square world: under 10/255 root mean squared error where copying makes over 45."""
    config = configured(tiny_config, num_steps=350, batch_size=16, learning_rate=2e-3, every=0, checkpoint_every=1000)
    config.model.network.channels = (32, 32)
    config.model.condition = 64
    config.diffusion.update({"sigma_data": 0.5, "sigma_mean": -0.4})
    config.eval.sampler.sigma_max = 5.0
    train(config, tmp_path)
    run = experiments.load(tmp_path)
    windows = run.windows("test", 4 + 8)
    results = rollouts.run_rollouts(run.model, windows, 4, 16, jax.random.key(0))
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
