"""Pretext tasks of images as an experiment: trained, held out beside chance, probed, and refused where unfit."""

import json

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from conftest import set_field, set_fields, write_tfds

import launch
from configs import emoji_pretext, fashion_pretext
from experiments.evaluation.measure import measure
from experiments.families.pretext.classes import with_classes
from experiments.families.pretext.colors import within
from experiments.runs.loading import load
from experiments.training.loop import train
from world_models.core.errors import ConfigError, UserError
from world_models.data.clips import Windows
from world_models.data.episodes import encode
from world_models.data.records import DamagedRecord
from world_models.data.stored_episodes import Episodes
from world_models.models.pretext.classification import CLASS
from world_models.models.pretext.options import ClassificationOptions, ExemplarOptions

SIDE = 16


def gradient(index: int) -> np.ndarray:
    """An image uint8 [16, 16, 3]: red grows downwards, green to the right, and blue tells one of three classes."""
    rng = np.random.default_rng(index)
    row, column = np.mgrid[:SIDE, :SIDE]
    blue = np.full((SIDE, SIDE), 110 * (index % 3))
    noise = rng.integers(0, 20, (SIDE, SIDE, 3))
    return (np.stack([14 * row, 14 * column, blue], axis=-1) + noise).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def gradients(tmp_path_factory):
    """A data set of labelled colour images, 60 for training and 30 for tests."""
    features = {
        "image": tfds.features.Image(shape=(SIDE, SIDE, 3), encoding_format="png"),
        "label": tfds.features.ClassLabel(num_classes=3),
    }
    example = lambda i: {"image": encode(gradient(i), (SIDE, SIDE)), "label": i % 3}
    splits = {"train": [example(i) for i in range(60)], "test": [example(i) for i in range(1000, 1030)]}
    return write_tfds(tmp_path_factory.mktemp("gradients"), features, splits)


def config_of(data, task):
    """The debug variant of a task on images of 16x16."""
    config = emoji_pretext.get_config(f"{task}-debug")
    config.data.dataset = str(data)
    config.model.encoder.patch = 4
    config.eval.held_out.num_examples = 30
    config.train.optimizer.warmup_steps = 0
    if task == "relative_position":
        config.model.task.update({"patch": 4, "gap": 1, "jitter": 1, "color": "keep"})
    if task == "classification":
        config.model.task.num_classes = 3
    return config


def test_a_task_is_learned_and_its_encoder_probed(gradients, tmp_path):
    config = config_of(gradients, "relative_position")
    config.eval.probes.names = ("ridge", "few_labels")
    config.eval.probes.shots = (5,)
    set_fields(config, num_steps=100, batch_size=30, learning_rate=3e-3, every=100)
    train(config, tmp_path)
    found = measure(load(tmp_path))
    assert found["eval/held_out/accuracy_chance"] == 1 / 8
    assert found["eval/held_out/accuracy"] > 0.4
    for name in ("ridge", "few_labels_5"):
        for kind in ("accuracy", "raw_pixels", "random_features", "random_init"):
            assert 0 <= found[f"eval/{name}/{kind}"] <= 100
    assert found["eval/few_labels_5/raw_pixels"] > 60  # of three classes that blue tells
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["eval/held_out/accuracy"] == pytest.approx(found["eval/held_out/accuracy"])


def test_colours_are_measured_and_drawn(gradients, tmp_path, capsys):
    config = config_of(gradients, "colorization")
    set_fields(config, num_steps=40, batch_size=30, learning_rate=3e-3, every=40)
    train(config, tmp_path)
    found = measure(load(tmp_path))
    for name in ("", "grey_", "mean_"):
        assert 0 < found[f"eval/colors/{name}auc"] <= 100
        assert 0 < found[f"eval/colors/{name}auc_rebalanced"] <= 100
    frames = np.stack([gradient(i) for i in range(1000, 1030)]).astype(np.float32) / 255
    true = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2Lab)[..., 1:] for frame in frames])
    errors = np.linalg.norm(true, axis=-1)
    area = np.mean([(errors <= limit).mean() for limit in range(151)])
    assert found["eval/colors/grey_auc"] == pytest.approx(100 * area, abs=0.2)
    assert found["eval/colors/auc"] > found["eval/colors/grey_auc"]
    assert launch.main(["launch.py", "imagine", f"--workdir={tmp_path}"]) == 0
    metrics = json.loads((tmp_path / "imagine" / "metrics.json").read_text())
    assert set(metrics["psnr"]) == {"grey", "colorized", "mean_frame"}
    picture = cv2.imread(str(tmp_path / "pictures" / "reconstructions.png"))
    assert np.ptp(picture.astype(int), axis=-1).max() > 60  # something is coloured


def test_an_error_counts_for_the_limits_that_it_is_within():
    predicted = np.array([[0.0, 0.0], [0.0, 1.5], [90.0, 120.0], [200.0, 0.0]], np.float32)
    np.testing.assert_allclose(within(np.zeros(2), predicted), np.array([151, 149, 1, 0]) / 151, rtol=1e-5)


@pytest.mark.parametrize("task", ["exemplar", "classification"])
def test_tasks_with_classes_are_trained_and_held_out(gradients, tmp_path, task):
    config = config_of(gradients, task)
    set_fields(config, num_steps=40, batch_size=20, learning_rate=1e-2, every=0)
    if task == "exemplar":
        config.model.task.num_images = 40  # more than there are in the test split
    train(config, tmp_path)
    run = load(tmp_path)
    found = measure(run)
    assert run.provenance_of("test")["data"] == str(gradients)
    chance = {"exemplar": 1 / 40, "classification": 1 / 3}[task]
    assert found["eval/held_out/accuracy_chance"] == chance
    if task == "classification":
        assert found["eval/held_out/accuracy"] > 0.8
        return
    data = run.experiment.open_data(run.config, tmp_path, "train")
    assert len(data) == 40
    np.testing.assert_array_equal(data.load(np.array([3, 0])).observations[CLASS], [[3], [0]])
    one, other = (data.load(np.array([i])).frames for i in (3, 4))
    assert np.abs(one.astype(int) - other).max() > 0


def test_a_task_without_pictures_says_so(gradients, tmp_path, capsys):
    config = config_of(gradients, "triplet")
    set_fields(config, every=0)
    train(config, tmp_path)
    assert launch.main(["launch.py", "imagine", f"--workdir={tmp_path}"]) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "config.model.task.kind" in said
    assert "exemplar" in said


@pytest.mark.parametrize(
    ("task", "field", "value", "named"),
    [
        ("relative_position", "model.task.patch", 5, ""),
        ("relative_position", "model.task.patch", 8, ""),  # three do not fit
        ("relative_position", "model.encoder.patch", 5, ""),
        ("relative_position", "model.task.colour", "drop", ""),
        ("relative_position", "model.task.kind", "jigsaw", ""),
        ("relative_position", "model.pixels.std", (0.0,), ""),
        ("relative_position", "eval.probes.pool", "max", ""),
        ("relative_position", "eval.held_out.num_examples", 0, ""),
        ("relative_position", "eval.probes.names", ("fine_tune",), ""),
        ("relative_position", "model.encoder.heads", 3, "model.encoder.width"),
        ("exemplar", "model.task.num_images", 61, ""),
        ("classification", "model.task.num_classes", 2, ""),
        ("classification", "model.task.label_key", "kind", ""),
    ],
)
def test_configs_that_cannot_work_are_refused(gradients, tmp_path, task, field, value, named):
    config = config_of(gradients, task)
    with config.unlocked():
        set_field(config, field, value)
    with pytest.raises(ConfigError) as caught:
        train(config, tmp_path)
    assert caught.value.field == f"config.{named or field}"
    assert not list(tmp_path.rglob("checkpoints/*"))


def test_grey_images_cannot_be_coloured(stripes_data, tmp_path):
    config = config_of(stripes_data, "colorization")
    with pytest.raises(ConfigError) as caught:
        train(config, tmp_path)
    assert caught.value.field == "config.model.task.kind"


def test_grey_images_with_three_channels_cannot_be_coloured_either(tmp_path):
    features = {"image": tfds.features.Image(shape=(SIDE, SIDE, 3), encoding_format="png")}
    grey = lambda i: {"image": encode(np.repeat(gradient(i)[..., :1], 3, axis=-1), (SIDE, SIDE))}
    data = write_tfds(tmp_path / "grey", features, {name: [grey(i) for i in range(20)] for name in ("train", "test")})
    with pytest.raises(ConfigError, match="colours") as caught:
        train(config_of(data, "colorization"), tmp_path / "run")
    assert caught.value.field == "config.model.task.kind"


def test_chance_of_triplets_is_that_of_the_clips_that_are_compared(gradients, tmp_path):
    config = config_of(gradients, "triplet")
    set_fields(config, batch_size=20, every=0)
    config.eval.held_out.num_examples = 4
    train(config, tmp_path)
    assert measure(load(tmp_path))["eval/held_out/accuracy_chance"] == 1 / 4
    config.eval.held_out.num_examples = 1
    run = load(tmp_path, config=config)
    with pytest.raises(ConfigError) as caught:
        measure(run)
    assert caught.value.field == "config.eval.held_out.num_examples"


def test_probes_without_labels_are_refused_before_training(tmp_path):
    features = {
        "image": tfds.features.Image(shape=(SIDE, SIDE, 3), encoding_format="png"),
        "label": tfds.features.ClassLabel(num_classes=1),
    }
    example = lambda i: {"image": encode(gradient(i), (SIDE, SIDE)), "label": 0}
    splits = {name: [example(i) for i in range(20)] for name in ("train", "test")}
    config = config_of(write_tfds(tmp_path / "data", features, splits), "relative_position")
    config.eval.probes.names = ("ridge",)
    with pytest.raises(ConfigError) as caught:
        train(config, tmp_path / "run")
    assert caught.value.field == "config.eval.probes.label_key"


@pytest.mark.parametrize("module", [emoji_pretext, fashion_pretext])
def test_every_task_of_a_config_has_a_debug_variant(module):
    for task in module.TASKS:
        assert module.get_config(f"{task}-debug").train.num_steps == 2
        assert module.get_config(task).train.num_steps > 1000
    with pytest.raises(ValueError, match="'colour'; there are"):
        module.get_config("colour-debug")


class Damaged(Windows):
    """Windows of which some hold a damaged record."""

    def __init__(self, data, damaged):
        super().__init__(Episodes(str(data), "train"), 1)
        self.bad = damaged

    def _window(self, episode, start):
        if episode in self.bad:
            raise DamagedRecord
        return super()._window(episode, start)


@pytest.mark.parametrize(
    "task", [ClassificationOptions(label_key="label", num_classes=3), ExemplarOptions(num_images=30)]
)
def test_what_stands_in_for_a_damaged_image_has_its_own_class(gradients, task):
    whole = with_classes(task, Damaged(gradients, ()), seed=0)
    bad = range(5, 12)
    found = with_classes(task, Damaged(gradients, bad), seed=0)
    rows = np.arange(len(found))
    clip, known = found.load(rows), whole.load(rows)
    of_image = {frames.tobytes(): c[0] for frames, c in zip(known.frames, known.observations[CLASS])}
    assert not np.array_equal(clip.frames, known.frames)
    assert [of_image[frames.tobytes()] for frames in clip.frames] == clip.observations[CLASS][:, 0].tolist()


def test_nothing_is_left_to_read(gradients):
    task = ExemplarOptions(num_images=1)
    chosen = with_classes(task, Damaged(gradients, ()), seed=0)._rows
    with pytest.raises(UserError, match=r"No window of .* that has a class can be read"):
        with_classes(task, Damaged(gradients, chosen), seed=0).load(np.zeros(1, int))
