"""Windows of episodes, against brute force."""

import numpy as np
import pytest
from conftest import square_world

from world_models.core.errors import ConfigError
from world_models.data import clips
from world_models.data.stored_episodes import Episodes


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


def test_windows_longer_than_every_episode_are_invalid(square_data):
    with pytest.raises(ConfigError, match=r"config.data.clip_length"):
        clips.Windows(Episodes(str(square_data), "train"), 31)
