"""Windows and their stream, against brute force."""

import jax
import numpy as np
import pytest
from conftest import square_world

from world_models.core.errors import UserError
from world_models.data import clips
from world_models.data.dataset import Episodes


@pytest.mark.parametrize("lengths", [[7, 1, 5, 13, 2], [4], [3, 3, 3], [1, 1, 9]])
@pytest.mark.parametrize("clip_length", [1, 3, 4])
@pytest.mark.parametrize("stride", [1, 2, 5])
def test_window_starts_equal_brute_force(lengths, clip_length, stride):
    expected = []
    for episode, length in enumerate(lengths):
        expected += [(episode, start) for start in range(0, length, stride) if start + clip_length <= length]
    episode, start = clips.window_starts(np.array(lengths), clip_length, stride)
    assert list(zip(episode.tolist(), start.tolist())) == expected

    timeline = [(episode, t) for episode, length in enumerate(lengths) for t in range(length)]
    expected = [timeline[i] for i in range(0, len(timeline) - clip_length + 1, stride)]
    episode, start = clips.window_starts(np.array(lengths), clip_length, stride, across_episodes=True)
    assert list(zip(episode.tolist(), start.tolist())) == expected


@pytest.mark.parametrize("cache_bytes", [0, 1 << 30])
@pytest.mark.parametrize("across", [False, True])
def test_windows_hold_what_the_episodes_hold(square_data, cache_bytes, across):
    episodes = Episodes(str(square_data), "train", cache_bytes=cache_bytes)
    worlds = [square_world(n, i) for i, n in enumerate([30, 17, 9, 24, 30, 5])]
    frames = np.concatenate([world[0] for world in worlds])
    actions = np.concatenate([world[1] for world in worlds])
    place = np.concatenate([np.arange(n) for n in episodes.lengths])
    left = np.concatenate([n - 1 - np.arange(n) for n in episodes.lengths])
    offsets = np.concatenate([[0], np.cumsum(episodes.lengths)])
    windows = clips.Windows(episodes, 7, 3, across_episodes=across)
    clip = windows.load(np.arange(len(windows)))
    assert clip.is_first[:, 0].any()
    assert clip.is_first[:, 1:].any() == across
    for row, (episode, start) in enumerate(zip(windows.episode, windows.start)):
        want = slice(offsets[episode] + start, offsets[episode] + start + 7)
        np.testing.assert_array_equal(clip.frames[row], frames[want])
        np.testing.assert_array_equal(clip.actions[row], actions[want])
        np.testing.assert_array_equal(clip.rewards[row], place[want])
        np.testing.assert_array_equal(clip.is_first[row], place[want] == 0)
        np.testing.assert_array_equal(clip.is_last[row], left[want] == 0)
        np.testing.assert_array_equal(clip.is_terminal[row], left[want] == 0)


def _take(iterator, count):
    return [next(iterator) for _ in range(count)]


def test_stream_is_a_function_of_the_seed_and_can_be_taken_up_anywhere(square_data):
    windows = clips.Windows(Episodes(str(square_data), "train"), 5)
    first = iter(clips.batches(windows, 8, seed=3))
    again = iter(clips.batches(windows, 8, seed=3, num_threads=1, prefetch=1))
    other = iter(clips.batches(windows, 8, seed=4))
    head = _take(first, 5)
    position = first.get_state()
    tail = _take(first, 20)  # several epochs
    for a, b in zip(head, _take(again, 5)):
        jax.tree.map(np.testing.assert_array_equal, a, b)
    again.set_state(position)
    for a, b in zip(tail, _take(again, 20)):
        jax.tree.map(np.testing.assert_array_equal, a, b)
    assert any((a.frames != b.frames).any() for a, b in zip(head, _take(other, 5)))


def test_every_epoch_holds_every_window_once_in_a_new_order(square_data):
    windows = clips.Windows(Episodes(str(square_data), "train"), 5)
    windows.load = lambda index: index
    batch = next(size for size in (7, 5, 3, 2, 1) if len(windows) % size == 0)
    stream = iter(clips.batches(windows, batch, seed=0))
    epochs = np.concatenate(_take(stream, 2 * len(windows) // batch)).reshape(2, -1)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(len(windows)))
    assert (epochs[0] != epochs[1]).any()


def test_processes_share_out_the_same_global_batch(square_data):
    windows = clips.Windows(Episodes(str(square_data), "train"), 5)
    whole = _take(iter(clips.batches(windows, 8, seed=1)), 4)
    parts = [_take(iter(clips.batches(windows, 8, seed=1, process_index=i, process_count=4)), 4) for i in range(4)]
    for step, batch in enumerate(whole):
        joined = jax.tree.map(lambda *rows: np.concatenate(rows), *[part[step] for part in parts])
        jax.tree.map(np.testing.assert_array_equal, batch, joined)
    with pytest.raises(UserError, match="batch_size=8 must be a multiple of 3"):
        clips.batches(windows, 8, seed=1, process_count=3)


def test_prefetched_batches_carry_the_position_that_follows_them(square_data):
    windows = clips.Windows(Episodes(str(square_data), "train"), 5)
    plain = _take(iter(clips.batches(windows, 4, seed=0)), 8)
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    feed = clips.to_device(iter(clips.batches(windows, 4, seed=0)), sharding, ahead=3)
    for step in range(4):
        clip, position = next(feed)
        np.testing.assert_array_equal(np.asarray(clip.frames), plain[step].frames)
    resumed = iter(clips.batches(windows, 4, seed=0))
    resumed.set_state(position)
    np.testing.assert_array_equal(next(resumed).frames, plain[4].frames)


def test_windows_longer_than_every_episode_are_refused(square_data):
    with pytest.raises(UserError, match=r"config.data.clip_length=31 is longer than every episode .* 30 steps"):
        clips.Windows(Episodes(str(square_data), "train"), 31)
