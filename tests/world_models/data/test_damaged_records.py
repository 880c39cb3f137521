"""Damaged records are counted and passed over, the same way everywhere, until they are too many."""

import concurrent.futures
import itertools
import os
import pathlib
import re
import shutil

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from conftest import as_tfrecord
from tensorflow_datasets.proto import tf_example_pb2
from test_stored_episodes import Digits

from world_models.core.errors import ConfigError, UserError
from world_models.data import clips, index, records, rlds, stream
from world_models.data.episodes import Episode, encode
from world_models.data.stored_episodes import Episodes

SIZE, SHARDS, A_SHARD = 32, 3, 8
LENGTHS = [7 + i % 3 for i in range(SHARDS * A_SHARD)]
BAD = 12  # record 4 of shard 1


def _write(folder: pathlib.Path, wrong: bytes = b"") -> pathlib.Path:
    """Episodes of noise, which no format compresses, in three files; frame 5 of episode BAD is `wrong`, if given."""
    rng = np.random.default_rng(0)
    files = []
    folder.mkdir()
    for number, length in enumerate(LENGTHS):
        images = [encode(f, (SIZE, SIZE)) for f in rng.integers(0, 256, (length, SIZE, SIZE, 3), dtype=np.uint8)]
        if wrong and number == BAD:
            images[5] = wrong
        rewards = np.arange(length, dtype=np.float32)
        episode = Episode(images, rng.integers(0, 2, length), rewards, True)
        files.append(rlds.Stored(number, folder / f"{number}.episode", {}))
        episode.save(files[-1].path)
    action = {"kind": "discrete", "size": 2, "low": [], "high": []}
    description = rlds.Description((SIZE, SIZE), action, "Noise.", {}, {})
    builder = rlds.Recording(description=description, splits={"train": files}, data_dir=folder)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=SHARDS))
    return _old(pathlib.Path(builder.data_path))


def _old(data: pathlib.Path) -> pathlib.Path:
    """Files that were written long ago, so that their digests are kept."""
    for path in data.iterdir():
        os.utime(path, (1e9, 1e9))
    return data


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """The data set as ArrayRecord files."""
    return _write(tmp_path_factory.mktemp("noise") / "data")


@pytest.fixture(params=["array_record", "tfrecord"])
def data(request, noise, tmp_path):
    """A copy to damage, in both formats."""
    copy = tmp_path / "data"
    return _old(shutil.copytree(noise, copy) if request.param == "array_record" else as_tfrecord(noise, copy))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Every test indexes anew."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _shard(data: pathlib.Path, number: int) -> pathlib.Path:
    return next(data.glob(f"*-0000{number}-of-*"))


def _spoil(data: pathlib.Path, episode: int) -> None:
    """Flips bytes of a record, in a frame, as a failing disk does: size and time of the file stay."""
    path = _shard(data, episode // A_SHARD)
    record = records.open_records(tfds.builder_from_directory(data), "train")[episode]
    content = bytearray(path.read_bytes())
    begin = content.index(record[5000:5030])
    for i in range(begin, begin + 30):
        content[i] ^= 0xFF
    path.write_bytes(content)
    os.utime(path, (1e9, 1e9))


def _stream(data, steps=20, *, batch_size=8, max_damaged=1, cache_bytes=0, clip_length=4, across=False, **options):
    """The first batches of a newly opened data set."""
    episodes = Episodes(str(data), "train", max_damaged=max_damaged, cache_bytes=cache_bytes)
    windows = clips.Windows(episodes, clip_length, across_episodes=across)
    return list(itertools.islice(stream.batches(windows, batch_size, seed=3, **options), steps))


def _equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_damage_found_by_the_first_scan_is_remembered_and_mends(data, noise, monkeypatch):
    _spoil(data, BAD)
    with pytest.raises(UserError) as caught:
        Episodes(str(data), "train")
    for part in (
        f"Record 4 (counted from 0) of {_shard(data, 1)} is damaged",
        "config.runtime.data.max_damaged=0",
        "copy",
    ):
        assert part in str(caught.value)

    episodes = Episodes(str(data), "train", max_damaged=1)
    expected = [0 if i == BAD else n for i, n in enumerate(LENGTHS)]
    assert episodes.lengths.tolist() == expected
    assert list(episodes.damaged) == [BAD]
    assert episodes.damaged[BAD].startswith(f"record 4 of {_shard(data, 1)}: ")
    windows = clips.Windows(episodes, 4)
    assert BAD not in windows.episode
    windows.load(np.arange(len(windows)))
    across = clips.Windows(episodes, 12, across_episodes=True)
    assert len(across) == sum(expected) - 12 + 1
    across.load(np.arange(len(across)))
    assert list(episodes.damaged) == [BAD]

    with monkeypatch.context() as patch:  # the second opening finds the index, and still tells
        patch.setattr(index, "_scan", None)
        again = Episodes(str(data), "train", max_damaged=1)
        assert (again.damaged, again.lengths.tolist()) == (episodes.damaged, expected)
        with pytest.raises(UserError, match="Record 4 "):
            Episodes(str(data), "train")

    whole = data.parent / "whole"
    shutil.copytree(noise, whole) if "array_record" in _shard(data, 1).name else as_tfrecord(noise, whole)
    shutil.copy(_shard(whole, 1), _shard(data, 1))
    mended = Episodes(str(data), "train")
    assert (mended.damaged, mended.lengths.tolist()) == ({}, LENGTHS)
    assert mended.fingerprint == Episodes(str(whole), "train").fingerprint != episodes.fingerprint == again.fingerprint


@pytest.mark.parametrize("cache_bytes", [0, 1 << 30])
@pytest.mark.parametrize("across", [False, True])
def test_later_damage_replaces_its_windows_and_no_others(data, noise, cache_bytes, across):
    healthy = Episodes(str(noise), "train")
    windows = clips.Windows(healthy, 4, across_episodes=across)
    before = Episodes(str(data), "train").fingerprint
    reference = clips.Windows(healthy, 4, across_episodes=across)
    reference.load = lambda index: index
    indices = list(itertools.islice(stream.batches(reference, 8, seed=3), 50))
    _spoil(data, BAD)

    def replaced(index):
        holds = lambda i: BAD in (windows.episode[i], windows.episode[i] + (windows.start[i] + 4 > LENGTHS[BAD - 1]))
        while holds(index):
            index = (index + 1) % len(windows)
        return index

    rows = np.array([[replaced(i) for i in batch] for batch in indices])
    assert 10 < (rows != np.array(indices)).sum() < rows.size / 4  # more than an epoch: all its windows were drawn
    options = {"cache_bytes": cache_bytes, "across": across}
    found = _stream(data, 50, **options)
    for batch, row in zip(found, rows):
        _equal(batch, windows.load(row))
    for batch, again in zip(found, _stream(data, 50, **options, num_threads=7, prefetch=20)):
        _equal(batch, again)
    parts = [_stream(data, 50, **options, process_index=i, process_count=2) for i in range(2)]
    for batch, first, second in zip(found, *parts):
        _equal(batch, jax.tree.map(lambda *halves: np.concatenate(halves), first, second))
    opened = Episodes(str(data), "train")
    assert (opened.fingerprint, opened.lengths.tolist(), opened.damaged) == (before, LENGTHS, {})


def test_windows_of_the_last_episode_are_replaced_by_the_first(data):
    windows = clips.Windows(Episodes(str(data), "train", max_damaged=1), 4)
    first = windows.load([0])
    _spoil(data, len(LENGTHS) - 1)
    _equal(windows.load([len(windows) - 1]), first)
    assert list(windows.episodes.damaged) == [len(LENGTHS) - 1]


@pytest.mark.parametrize("allowed", [0, 1, 2])
def test_one_damaged_record_too_many_stops_the_stream_and_is_named(data, allowed):
    windows = clips.Windows(Episodes(str(data), "train", max_damaged=allowed), 4)
    bad = [3, BAD, 21][: allowed + 1]
    for episode in bad:
        _spoil(data, episode)
    with pytest.raises(UserError) as caught:
        for _ in itertools.islice(stream.batches(windows, 8, seed=0), 100):
            pass
    (last,) = set(bad) - set(windows.episodes.damaged)
    message = str(caught.value)
    assert f"Record {last % A_SHARD} (counted from 0) of {_shard(data, last // A_SHARD)} is damaged" in message
    assert f"config.runtime.data.max_damaged={allowed}" in message


def test_threads_count_a_record_once(data):
    windows = clips.Windows(Episodes(str(data), "train", max_damaged=1), 4)
    _spoil(data, BAD)
    inside = np.flatnonzero(windows.episode == BAD)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        loaded = list(pool.map(lambda _: windows.load(inside), range(40)))
    assert list(windows.episodes.damaged) == [BAD]
    for clip in loaded:
        _equal(clip, loaded[0])


def test_a_shard_cut_short_loses_its_records_and_no_others(data):
    path = _shard(data, 1)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=rf"Record \d \(counted from 0\) of {path} is damaged"):
        Episodes(str(data), "train", max_damaged=1)
    episodes = Episodes(str(data), "train", max_damaged=A_SHARD)
    assert set(episodes.damaged) <= set(range(A_SHARD, 2 * A_SHARD))
    assert A_SHARD + A_SHARD - 1 in episodes.damaged
    assert all(str(path) in text for text in episodes.damaged.values())
    windows = clips.Windows(episodes, 4)
    assert set(range(len(LENGTHS))) - set(windows.episode.tolist()) == set(episodes.damaged)
    windows.load(np.arange(len(windows)))


@pytest.mark.parametrize("cache_bytes", [0, 1 << 30])
@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (b"no image at all", "a frame cannot be decoded"),
        (encode(np.zeros((SIZE, 9, 3), np.uint8), (SIZE, 9)), "a frame of shape (32, 9) instead of (32, 32)"),
    ],
    ids=["no image", "another size"],
)
def test_a_frame_that_is_no_image_spoils_the_windows_that_hold_it(tmp_path, wrong, reason, cache_bytes):
    data = _write(tmp_path / "data", wrong)
    windows = clips.Windows(Episodes(str(data), "train", cache_bytes=cache_bytes), 4)
    with pytest.raises(UserError, match=rf"Record 4 .* is damaged \({re.escape(reason)}\)"):
        windows.load(np.flatnonzero(windows.episode == BAD))
    windows = clips.Windows(Episodes(str(data), "train", cache_bytes=cache_bytes, max_damaged=1), 4)
    inside = np.flatnonzero(windows.episode == BAD)
    clip = windows.load(inside)  # starts 0 to 3; the frame is in those from 2 on
    assert clip.rewards[:, 0].tolist() == [0, 1, 0, 0]
    _equal(windows.load(inside[::-1]), jax.tree.map(lambda x: x[::-1], clip))
    after = windows.load([inside[-1] + 1])
    _equal(jax.tree.map(lambda x: x[3:], clip), after)
    assert windows.episodes.damaged == {BAD: f"record 4 of {_shard(data, 1)}: {reason}"}


def test_an_episode_whose_fields_differ_in_length_is_damaged(noise, tmp_path):
    data = as_tfrecord(noise, tmp_path / "data")
    path = _shard(data, 1)
    record = records.open_records(tfds.builder_from_directory(data), "train")[BAD]
    example = tf_example_pb2.Example.FromString(record)
    del example.features.feature["steps/reward"].float_list.value[2:]
    shorter = example.SerializeToString()
    filler = len(record) - len(shorter) - 2
    shorter += b"\x1a" + bytes([filler]) + bytes(filler)  # an unknown field, which readers skip
    whole = lambda data: data + records.tfrecord_checksum(data)
    path.write_bytes(path.read_bytes().replace(whole(record), whole(shorter)))
    with pytest.raises(UserError, match=r"Record 4 .* fields differ in length: .*'reward': 2"):
        Episodes(str(data), "train")
    assert list(Episodes(str(data), "train", max_damaged=1).damaged) == [BAD]


def test_an_episode_of_another_length_than_indexed_is_damaged(data):
    episodes = Episodes(str(data), "train", max_damaged=1)
    other = episodes._columns.records[BAD + 1]  # as if the files had been exchanged under a running process
    episodes._columns.records._read = lambda index: other
    with pytest.raises(records.DamagedRecord, match=f"it has {LENGTHS[BAD + 1]} steps, and had {LENGTHS[BAD]} when"):
        episodes.read(BAD, 0, 4)


def test_another_schema_is_never_taken_for_damage(data):
    _spoil(data, 0)
    with pytest.raises(ConfigError, match=r"config.data.action_key"):
        Episodes(str(data), "train", action_key="action/arm", max_damaged=99)
    with pytest.raises(ConfigError, match=r"config.data.image_key"):
        Episodes(str(data), "train", image_key="observation/wrist", max_damaged=99)


def test_data_of_which_nothing_is_left_are_refused(data):
    windows = clips.Windows(Episodes(str(data), "train", max_damaged=99), 4)
    for shard in range(SHARDS):
        path = _shard(data, shard)
        path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(UserError, match=str(data)):
        windows.load([5])
    with pytest.raises(UserError, match=r"'train' .*\(record 0 of .*-00000-of-"):
        Episodes(str(data), "train", max_damaged=99)


def test_image_data_sets_cut_short_are_refused_when_opened(tmp_path):
    Digits(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    path = next(tmp_path.glob("**/*.array_record-*"))
    path.write_bytes(path.read_bytes()[:-70000])
    with pytest.raises(UserError, match=rf"Record 0 .* of {path} is damaged"):
        Episodes(str(tmp_path), "train")


def test_a_damaged_index_is_made_again(noise, tmp_path):
    Episodes(str(noise), "train")
    (path,) = (tmp_path / "cache").glob("**/*.npz")
    path.write_bytes(path.read_bytes()[:-50])
    assert Episodes(str(noise), "train").lengths.tolist() == LENGTHS
