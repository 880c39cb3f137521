"""Labels of whole examples, read without looking at frames."""

import shutil
import time

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from conftest import as_tfrecord

from world_models.core.errors import ConfigError, UserError
from world_models.data.episodes import encode
from world_models.data.sources.collection import Collection, Split, write
from world_models.data.stored_episodes import Episodes

LABELS = [2, 0, 1, 1, 2, 0, 0]


def _write(folder, name, features, example, count=7):
    write(
        folder / name, folder / "scratch", Collection(name, "", features, {"train": Split(count, example)}, "", ""), {}
    )
    return folder / name


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    """Images of noise with a declared class of four, of which three occur, and an undeclared integer."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (len(LABELS), 40, 40, 1), dtype=np.uint8)
    features = {
        "image": tfds.features.Image(shape=(40, 40, 1), encoding_format="png"),
        "label": tfds.features.ClassLabel(num_classes=4),
        "fine": tfds.features.Scalar(np.int32),
        "weight": tfds.features.Scalar(np.float32),
        "caption": tfds.features.Text(),
        "box": tfds.features.Tensor(shape=(4,), dtype=np.int64),
    }
    example = lambda i: {
        "image": encode(noise[i], (40, 40)),
        "label": LABELS[i],
        "fine": 10 * LABELS[i] + 1,
        "weight": 0.5,
        "caption": "x",
        "box": np.arange(4),
    }
    return _write(tmp_path_factory.mktemp("still"), "still", features, example)


@pytest.fixture(scope="module")
def nested(tmp_path_factory):
    """Episodes of two steps with a label of the whole in `episode_metadata`."""
    features = {
        "steps": tfds.features.Dataset(
            {"observation": {"image": tfds.features.Image(shape=(8, 8, 1))}, "action": tfds.features.Scalar(np.int64)}
        ),
        "episode_metadata": {"motion": tfds.features.ClassLabel(names=["left", "right", "up"]), "about": np.float32},
    }
    image = encode(np.zeros((8, 8, 1), np.uint8), (8, 8))
    example = lambda i: {
        "steps": {"observation": {"image": [image, image]}, "action": [0, 1]},
        "episode_metadata": {"motion": LABELS[i], "about": 0.0},
    }
    return _write(tmp_path_factory.mktemp("nested"), "nested", features, example)


def test_labels_are_read_without_decoding_an_image(still, monkeypatch):
    episodes = Episodes(str(still), "train[1:6]", image_key="image")

    def fail(*_):
        raise AssertionError("an image was decoded")

    monkeypatch.setattr(cv2, "imdecode", fail)
    labels = episodes.labels("label")
    assert (labels.dtype, labels.tolist()) == (np.int64, LABELS[1:6])
    assert episodes.labels("fine").tolist() == [10 * label + 1 for label in LABELS[1:6]]
    assert episodes.labels("label") is labels  # kept


def test_classes_are_declared_or_counted(still):
    episodes = Episodes(str(still), "train", image_key="image")
    assert episodes.num_classes("label") == 4
    assert episodes.num_classes("fine") == 22


def test_labels_of_episodes_lie_in_their_metadata(nested, tmp_path):
    for data in (nested, as_tfrecord(nested, tmp_path / "tfrecord")):
        episodes = Episodes(str(data), "train")
        assert episodes.labels("motion").tolist() == episodes.labels("episode_metadata/motion").tolist() == LABELS
        assert episodes.num_classes("motion") == 3


@pytest.mark.parametrize("key", ["digit", "image", "weight", "caption", "box", "label/x", ""])
def test_what_is_no_integer_is_refused_with_what_there_is(still, key):
    episodes = Episodes(str(still), "train", image_key="image")
    with pytest.raises(ConfigError, match=r"config.eval.probes.label_key") as error:
        episodes.labels(key)
    assert {f"'{name}'" in str(error.value) for name in ("label", "fine")} == {True}
    assert "'weight'," not in str(error.value)
    with pytest.raises(ConfigError, match=r"config.eval.probes.label_key"):
        episodes.num_classes(key)


def test_integers_of_steps_are_no_labels(nested, square_data):
    with pytest.raises(ConfigError, match=r"\['episode_metadata/motion'\]"):
        Episodes(str(nested), "train").labels("steps/action")


def test_damaged_records_have_no_label(still, tmp_path):
    data = shutil.copytree(still, tmp_path / "still")
    opened = Episodes(str(data), "train", image_key="image", max_damaged=1)
    strict = Episodes(str(data), "train", image_key="image")
    path = next(data.glob("*array_record*"))
    content = bytearray(path.read_bytes())
    begin = content.index(opened._columns.records[3][600:630])
    content[begin : begin + 30] = bytes(30)
    path.write_bytes(content)
    expected = [-1 if i == 3 else label for i, label in enumerate(LABELS)]
    assert opened.labels("label").tolist() == expected
    assert list(opened.damaged) == [3]
    with pytest.raises(UserError, match=r"Record 3 .* is damaged"):
        strict.labels("label")


def test_sixty_thousand_labels_take_seconds(tmp_path):
    image = encode(np.zeros((4, 4, 1), np.uint8), (4, 4))
    features = {"image": tfds.features.Image(shape=(4, 4, 1)), "label": tfds.features.ClassLabel(num_classes=10)}
    data = _write(tmp_path, "many", features, lambda i: {"image": image, "label": i * i % 10}, 6000)
    episodes = Episodes(str(data), "train", image_key="image")
    start = time.perf_counter()
    labels = episodes.labels("label")
    assert time.perf_counter() - start < 2  # a tenth of them; on an idle core it takes a tenth of that
    np.testing.assert_array_equal(labels, np.arange(6000) ** 2 % 10)
