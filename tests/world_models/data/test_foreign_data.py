"""Data sets made elsewhere: numbers that are none, frames of other types, features that name code, other formats."""

import json
import os
import shutil
import sys

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from conftest import write_dataset, write_tfds

from world_models.core.errors import ConfigError, UserError
from world_models.data import fingerprints
from world_models.data.episodes import encode
from world_models.data.records import DamagedRecord
from world_models.data.stored_episodes import Episodes

LENGTH, SIZE = 5, 8


def make(folder, values, features, *, splits=("train",)):
    """An RLDS data set of one episode a split; `values` maps a split to the fields of its steps."""
    examples = {name: [{"steps": values(name)}] for name in splits}
    return write_tfds(folder, {"steps": tfds.features.Dataset(features)}, examples)


def tensor(shape, dtype=np.float32):
    return tfds.features.Tensor(shape=shape, dtype=dtype)


IMAGE = tfds.features.Image(shape=(SIZE, SIZE, 3), encoding_format="png")
BLACK = [encode(np.zeros((SIZE, SIZE, 3), np.uint8), (SIZE, SIZE))] * LENGTH


def numbers(folder, key, at, value, dtype=np.float32):
    """A data set whose field `key` [time, 2], or [time] for rewards, is `value` at the step `at`."""
    fields = {"action": np.zeros((LENGTH, 2), dtype), "reward": np.zeros(LENGTH, np.float32)}
    fields["state"] = np.zeros((LENGTH, 2), dtype)
    fields[key][at] = value
    features = {"image": IMAGE, "action": tensor((2,), dtype), "reward": tensor(()), "state": tensor((2,), dtype)}
    return make(folder, lambda split: fields | {"image": BLACK}, features)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, 2e6])
@pytest.mark.parametrize("key", ["action", "reward", "state"])
def test_numbers_that_are_none_are_named_by_episode_and_step(tmp_path, key, value):
    data = numbers(tmp_path, key, 3, value)
    options = {"image_key": "image", "observation_keys": ("state",)}
    if np.isfinite(value) and key != "action":
        assert Episodes(str(data), "train", **options).lengths.tolist() == [LENGTH]
        return
    for _ in range(2):  # not only where there is no index yet
        with pytest.raises(UserError, match=rf"Step 3 of episode 0 of split 'train' .*{key!r}"):
            Episodes(str(data), "train", **options)


def test_numbers_too_large_for_float32_are_named(tmp_path):
    with pytest.raises(UserError, match=r"Step 1 of episode 0 .*'action'"):
        Episodes(str(numbers(tmp_path, "action", 1, 1e300, np.float64)), "train", image_key="image")


def test_observations_are_checked_also_where_the_index_is_known_without_them(tmp_path):
    data = str(numbers(tmp_path, "state", 2, np.nan))
    Episodes(data, "train", image_key="image")
    with pytest.raises(UserError, match="'state'"):
        Episodes(data, "train", image_key="image", observation_keys=("state",))


@pytest.mark.parametrize("key", ["action", "reward"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_what_stands_at_the_last_step_counts_as_zero(tmp_path, key, value):
    with np.errstate(over="ignore"):
        data = numbers(tmp_path, key, LENGTH - 1, np.float32(value))
    episodes = Episodes(str(data), "train", image_key="image")
    assert episodes.spec.actions.high == (0.0, 0.0)
    assert not episodes.read(0, 0, LENGTH)[f"{key}s"].any()


@pytest.mark.parametrize("bound", [3.4e38, 1e10, 1e400, np.nan])
def test_bounds_that_say_nothing_are_those_of_the_actions(tmp_path, bound):
    vectors = lambda actions: np.stack([actions, 3 * actions - 1], axis=1).astype(np.float32)
    declared = {"kind": "continuous", "size": 2, "low": [-5.0, -bound], "high": [5.0, bound]}
    data = write_dataset(tmp_path, {"train": [9]}, action=declared, actions_of=vectors)
    spec = Episodes(str(data), "train").spec.actions
    assert (spec.low, spec.high) == ((-5.0, -1.0), (5.0, 2.0))


def test_undeclared_discrete_actions_are_those_of_all_splits(tmp_path):
    actions = {"train": [0, 1, 0, 1, 0], "validation": [0, 4, 0, 0, 0], "test": [0, 2, 0, 0, 0]}
    values = lambda split: {"image": BLACK, "action": np.array(actions[split])}
    data = make(tmp_path, values, {"image": IMAGE, "action": tensor((), np.int64)}, splits=tuple(actions))
    assert {Episodes(str(data), split, image_key="image").spec.actions.size for split in actions} == {5}
    assert Episodes(str(data), "train[:1]", image_key="image", num_actions=9).spec.actions.size == 9


def test_integers_that_are_no_actions_are_invalid(tmp_path):
    values = lambda split: {"image": BLACK, "action": np.arange(LENGTH) * 10**9}
    data = make(tmp_path, values, {"image": IMAGE, "action": tensor((), np.int64)})
    with pytest.raises(ConfigError) as error:
        Episodes(str(data), "train", image_key="image")
    assert error.value.field == "config.data.num_actions"


RAMP = np.random.default_rng(0).integers(0, 256, (LENGTH, SIZE, 10, 3)).astype(np.uint8)


def stored(folder, frames, *, others=None):
    """A data set of frames as tensors; the split "other" holds `others`."""
    values = {"train": frames, "other": frames if others is None else others}
    features = {"image": tensor(frames.shape[1:], frames.dtype)}
    return make(folder, lambda split: {"image": values[split]}, features, splits=tuple(values))


@pytest.mark.parametrize(
    "frames",
    [
        RAMP,
        RAMP.astype(np.int64),
        RAMP.astype(np.float32),
        RAMP / np.float32(255),
        RAMP / np.float64(255),
        np.moveaxis(RAMP, -1, 1),
        np.moveaxis(RAMP / np.float32(255), -1, 1),
        np.concatenate([RAMP, np.full_like(RAMP[..., :1], 255)], axis=-1),
    ],
    ids=["uint8", "int64", "float 255", "float 1", "double 1", "channel first", "channel-first float", "alpha"],
)
@pytest.mark.parametrize("cache_bytes", [0, 1 << 30])
def test_frames_of_other_types_become_uint8(tmp_path, frames, cache_bytes):
    episodes = Episodes(str(stored(tmp_path, frames)), "train", image_key="image", cache_bytes=cache_bytes)
    assert episodes.spec.frame_shape == (SIZE, 10, 3)
    found = episodes.read(0, 0, LENGTH)["frames"]
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, RAMP)
    small = Episodes(str(tmp_path / "tfds"), "train", image_key="image", image_size=(4, 5)).read(0, 0, 1)["frames"]
    pooled = RAMP[:1].reshape(1, 4, 2, 5, 2, 3).astype(float).mean(axis=(2, 4))
    assert np.abs(small - pooled).max() <= 1


def test_gray_and_binary_frames(tmp_path):
    gray = Episodes(str(stored(tmp_path / "a", RAMP[..., :1])), "train", image_key="image")
    np.testing.assert_array_equal(gray.read(0, 0, LENGTH)["frames"], RAMP[..., :1])
    binary = Episodes(str(stored(tmp_path / "b", RAMP[..., :1] > 100)), "train", image_key="image")
    np.testing.assert_array_equal(binary.read(0, 0, LENGTH)["frames"], 255 * (RAMP[..., :1] > 100))


def test_all_splits_decide_what_numbers_mean(tmp_path):
    dark = np.zeros_like(RAMP, np.float32)
    dark[:, 0] = 1
    data = str(stored(tmp_path, dark, others=RAMP.astype(np.float32)))
    assert Episodes(data, "train", image_key="image").read(0, 0, 1)["frames"].max() == 1
    data = str(stored(tmp_path / "unit", dark))
    assert Episodes(data, "train", image_key="image").read(0, 0, 1)["frames"].max() == 255


def test_conversions_are_told(tmp_path, caplog):
    Episodes(str(stored(tmp_path / "a", RAMP)), "train", image_key="image")
    assert not caplog.records
    Episodes(str(stored(tmp_path / "b", np.moveaxis(RAMP / np.float32(255), -1, 1))), "train", image_key="image")
    assert "float32" in caplog.text
    assert "channel-first" in caplog.text


@pytest.mark.parametrize(
    "frames",
    [
        RAMP / np.float32(255) * 2 - 1,
        RAMP / np.float32(100),
        RAMP.astype(np.int32) * 200,
        (RAMP > 100).astype(np.int32),
        np.where(RAMP > 250, np.nan, 0).astype(np.float32),
        np.concatenate([RAMP, RAMP[..., :2]], axis=-1),
        RAMP[..., :2],
    ],
    ids=["-1 to 1", "0 to 2.55", "16 bits", "binary integers", "NaN", "5 channels", "2 channels"],
)
def test_frames_that_could_mean_several_things_are_invalid(tmp_path, frames):
    with pytest.raises(ConfigError) as error:
        Episodes(str(stored(tmp_path, frames)), "train", image_key="image")
    assert error.value.field == "config.data.image_key"


def png(pixels):
    return cv2.imencode(".png", pixels)[1].tobytes()


def test_images_are_delivered_with_the_channels_and_bits_that_they_declare(tmp_path):
    rgba = np.concatenate([RAMP, RAMP[..., :1]], axis=-1)
    depth = RAMP[..., :1].astype(np.uint16) * 257
    values = {"rgba": [png(f[..., [2, 1, 0, 3]]) for f in rgba], "depth": [png(f) for f in depth]}
    image = lambda channels, dtype: tfds.features.Image(shape=(SIZE, 10, channels), dtype=dtype, encoding_format="png")
    features = {"rgba": image(4, np.uint8), "depth": image(1, np.uint16)}
    data = str(make(tmp_path, lambda split: values, features))
    episodes = Episodes(data, "train", image_key="rgba", observation_keys=("rgba", "depth"))
    assert episodes.spec.frame_shape == (SIZE, 10, 3)
    found = episodes.read(0, 0, LENGTH)
    np.testing.assert_array_equal(found["frames"], RAMP)
    np.testing.assert_array_equal(found["rgba"], rgba)
    np.testing.assert_array_equal(found["depth"], depth)
    with pytest.raises(ConfigError, match="uint16") as error:
        Episodes(data, "train", image_key="depth")
    assert error.value.field == "config.data.image_key"


def test_an_observation_that_is_no_image_is_damage(tmp_path):
    image = tfds.features.Image(shape=(SIZE, SIZE, 4), encoding_format="png")
    values = lambda split: {"image": BLACK, "rgba": [b"no image"] * LENGTH}
    data = make(tmp_path, values, {"image": IMAGE, "rgba": image})
    episodes = Episodes(str(data), "train", image_key="image", observation_keys=("rgba",), max_damaged=1)
    with pytest.raises(DamagedRecord):
        episodes.read(0, 0, 1)


def test_single_images_as_tensors_are_converted_too(tmp_path):
    examples = [{"image": frame / np.float32(255)} for frame in RAMP]
    data = write_tfds(tmp_path, {"image": tensor(RAMP.shape[1:])}, {"train": examples})
    episodes = Episodes(str(data), "train")
    found = [episodes.read(i, 0, 1)["frames"][0] for i in range(LENGTH)]
    np.testing.assert_array_equal(found, RAMP)


def test_another_image_key_is_named(tmp_path):
    features = {"observation": {"camera": {"front": IMAGE}, "state": tensor((2,))}}
    values = lambda split: {"observation": {"camera": {"front": BLACK}, "state": np.zeros((LENGTH, 2), np.float32)}}
    data = str(make(tmp_path, values, features))
    with pytest.raises(ConfigError, match=r"\['observation/camera/front'\]") as error:
        Episodes(data, "train")
    assert error.value.field == "config.data.image_key"
    with pytest.raises(ConfigError):  # a dictionary, and one that has three entries has a shape of length three
        Episodes(data, "train", image_key="observation")
    assert Episodes(data, "train", image_key="observation/camera/front").lengths.tolist() == [LENGTH]


@pytest.mark.parametrize(
    "slices", [("train[:3]", "train[-3:]"), ("train[:10%]", "train[-10:]"), ("train[1:2]", "train[12:]")]
)
def test_the_index_of_a_slice_is_its_own(tmp_path, slices):
    lengths = list(range(3, 23))
    data = str(write_dataset(tmp_path, {"train": lengths}))
    expected = {"train[:3]": [3, 4, 5], "train[-3:]": [20, 21, 22], "train[:10%]": [3, 4], "train[-10:]": lengths[-10:]}
    expected |= {"train[1:2]": [4], "train[12:]": lengths[12:]}
    for name in (*slices, *slices):
        assert Episodes(data, name).lengths.tolist() == expected[name]


def test_keys_that_look_alike_have_their_own_index(tmp_path):
    features = {"image": IMAGE, "a": {"b": tensor((1,))}, "a_b": tensor((1,))}
    ones = np.ones((LENGTH, 1), np.float32)
    data = str(make(tmp_path, lambda split: {"image": BLACK, "a": {"b": ones}, "a_b": 7 * ones}, features))
    for key, high in (("a/b", 1.0), ("a_b", 7.0)):
        assert Episodes(data, "train", image_key="image", action_key=key).spec.actions.high == (high,)


def test_the_fingerprint_sees_every_byte_and_reads_unchanged_files_once(tmp_path, monkeypatch):
    noise = lambda actions: np.random.default_rng(len(actions)).random((len(actions), 9000)).astype(np.float32)
    action = {"kind": "continuous", "size": 9000, "low": [], "high": []}
    data = write_dataset(tmp_path, {"train": [30, 17, 9, 24]}, action=action, actions_of=noise)
    first = Episodes(str(data), "train").fingerprint
    for path in data.iterdir():
        os.utime(path, (1e9, 1e9))
    assert Episodes(str(data), "train").fingerprint == first
    with monkeypatch.context() as patch:
        patch.setattr(fingerprints, "_digest", None)
        assert Episodes(str(data), "train").fingerprint == first
    shutil.copytree(data, tmp_path / "copy")
    (tmp_path / "copy" / "notes.txt").write_text("not data")
    (tmp_path / "copy" / ".cache").mkdir()
    assert Episodes(str(tmp_path / "copy"), "train").fingerprint == first
    path = next(data.glob("*train*array_record*"))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    assert 1 << 17 < middle < len(content) - (1 << 17)  # far from both ends
    content[middle] ^= 1
    path.write_bytes(content)
    assert Episodes(str(data), "train", max_damaged=4).fingerprint != first
    assert fingerprints.of_dataset(tfds.builder_from_directory(data)) != first


def test_a_file_that_changes_at_once_is_read_again(tmp_path):
    data = write_dataset(tmp_path, {"train": [9]})
    of = lambda: fingerprints.of_dataset(tfds.builder_from_directory(data))
    first, path = of(), data / "features.json"
    state = path.stat()
    path.write_text(path.read_text().replace("16", "61"))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))  # within one tick of the file system's clock
    assert of() != first


@pytest.mark.parametrize(("key", "same"), [("versions", True), ("record", False), ("action", False)])
def test_what_the_fingerprint_holds_of_the_metadata(tmp_path, key, same):
    data = write_dataset(tmp_path, {"train": [9]})
    first = Episodes(str(data), "train").fingerprint
    path = data / "metadata.json"
    metadata = json.loads(path.read_text())
    metadata[key] = metadata[key] | {"size": 3}
    path.write_text(json.dumps(metadata))
    assert (Episodes(str(data), "train").fingerprint == first) == same


CLASS = "tensorflow_datasets.core.features.image_feature.Image"


@pytest.mark.parametrize("hidden", [False, True])
def test_features_run_no_code(tmp_path, monkeypatch, hidden):
    data = write_dataset(tmp_path, {"train": [9]})
    (tmp_path / "planted.py").write_text(f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    path = data / "features.json"
    text = path.read_text()
    assert CLASS in text
    if hidden:  # a feature inside a string, as older data sets have them
        inner = {"steps": {"type": "planted.Feature", "content": {}}}
        features = "tensorflow_datasets.core.features.features_dict.FeaturesDict"
        path.write_text(json.dumps({"pythonClassName": features, "jsonFeature": {"json": json.dumps(inner)}}))
    else:
        path.write_text(text.replace(CLASS, "planted.Image"))
    with pytest.raises(ConfigError, match=r"'planted\.") as error:
        Episodes(str(data), "train")
    assert error.value.field == "config.data.dataset"
    assert "planted" not in sys.modules
    assert not (tmp_path / "ran").exists()
    path.write_text(text)
    assert len(Episodes(str(data), "train")) == 1


def test_data_sets_by_name_run_no_code(tmp_path, monkeypatch):
    data = write_dataset(tmp_path / "made", {"train": [9]})
    (tmp_path / "planted2.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    shutil.copytree(data, tmp_path / "recording" / "1.0.0")
    tfds.core.add_data_dir(tmp_path)
    assert len(Episodes("recording:1.0.0", "train")) == 1
    path = tmp_path / "recording" / "1.0.0" / "features.json"
    path.write_text(path.read_text().replace(CLASS, "planted2.Image"))
    with pytest.raises(ConfigError, match=r"'planted2\.Image'"):
        Episodes("recording:1.0.0", "train")
    assert "planted2" not in sys.modules
    for name in ("huggingface:mnist", "someone:data/1.0.0"):
        with pytest.raises(ConfigError, match=r"config\.data\.dataset"):
            Episodes(name, "train")


@pytest.mark.parametrize(
    ("files", "opened", "kind"),
    [
        (["episodes.h5"], "episodes.h5", "HDF5"),
        (["a.hdf5", "b.hdf5"], "", "HDF5"),
        (["meta/info.json", "data/chunk-000/episode_000000.parquet"], "", "LeRobot"),
        (["data/main_data.hdf5", "data/metadata.json"], "", "Minari"),
        (["data/main_data.hdf5", "data/metadata.json"], "data", "Minari"),
        (["replay.zarr/.zgroup", "replay.zarr/data/.zarray"], "replay.zarr", "Zarr"),
        (["replay.zarr/zarr.json"], "", "Zarr"),
        (["store.zarr/zarr.json"], "store.zarr", "Zarr"),
        (["episode_0.npz"], "", "NumPy"),
        (["part.parquet"], "part.parquet", "Parquet"),
        (["clip.mp4"], "", "config.record.source=videos"),
        (["cat/1.png", "dog/1.png"], "", "config.record.source=images"),
        (["my_data-train.tfrecord-00000-of-00001"], "", "dataset_info.json"),
    ],
)
def test_other_formats_are_named_with_what_to_do(tmp_path, files, opened, kind):
    for file in files:
        path = tmp_path / "data set" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    with pytest.raises(ConfigError, match=kind) as error:
        Episodes(str(tmp_path / "data set" / opened), "train")
    assert error.value.field == "config.data.dataset"
