"""A folder of video files as episodes, with the actions of each beside it where there are any."""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

import av
import numpy as np

from world_models.core.errors import ConfigError, UserError
from world_models.data.episodes import Episode, encode

SUFFIXES = (".mp4", ".gif", ".webm", ".mkv", ".avi", ".mov")


@dataclasses.dataclass
class VideoSource:
    """Episodes of video files; see `world_models.data.episodes.Source`.

    NAME.npy or NAME.csv beside NAME.mp4 holds a row a frame (the last may be missing): one column of integers for
    discrete actions, else a float vector; row t is what was done after frame t. Without such files there is one
    discrete action, which says nothing.

    Attributes:
      folder: where the files are, sorted by name.
      image_size: (height, width) of the frames.
      frame_stride: every so many-th frame is kept; the action kept is the one of the kept frame.
      max_episode_steps: longer videos are cut into episodes of so many steps; 0 keeps them whole.
    """

    folder: str
    image_size: tuple[int, int]
    frame_stride: int
    max_episode_steps: int

    def __post_init__(self):
        """Finds the files and checks the actions."""
        folder = pathlib.Path(self.folder).expanduser()
        if not self.folder or not folder.is_dir():
            raise ConfigError(
                "config.record.videos",
                f"config.record.videos={self.folder!r} is no folder: name one with {', '.join(SUFFIXES)}.",
            )
        self._files = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
        if not self._files:
            raise ConfigError(
                "config.record.videos",
                f"config.record.videos={self.folder!r} holds no video: put {', '.join(SUFFIXES)} there.",
            )
        self.num_units = len(self._files)
        tables = [read_actions(path) for path in self._files]
        with_actions = [table is not None for table in tables]
        if any(with_actions) and not all(with_actions):
            bare = self._files[with_actions.index(False)]
            raise UserError(f"{bare} has no action file, others in the folder do: add {bare.stem}.npy or .csv.")
        self.action = _describe([table for table in tables if table is not None], self.folder)

    def describe(self, unit: int) -> str:
        """Name of a file for error messages."""
        return str(self._files[unit])

    def episodes(self, unit: int) -> Iterator[Episode]:
        """Decodes one file."""
        path = self._files[unit]
        actions = read_actions(path)
        images, first = [], 0
        limit = self.max_episode_steps or np.inf
        count = 0
        for count, frame in enumerate(_frames(path), 1):
            if (count - 1) % self.frame_stride == 0:
                images.append(encode(frame, self.image_size))
            if len(images) == limit:
                yield self._episode(images, actions, first, unit)
                images, first = [], first + int(limit)
        if count == 0:
            raise UserError(f"{path} holds no frame that can be decoded.")
        if actions is not None and len(actions) not in (count, count - 1):
            raise UserError(
                f"The actions of {path} have {len(actions)} rows for {count} frames: a row a frame is needed."
            )
        if images:
            yield self._episode(images, actions, first, unit)

    def _episode(self, images: list[bytes], actions: np.ndarray | None, first: int, unit: int) -> Episode:
        length = len(images)
        if actions is None:
            rows = np.zeros(length, np.int64)
        else:
            rows = actions[:: self.frame_stride][first : first + length]
            rows = np.concatenate([rows, np.zeros((length - len(rows), *rows.shape[1:]), rows.dtype)])
        return Episode(images, rows, np.zeros(length, np.float32), False, unit)


def _frames(path: pathlib.Path) -> Iterator[np.ndarray]:
    """The frames of a file, uint8 [h, w, 3]."""
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24")
    except (av.error.FFmpegError, IndexError) as error:
        raise UserError(f"{path} cannot be read as a video: {error}") from error


def read_actions(path: pathlib.Path) -> np.ndarray | None:
    """Actions beside a video: int64 [time], float32 [time, dim], or None.

    Raises:
      UserError: if the file is no table of numbers.
    """
    for suffix in (".npy", ".csv"):
        file = path.with_suffix(suffix)
        if not file.exists():
            continue
        try:
            table = np.load(file) if suffix == ".npy" else np.loadtxt(file, delimiter=",", ndmin=2)
            table = np.asarray(table)
            if suffix == ".csv" and table.shape[1] == 1 and (table == np.round(table)).all():
                table = table.astype(np.int64)
            if table.ndim == 2 and table.shape[1] == 1 and np.issubdtype(table.dtype, np.integer):
                table = table[:, 0]
            if table.ndim == 1 and np.issubdtype(table.dtype, np.integer):
                return table.astype(np.int64)
            return table.astype(np.float32).reshape(len(table), -1)
        except (ValueError, IndexError) as error:
            raise UserError(f"{file} is no table of actions, a row a frame: {error}") from error
    return None


def _describe(tables: list[np.ndarray], folder: str) -> dict[str, Any]:
    if not tables:
        return {"kind": "discrete", "size": 1, "low": [], "high": []}
    if len({(table.dtype.kind, table.shape[1:]) for table in tables}) > 1:
        raise UserError(f"The action files in {folder} differ in kind or width: all must have the same columns.")
    if tables[0].ndim == 1:
        if min(int(table.min()) for table in tables) < 0:
            raise UserError(f"The action files in {folder} hold negative integers: discrete actions count from 0.")
        return {"kind": "discrete", "size": max(int(table.max()) for table in tables) + 1, "low": [], "high": []}
    low, high = (pick([pick(t, axis=0) for t in tables], axis=0).tolist() for pick in (np.min, np.max))
    return {"kind": "continuous", "size": tables[0].shape[1], "low": low, "high": high}
