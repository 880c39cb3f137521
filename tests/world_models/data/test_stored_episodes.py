"""Opening data sets of many forms; those that cannot work raise."""

import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from conftest import as_tfrecord, square_world, write_dataset

from world_models.core.errors import ConfigError, UserError
from world_models.data import records
from world_models.data.clips import Windows
from world_models.data.stored_episodes import Episodes


def test_recorded_data_describe_themselves(square_data):
    episodes = Episodes(str(square_data), "train")
    assert episodes.spec.frame_shape == (16, 16, 3)
    assert (episodes.spec.actions.kind, episodes.spec.actions.size) == ("discrete", 2)
    assert episodes.lengths.tolist() == [30, 17, 9, 24, 30, 5]
    assert len(Episodes(str(square_data), "train[:50%]")) == 3


def test_bounds_of_continuous_actions_are_declared_or_measured(tmp_path):
    vectors = lambda actions: np.stack([actions, 3 * actions - 1], axis=1).astype(np.float32)
    declared = {"kind": "continuous", "size": 2, "low": [-5.0, -5.0], "high": [5.0, 5.0]}
    data = write_dataset(tmp_path / "a", {"train": [9]}, action=declared, actions_of=vectors)
    assert Episodes(str(data), "train").spec.actions.high == (5.0, 5.0)
    unbounded = declared | {"low": [], "high": []}
    data = write_dataset(tmp_path / "b", {"train": [9]}, action=unbounded, actions_of=vectors)
    spec = Episodes(str(data), "train").spec.actions
    assert (spec.low, spec.high) == ((0.0, -1.0), (1.0, 2.0))


def test_frames_are_resized_on_request(square_data):
    episodes = Episodes(str(square_data), "train", image_size=(8, 8))
    frames = square_world(30, 0)[0]
    pooled = frames.reshape(30, 8, 2, 8, 2, 3).astype(float).mean(axis=(2, 4))
    assert np.abs(episodes.read(0, 0, 30)["frames"] - pooled).max() <= 1


def test_tfrecord_checksums_are_the_published_ones():
    """CRC-32C of "123456789" is E3069283 (RFC 3720's polynomial), here masked as TFRecord files have it."""
    crc = 0xE3069283
    masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % 2**32
    assert records.tfrecord_checksum(b"123456789") == masked.to_bytes(4, "little")


def test_tfrecord_data_sets_read_the_same(square_data, tmp_path):
    ours = Episodes(str(square_data), "train[1:]")
    theirs = Episodes(str(as_tfrecord(square_data, tmp_path / "tfrecord")), "train[1:]")
    assert len(theirs) == len(ours) == 5
    for i in range(len(ours)):
        a, b = (e.read(i, 1, 5) for e in (ours, theirs))
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


class Digits(tfds.core.GeneratorBasedBuilder):
    """Five images in shades of gray."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"image": tfds.features.Image(shape=(12, 12, 1)), "label": tfds.features.ClassLabel(num_classes=3)}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        import cv2

        for i in range(5):
            image = np.full((12, 12, 1), 40 * i, np.uint8)
            yield i, {"image": cv2.imencode(".png", image)[1].tobytes(), "label": i % 3}


def test_image_data_sets_are_episodes_of_one_step(tmp_path):
    Digits(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    episodes = Episodes(str(tmp_path), "train")
    assert episodes.spec.frame_shape == (12, 12, 1)
    assert episodes.lengths.tolist() == [1] * 5
    steps = [episodes.read(i, 0, 1) for i in range(5)]
    assert sorted(int(s["frames"].max()) for s in steps) == [0, 40, 80, 120, 160]
    assert all(s["is_first"].all() and s["is_last"].all() for s in steps)


def test_missing_and_unfinished_data_are_invalid(tmp_path, square_data):
    (tmp_path / "half.partial").mkdir()
    (tmp_path / "empty").mkdir()
    shutil.copytree(square_data, tmp_path / "cut")
    (tmp_path / "cut" / "dataset_info.json").unlink()
    (tmp_path / "notes.txt").write_text("not a data set of episodes")
    names = [str(tmp_path / name) for name in ("nowhere", "half", "empty", "cut", "notes.txt")]
    for name in [*names, "no_such_data_set"]:
        with pytest.raises(ConfigError, match=r"config.data.dataset") as error:
            Episodes(name, "train")
        assert repr(name) in str(error.value)


def test_missing_files_are_named(tmp_path, square_data):
    shutil.copytree(square_data, tmp_path / "lost")
    lost = next((tmp_path / "lost").glob("*train*array_record*"))
    lost.unlink()
    with pytest.raises(UserError, match=str(lost)):
        Episodes(str(tmp_path / "lost"), "train")


@pytest.mark.parametrize(
    ("field", "value", "there"),
    [
        ("image_key", "observation/wrist", "observation/image"),
        ("action_key", "action/arm", "'action'"),
        ("num_actions", 1, "0 to 1"),
        ("observation_keys", ("reward", "observation/wrist"), "observation/image"),
        ("observation_keys", ("reward", "is_first"), "is_first"),
    ],
)
def test_other_schemas_are_invalid_and_the_message_says_what_is_there(square_data, field, value, there):
    with pytest.raises(ConfigError, match=there) as error:
        Episodes(str(square_data), "train", **{field: value})
    assert error.value.field == f"config.data.{field}"


def test_unknown_splits_are_invalid(square_data):
    with pytest.raises(UserError, match="holdout"):
        Episodes(str(square_data), "holdout")


def test_further_observations_are_read_on_request(square_data):
    keys = ("observation/image", "discount", "action")
    for options in ({"cache_bytes": 0}, {"cache_bytes": 1 << 30}):
        plain = Episodes(str(square_data), "train", **options)
        episodes = Episodes(str(square_data), "train", observation_keys=keys, image_size=(8, 8), **options)
        assert episodes.fingerprint == plain.fingerprint
        assert episodes.spec.observations["discount"].dtype == "float32"
        found, whole = (each.read(1, 2, 9) for each in (episodes, plain))
        np.testing.assert_array_equal(found["observation/image"], whole["frames"])  # not resized
        np.testing.assert_array_equal(found["action"], whole["actions"])
        assert found["frames"].shape == (7, 8, 8, 3)
        clip = Windows(episodes, 4).load(np.arange(2))
        assert set(clip.observations) == set(keys)
        assert clip.observations["discount"].shape == (2, 4)
        assert Windows(plain, 4).load(np.arange(2)).observations == {}
