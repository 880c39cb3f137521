"""A folder of video files as episodes, with the actions of each beside it where there are any."""

import dataclasses
import difflib
import functools
import hashlib
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from world_models.core.errors import ConfigError, UserError, config_error
from world_models.data.episodes import Episode, check_fit, describe_fit, encode
from world_models.data.video_files import Frame, at_rate, constant, decode, shown_size

SUFFIXES = (".mp4", ".gif", ".webm", ".mkv", ".avi", ".mov")
ACTIONS = (".npy", ".csv")
LOOKED_AT = 50  # files of a folder whose sizes are said


@dataclasses.dataclass
class VideoSource:
    """Episodes of video files; see `world_models.data.episodes.Source`.

    NAME.npy or NAME.csv beside NAME.mp4 holds a row a frame (the last may be missing): one column of integers for
    discrete actions, else a float vector; row t is what was done after frame t. Without such files there is one
    discrete action, which says nothing.

    Attributes:
      folder: where the files are, sorted by name.
      skip: names of files to leave out.
      image_size: (height, width) of the frames.
      fit: how frames of other proportions get there; see `world_models.data.episodes.fitted`.
      fps: frames a second; 0 takes them as they come, at the constant rate of the file.
      frame_stride: every so many-th frame is kept; the action kept is the one of the kept frame.
      max_episode_steps: longer videos are cut into episodes of so many steps; 0 keeps them whole.
    """

    folder: str
    skip: tuple[str, ...]
    image_size: tuple[int, int]
    fit: str
    fps: float
    frame_stride: int
    max_episode_steps: int

    def __post_init__(self):
        """Finds the files and checks the actions."""
        check_fit(self.fit)
        folder = pathlib.Path(self.folder).expanduser()
        found = _videos_in(folder) if self.folder and folder.is_dir() else []
        if not found:
            valid = f"be a folder with video files ({', '.join(SUFFIXES)})"
            raise config_error("config.record.videos", self.folder, valid)
        unknown = sorted(set(self.skip) - {path.name for path in found})
        if unknown:
            raise config_error("config.record.skip", self.skip, f"name videos in {folder}: there is no {unknown[0]!r}")
        self._files = [path for path in found if path.name not in self.skip]
        if not self._files:
            raise config_error("config.record.skip", self.skip, f"leave a video in {folder}")
        self.num_units = len(self._files)
        ignored = _other_actions(folder, found)
        tables = [read_actions(path) for path in self._files]
        with_actions = [table is not None for table in tables]
        if any(with_actions) and not all(with_actions):
            bare = self._files[with_actions.index(False)]
            raise UserError(f"{bare} has no action file, others in the folder do: add {bare.stem}.npy or .csv.")
        self.action = _describe([table for table in tables if table is not None], self.folder)
        sizes = [shown_size(path) for path in self._files[:: -(-len(self._files) // LOOKED_AT)]]
        self.summary = describe_fit(sizes, self.image_size, self.fit)
        self.summary += f" Not used: {', '.join(ignored)}." if ignored else ""

    def key(self, unit: int) -> str:
        """Name of a video's files: a digest of its name, its content and its actions."""
        path = self._files[unit]
        files = [path, *_action_files(path)]
        digests = [_digest(file, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        return hashlib.sha256("\n".join([path.name, *digests]).encode()).hexdigest()[:24]

    def metadata(self, unit: int) -> dict[str, Any]:
        """What is stored with each episode of a video."""
        return {"video": self._files[unit].name}

    def describe(self, unit: int) -> str:
        """Name of a file for error messages."""
        return str(self._files[unit])

    def episodes(self, unit: int) -> Iterator[Episode]:
        """Decodes one file."""
        path = self._files[unit]
        actions, count = read_actions(path), 0

        def counted() -> Iterator[Frame]:
            nonlocal count
            for frame in decode(path):
                count = frame.index + 1
                yield frame

        images: list[bytes] = []
        rows: list[int] = []
        frames = at_rate(counted(), self.fps) if self.fps else constant(counted(), path)
        for number, frame in enumerate(frames):
            if number % self.frame_stride == 0:
                images.append(encode(frame.image, self.image_size, self.fit))
                rows.append(frame.index)
            if self.max_episode_steps and len(images) == self.max_episode_steps:
                yield _episode(images, rows, actions)
                images, rows = [], []
        if actions is not None and len(actions) not in (count, count - 1):
            raise UserError(
                f"The actions of {path} have {len(actions)} rows for {count} frames: a row a frame is needed."
            )
        if images:
            yield _episode(images, rows, actions)


@functools.cache
def _digest(path: pathlib.Path, size: int, modified: int) -> str:
    """SHA-256 of a file's content; read again only when its size or time of change differs."""
    del size, modified
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _episode(images: list[bytes], rows: list[int], actions: np.ndarray | None) -> Episode:
    """An episode with the rows of the actions of its frames; the last row may be missing."""
    if actions is None:
        chosen = np.zeros(len(rows), np.int64)
    else:
        actions = np.concatenate([actions, np.zeros_like(actions, shape=(1, *actions.shape[1:]))])
        chosen = actions[np.minimum(rows, len(actions) - 1)]
    return Episode(images, chosen, np.zeros(len(rows), np.float32), False)


def _videos_in(folder: pathlib.Path) -> list[pathlib.Path]:
    """The video files of a folder, sorted by name, without those that a system hides there, such as `._a.mp4`.

    Raises:
      ConfigError: for a link that leads nowhere.
    """
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    broken = next((p for p in found if not p.exists()), None)
    if broken is not None:
        raise ConfigError("config.record.videos", f"config.record.videos: {broken} is a link to nothing: remove it.")
    return [p for p in found if p.is_file()]


def _other_actions(folder: pathlib.Path, videos: Sequence[pathlib.Path]) -> list[str]:
    """Names of tables in the folder that belong to no video.

    Raises:
      UserError: if one is called nearly as a video, or two videos would share one.
    """
    stems = [path.stem for path in videos]
    used = [file for path in videos for file in _action_files(path)]
    twice = next((file for file in used if used.count(file) > 1), None)
    if twice is not None:
        raise UserError(f"{twice} belongs to more than one video: give each video a name of its own.")
    others = []
    for file in sorted(p for p in folder.iterdir() if p.suffix.lower() in ACTIONS and not p.name.startswith(".")):
        if file in used:
            continue
        near = next((stem for stem in stems if _words(stem) in _words(file.stem)), None)
        near = near or next(iter(difflib.get_close_matches(file.stem, stems, 1, 0.8)), None)
        if near:
            raise UserError(f"{file} belongs to no video: is it {near}.npy or {near}.csv? Rename it or move it away.")
        others.append(file.name)
    return others


def _words(name: str) -> str:
    """A name in lower case, its words between underscores."""
    return "_" + re.sub("[^a-z0-9]+", "_", name.lower()) + "_"


def _action_files(path: pathlib.Path) -> list[pathlib.Path]:
    """The tables of actions beside a video: none or one.

    Raises:
      UserError: if there are two.
    """
    found = [path.with_suffix(suffix) for suffix in ACTIONS if path.with_suffix(suffix).exists()]
    if len(found) > 1:
        raise UserError(f"{path} has two action files, {found[0].name} and {found[1].name}: move one away.")
    return found


def read_actions(path: pathlib.Path) -> np.ndarray | None:
    """Actions beside a video: int64 [time], float32 [time, dim], or None.

    Raises:
      UserError: if the file is no table of numbers.
    """
    for file in _action_files(path):
        try:
            table = np.load(file) if file.suffix == ".npy" else np.loadtxt(file, delimiter=",", ndmin=2)
            table = np.asarray(table)
            if file.suffix == ".csv" and table.shape[1] == 1 and (table == np.round(table)).all():
                table = table.astype(np.int64)
            if table.ndim == 2 and table.shape[1] == 1 and np.issubdtype(table.dtype, np.integer):
                table = table[:, 0]
            if table.ndim == 1 and np.issubdtype(table.dtype, np.integer):
                return table.astype(np.int64)
            return _finite(table.astype(np.float32).reshape(len(table), -1), file)
        except UserError:
            raise
        except (ValueError, IndexError) as error:
            raise UserError(f"{file} is no table of actions, a row a frame: {error}") from error
    return None


def _finite(table: np.ndarray, file: pathlib.Path) -> np.ndarray:
    rows = np.flatnonzero(~np.isfinite(table).all(axis=1))
    if len(rows):
        raise UserError(f"{file} holds an action that is not finite, in row {rows[0]}: mend or cut it there.")
    return table


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
