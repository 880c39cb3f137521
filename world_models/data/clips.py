"""Clips: windows of T steps out of episodes."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from world_models.core.errors import UserError, config_error
from world_models.core.specs import VideoSpec
from world_models.core.types import Clip
from world_models.data.dataset import Dataset
from world_models.data.records import DamagedRecord
from world_models.data.stored_episodes import Episodes
from world_models.data.tokenizers import TextEncoder


def window_starts(
    lengths: np.ndarray, clip_length: int, stride: int, *, across_episodes: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Where the windows begin.

    Args:
      lengths: int [episodes], steps of each episode.
      clip_length: steps of a window.
      stride: distance of the starts of neighbouring windows.
      across_episodes: whether windows run over an episode's end into the next episode. If not, every window lies in
        one episode and the starts are 0, stride, 2·stride, … of each.

    Returns:
      (episode, start), int64 [windows] each.
    """
    if across_episodes:
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        starts = np.arange(0, max(0, offsets[-1] - clip_length + 1), stride)
        episode = np.searchsorted(offsets, starts, side="right") - 1
        return episode, starts - offsets[episode]
    counts = np.maximum(0, (np.asarray(lengths) - clip_length) // stride + 1)
    episode = np.repeat(np.arange(len(counts)), counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return episode, within * stride


class Windows(Dataset):
    """All clips of a split, by index."""

    def __init__(
        self,
        episodes: Episodes,
        clip_length: int,
        stride: int = 1,
        *,
        across_episodes: bool = False,
        text_key: str = "",
        encoder: TextEncoder | None = None,
        field: str = "config.data.clip_length",
    ):
        """Finds the windows.

        Args:
          episodes: what to cut.
          clip_length, stride, across_episodes: see `window_starts`.
          text_key: path of the text of an episode, for `Clip.text`; empty for none.
          encoder: of that text.
          field: of the length, for error messages.

        Raises:
          ConfigError: if no episode is long enough for a window.
        """
        if clip_length < 1:
            raise config_error(field, clip_length, "be at least 1")
        if stride < 1:
            raise config_error("config.data.stride", stride, "be at least 1")
        self.episodes, self.clip_length = episodes, clip_length
        self.episode, self.start = window_starts(episodes.lengths, clip_length, stride, across_episodes=across_episodes)
        if len(self.episode) == 0:
            longest = int(episodes.lengths.max())
            raise config_error(
                field, clip_length, f"be at most {longest}, the steps of the longest episode of {episodes.name}"
            )
        self._encoder = encoder if text_key else None
        self._texts = episodes.texts(text_key) if text_key else None

    def __len__(self) -> int:
        return len(self.episode)

    @property
    def name(self) -> str:
        """Directory of the data."""
        return self.episodes.name

    @property
    def fingerprint(self) -> str:
        """That of the episodes."""
        return self.episodes.fingerprint

    @property
    def damaged(self) -> Mapping[int, str]:
        """That of the episodes."""
        return self.episodes.damaged

    @property
    def spec(self) -> VideoSpec:
        """That of the episodes, for clips of this length."""
        text = self._encoder and self._encoder.spec
        return dataclasses.replace(self.episodes.spec, clip_length=self.clip_length, text=text)

    def load(self, indices: np.ndarray) -> Clip:
        """The windows `indices` [batch] as a `Clip` of NumPy arrays.

        A window that holds a damaged record is replaced by the next that starts in another episode and can be read;
        after the last window comes the first. Which one that is depends on the files and the index alone.

        Raises:
          UserError: if more records are damaged than `Episodes` allows, or no window can be read.
        """
        return self.load_found(indices)[1]

    def load_found(self, indices: np.ndarray) -> tuple[np.ndarray, Clip]:
        """(windows int64 [batch], the same as `load`): other windows than `indices` where records are damaged."""
        found = [self._readable(int(i)) for i in indices]
        stacked = {name: np.stack([row[name] for _, row in found]) for name in found[0][1]}
        observations = {name: stacked.pop(name) for name in self.episodes.spec.observations}
        windows = np.array([index for index, _ in found])
        text = self._encoder([self._texts[episode] for episode in self.episode[windows]]) if self._encoder else None
        return windows, Clip(**stacked, text=text, observations=observations)

    def _readable(self, index: int) -> tuple[int, dict[str, np.ndarray]]:
        """(index, steps) of a window, or of the next one that can be read."""
        for _ in range(len(self.episodes) + 1):
            try:
                return index, self._window(int(self.episode[index]), int(self.start[index]))
            except DamagedRecord:
                index = int(np.searchsorted(self.episode, self.episode[index], side="right")) % len(self)
        raise UserError(f"No window of {self.episodes.name} can be read: copy or record the data set again.")

    def _window(self, episode: int, start: int) -> dict[str, np.ndarray]:
        pieces, missing = [], self.clip_length
        while missing:
            stop = min(start + missing, int(self.episodes.lengths[episode]))
            if stop > start:  # windows pass over episodes of length 0
                pieces.append(self.episodes.read(episode, start, stop))
            missing -= stop - start
            episode, start = episode + 1, 0
        if len(pieces) == 1:
            return pieces[0]
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
