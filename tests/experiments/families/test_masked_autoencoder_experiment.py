"""The masked autoencoder as an experiment: trained, probed, drawn, and the same on any mesh."""

import html
import json
import subprocess
import sys
import textwrap

import cv2
import jax
import numpy as np
import pytest
from conftest import cpu_devices, set_field, set_fields, stripes
from flax import nnx

import launch
from configs.fashion_mae import get_config
from experiments.evaluation import probes
from experiments.evaluation.measure import measure
from experiments.evaluation.probes import KINDS, Examples, Labelled
from experiments.runs.loading import load
from experiments.training.data import open_episodes
from experiments.training.experiment import make_experiment
from experiments.training.loop import train
from world_models.core.errors import ConfigError
from world_models.data.clips import Windows
from world_models.data.sources import digits


@pytest.fixture
def config(stripes_data):
    """The debug variant on striped images."""
    config = get_config("debug")
    config.data.dataset = str(stripes_data)
    return config


def test_every_probe_runs_in_training_and_again_from_the_folder_alone(config, tmp_path):
    config.eval.probes.names = KINDS
    set_fields(config, num_steps=60, batch_size=20, learning_rate=3e-3, every=60, warmup_steps=5)
    config.eval.linear_probe.update({"batch_size": 20, "epochs": 20, "warmup_epochs": 2})
    config.eval.fine_tune.update({"batch_size": 9, "num_steps": 6, "mixup": 0.2, "cutmix": 0.5, "randaugment_ops": 1})
    config.eval.fine_tune.update({"crop_scale": (0.8, 1.0), "learning_rate": 3e-3})
    config.eval.probes.shots = (3, 0)
    train(config, tmp_path)
    found = measure(load(tmp_path))
    for name in ("ridge", "knn", "linear"):
        for kind in ("accuracy", "raw_pixels", "random_features", "random_init"):
            assert 0 <= found[f"eval/{name}/{kind}"] <= 100
    assert {"accuracy_3", "scratch_3", "accuracy_all", "scratch_all"} == {
        key.split("/")[-1] for key in found if "fine_tune" in key
    }
    assert found["eval/ridge/accuracy"] > 60  # chance is 33
    losses = [json.loads(line).get("train/loss") for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [loss for loss in losses if loss is not None]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    picture = cv2.imread(str(tmp_path / "pictures" / "reconstructions.png"))
    assert picture.shape[0] > 2 * 84
    assert picture.shape[1] > 3 * 84
    # What the loop measured at the end is what the folder says.
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["eval/ridge/accuracy"] == pytest.approx(found["eval/ridge/accuracy"])


def test_imagine_shows_reconstructions(config, tmp_path, monkeypatch, capsys):
    train(set_fields(config, every=0), tmp_path)
    assert launch.main(["launch.py", "imagine", f"--workdir={tmp_path}"]) == 0
    report = tmp_path / "imagine" / "report.html"
    assert capsys.readouterr().out.strip() == str(report)
    assert "data:image/png;base64" in report.read_text()
    metrics = json.loads((tmp_path / "imagine" / "metrics.json").read_text())
    assert set(metrics["psnr"]) == {"masked", "reconstructed", "mean_frame"}
    assert metrics["num_examples"] == 30
    assert metrics["caveat"] == ""  # pixels say all of it
    words = [
        '--config.eval.probes.names=("ridge", "knn")',
        "--config.eval.probes.num_train=0",
        "--config.eval.probes.baselines=False",
    ]
    assert launch.main(["launch.py", "eval", f"--workdir={tmp_path}", *words]) == 0
    assert "eval/knn/accuracy" in capsys.readouterr().out


def test_video_is_recorded_trained_and_shown_in_motion(tmp_path, monkeypatch, capsys):
    """As a user would, with images that stand in for an installed package."""
    glyphs = np.stack([cv2.resize(stripes(i), (28, 28))[..., None] for i in range(30)])
    monkeypatch.setattr(
        digits, "read", lambda kind, seed: dict.fromkeys(("train", "test"), (glyphs, np.arange(30) % 10))
    )
    config, workdir = "--config=configs/moving_mae.py:debug", f"--workdir={tmp_path}"
    normalized = ["--config.model.target=patch_normalized"]
    for words in (
        ["record", config, workdir],
        [
            "train",
            config,
            workdir,
            *normalized,
            "--config.eval.probes.names=('ridge',)",
            "--config.eval.probes.baselines=False",
        ],
        ["imagine", workdir],
    ):
        assert launch.main(["launch.py", *words]) == 0, capsys.readouterr().err
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert 0 <= last["eval/ridge/accuracy"] <= 100
    metrics = json.loads((tmp_path / "imagine" / "metrics.json").read_text())
    assert "reconstructions are given the true ones" in metrics["caveat"]  # the target is normalized
    assert metrics["caveat"] in html.unescape((tmp_path / "imagine" / "report.html").read_text())
    video = cv2.VideoCapture(str(tmp_path / "imagine" / "reconstructions.mp4"))
    frames = [frame for seen, frame in iter(video.read, (False, None)) if seen]
    assert len(frames) == 8
    assert np.abs(np.diff(np.float32(frames), axis=0)).max() > 50  # something moves


def test_a_loss_of_cropped_images_differs_and_depends_on_the_keys_alone(config):
    clip = make_clip(config)
    keys = jax.random.split(jax.random.key(0), len(clip.frames))
    losses = {}
    for name, change in {"plain": {"flip": False}, "flip": {"flip": True}, "crops": {"crop_scale": (0.2, 1.0)}}.items():
        config.augment.update(change)
        experiment = make_experiment(config, spec_of(config))
        model = nnx.jit(lambda experiment=experiment: experiment.init(nnx.Rngs(0)))()
        loss = jax.jit(lambda keys, model=model, experiment=experiment: experiment.loss(model, clip, keys)[0])
        losses[name] = [float(loss(keys)) for _ in range(2)]
        assert losses[name][0] == losses[name][1]
    assert len({values[0] for values in losses.values()}) == 3


def test_probes_leave_out_what_is_damaged(config, monkeypatch):
    """The window that stands in for a damaged one has another label; a record without a label has none."""
    train, test = (Windows(open_episodes(config, None, name), 1) for name in ("train", "test"))
    labels = train.episodes.labels("label").copy()
    labels[3] = -1
    monkeypatch.setitem(train.episodes._labels, "label", labels)
    train.episodes.damaged[7] = "planted"
    frames, found = Labelled(Examples(None, train, test, config), "label").train
    kept = [i for i in range(60) if i not in (3, 7)]
    np.testing.assert_array_equal(found, labels[kept])
    np.testing.assert_array_equal(frames, train.load(kept).frames)


def test_few_training_rows_are_all_neighbours(config):
    x, y = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32), np.array([0, 1])
    assert probes._frozen("knn", config)(x, y, x, y, 2) == 1


def test_probes_of_a_model_take_the_same_features(config, monkeypatch, tmp_path):
    config.eval.probes.update({"names": ("ridge", "knn", "few_labels"), "shots": (2,), "more_label_keys": ("label",)})
    experiment, encoded = make_experiment(config, spec_of(config)), []
    in_batches = probes.in_batches
    monkeypatch.setattr(probes, "in_batches", lambda *args: encoded.append(len(args[2])) or in_batches(*args))
    found = probes.make_probes(experiment, config, tmp_path)
    model, other = (nnx.jit(lambda seed=seed: experiment.init(nnx.Rngs(seed)))() for seed in (1, 2))
    first = [probe(model) for probe in found.values()]
    assert len(found) == 6
    assert encoded == [60, 30, 60, 30]  # of this model and of the untrained one
    again = [probe(other) for probe in found.values()]
    assert encoded[4:] == [60, 30]
    assert [one["random_init"] for one in first] == [one["random_init"] for one in again]
    assert [one["accuracy"] for one in first] != [one["accuracy"] for one in again]


def spec_of(config):
    return open_episodes(config, None, "train").spec


def make_clip(config, count=8):
    return Windows(open_episodes(config, None, "train"), 1).load(np.arange(count))


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("model.patch", 5, ""),
        ("model.mask_ratio", 0.99, ""),  # leaves 0 of 16 patches
        ("model.mask_ratio", 0.0, ""),
        ("model.target", "tokens", ""),
        ("model.tubelet", 2, ""),
        ("model.pixels.std", (0.1, 0.2), ""),
        ("model.encoder.heads", 3, "model.encoder.width"),
        ("augment.crop_scale", (0.5, 2.0), ""),
        ("eval.probes.pool", "max", ""),
        ("eval.probes.names", ("rigde",), ""),
        ("eval.probes.label_key", "class", ""),
    ],
)
def test_configs_that_cannot_work_are_refused(config, tmp_path, field, value, named):
    config.eval.probes.names = ("ridge",)
    set_field(config, field, value)
    with pytest.raises(ConfigError) as caught:
        train(config, tmp_path)
    assert caught.value.field == f"config.{named or field}"
    assert not list(tmp_path.rglob("checkpoints/*"))


MESHES = """
    import json, pathlib, sys
    import jax
    from configs.fashion_mae import get_config
    from experiments.training.setup import prepare

    found = {}
    for mesh in json.loads(sys.argv[1]):
        config = get_config("debug")
        config.data.dataset, config.runtime.mesh = sys.argv[2], tuple(mesh)
        config.train.update({"batch_size": 16, "num_steps": 8, "optimizer": {"eps": 1e-3}})
        config.model.encoder.heads = 4
        run = prepare(config, pathlib.Path(sys.argv[3]) / "-".join(map(str, mesh)))
        state, losses = run.state, []
        for _ in range(8):
            batch, _ = next(run.batches)
            state, metrics = run.step(state, batch, run.stop_flags[False])
            losses.append(float(metrics["loss"]))
        found["-".join(map(str, mesh))] = losses
    print(json.dumps(found))
"""


def test_the_curve_is_the_same_on_any_mesh(stripes_data, tmp_path):
    def curves(meshes, devices):
        command = [sys.executable, "-c", textwrap.dedent(MESHES), json.dumps(meshes), str(stripes_data), str(tmp_path)]
        result = subprocess.run(command, capture_output=True, text=True, env=cpu_devices(devices), timeout=280)
        assert result.returncode == 0, result.stderr[-3000:]
        return json.loads(result.stdout.splitlines()[-1])

    (single,) = curves([(1, 1, 1)], 1).values()
    for mesh, losses in curves([(8, 1, 1), (1, 8, 1)], 8).items():
        np.testing.assert_allclose(losses, single, rtol=1e-6, err_msg=mesh)
