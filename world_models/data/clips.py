"""Windows of T steps out of episodes, and the deterministic, seekable stream of their batches (Grain)."""

from collections.abc import Iterator
from typing import Any

import grain
import jax
import numpy as np

from world_models.core.errors import UserError
from world_models.core.types import Clip
from world_models.data.dataset import Episodes
from world_models.data.records import DamagedRecord


def window_starts(
    lengths: np.ndarray, clip_length: int, stride: int, *, across_episodes: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Where the windows begin.

    Args:
      lengths: int [episodes], steps of each episode.
      clip_length: steps of a window.
      stride: distance of the starts of neighbouring windows.
      across_episodes: let windows run over an episode's end into the next episode. Else every window lies in one
        episode and the starts are 0, stride, 2·stride, … of each.

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


class Windows:
    """All windows of a split, by index. `load` makes a batch of them."""

    def __init__(
        self,
        episodes: Episodes,
        clip_length: int,
        stride: int = 1,
        *,
        across_episodes: bool = False,
        field: str = "config.data.clip_length",
    ):
        """See `window_starts`; `field` is the name of the length in error messages.

        Raises:
          UserError: if no episode is long enough for a window.
        """
        if clip_length < 1 or stride < 1:
            raise UserError(f"{field}={clip_length} and config.data.stride={stride} must be at least 1.")
        self.episodes = episodes
        self.clip_length = clip_length
        self.episode, self.start = window_starts(episodes.lengths, clip_length, stride, across_episodes=across_episodes)
        if len(self.episode) == 0:
            raise UserError(
                f"{field}={clip_length} is longer than every episode of {episodes.name} "
                f"(the longest has {int(episodes.lengths.max())} steps): choose at most that."
            )

    def __len__(self) -> int:
        return len(self.episode)

    def load(self, indices: np.ndarray) -> Clip:
        """The windows `indices` [batch] as a `Clip` of NumPy arrays.

        A window that holds a damaged record is replaced by the next that starts in another episode and can be read;
        after the last window comes the first. Which one that is depends on the files and the index alone.

        Raises:
          UserError: if more records are damaged than `Episodes` allows, or no window can be read.
        """
        rows = [self._readable(int(i)) for i in indices]
        return Clip(**{name: np.stack([row[name] for row in rows]) for name in Clip._fields})

    def _readable(self, index: int) -> dict[str, np.ndarray]:
        for _ in range(len(self.episodes) + 1):
            try:
                return self._window(int(self.episode[index]), int(self.start[index]))
            except DamagedRecord:
                index = int(np.searchsorted(self.episode, self.episode[index], side="right")) % len(self)
        raise UserError(f"Not one window of {self.episodes.name} can be read: copy the data set again or make it anew.")

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


def batches(
    windows: Windows,
    batch_size: int,
    *,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
    num_threads: int = 2,
    prefetch: int = 8,
) -> grain.IterDataset:
    """An endless stream of shuffled batches, a pure function of `seed` and the step.

    Every epoch is a new permutation; the stream is cut into global batches, of which this process loads its rows:
    the global batch of a step does not depend on the number of processes. The iterator's `get_state`/`set_state`
    hold the position.

    Args:
      windows: what to draw from.
      batch_size: rows of the global batch.
      seed: of the shuffle.
      process_index, process_count: which rows to load.
      num_threads: threads that load batches ahead.
      prefetch: batches held ready.

    Returns:
      A Grain data set of `Clip`s with batch_size / process_count rows.
    """
    if batch_size % process_count:
        raise UserError(f"config.train.batch_size={batch_size} must be a multiple of {process_count} processes.")
    rows = batch_size // process_count
    mine = slice(process_index * rows, (process_index + 1) * rows)
    indices = grain.MapDataset.range(len(windows)).seed(seed).shuffle().repeat(None).batch(batch_size)
    loaded = indices.map(lambda index: windows.load(index[mine]))
    return loaded.to_iter_dataset(grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=prefetch))


def to_device(
    iterator: grain.DatasetIterator, sharding: jax.sharding.Sharding, ahead: int = 2
) -> Iterator[tuple[Clip, dict[str, Any]]]:
    """Moves batches to the devices `ahead` of their use.

    Yields:
      (clip, position): global arrays with `sharding`, and the iterator's state from which the next batch follows.
    """
    queue: list[tuple[Clip, dict[str, Any]]] = []
    for batch in iterator:
        clip = jax.tree.map(lambda rows: jax.make_array_from_process_local_data(sharding, rows), batch)
        queue.append((clip, iterator.get_state()))
        if len(queue) > ahead:
            yield queue.pop(0)
    yield from queue
