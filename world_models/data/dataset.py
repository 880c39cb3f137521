"""The episodes of an RLDS (or plain image) data set, by index, with a description that models can be built from."""

import dataclasses
import hashlib
import os
import pathlib
import threading
import zipfile
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds

from world_models.core.errors import UserError
from world_models.core.types import ActionSpec
from world_models.data import records, schema
from world_models.data.records import DamagedRecord

_LABELS_AT_ONCE = 256  # records read in one go: many, because each call costs, and few, because episodes are large

cv2.setNumThreads(1)  # parallelism comes from the pipeline's own threads


@dataclasses.dataclass(frozen=True)
class DataSpec:
    """What a model must know of its data: frame shape (height, width, channel) and action space.

    `record` is the `config.record` that recorded them, where one did: a model's plans are tried in that world.
    """

    frame_shape: tuple[int, int, int]
    actions: ActionSpec
    record: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """A dict for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> "DataSpec":
        """The inverse of `to_dict`."""
        return cls(tuple(d["frame_shape"]), ActionSpec.from_dict(d["actions"]), d.get("record", {}))


class Episodes:
    """One split of a data set, by episode.

    Frames stay as they were encoded on disk until a window of them is asked for. If the whole split fits into
    `cache_bytes` once decoded, every episode is decoded once and kept.

    An episode whose record is found damaged when the split is first indexed has length 0 from then on. Later damage
    shows when it is read.

    Attributes:
      name: directory of the data.
      lengths: int64 [episodes], number of steps of each.
      spec: `DataSpec`.
      fingerprint: hex digest of the files, and of which records were damaged when the split was indexed.
      damaged: episode -> which record of which file it is and what is wrong with it, for all damaged records that this
        process met. Threads that load batches add to it: look at a copy, `list(damaged.items())`.
    """

    def __init__(
        self,
        dataset: str,
        split: str,
        *,
        image_key: str = "observation/image",
        action_key: str = "action",
        image_size: tuple[int, int] | None = None,
        num_actions: int = 0,
        cache_bytes: int = 2 << 30,
        max_damaged: int = 0,
    ):
        """Opens a split.

        Args:
          dataset: directory or TFDS name.
          split: name of a split, TFDS slices such as "train[:10%]" included.
          image_key: path of the frames inside a step (or inside an example, for image data sets).
          action_key: path of the action inside a step; several paths joined by commas are concatenated.
          image_size: (height, width) to resize frames to, or None.
          num_actions: size of a discrete action space that the data set does not declare (0: largest seen + 1).
          cache_bytes: memory that decoded frames may take.
          max_damaged: so many records of the split may be damaged.

        Raises:
          UserError: if the data are missing, empty, half-written, of another schema or more damaged than that.
        """
        builder = records.find_builder(dataset)
        self.name = str(builder.data_path)
        self.fingerprint = records.fingerprint(builder)
        self._features = builder.info.features
        self._records = records.open_records(builder, split)
        self._is_rlds = "steps" in self._features
        self._step_features = self._features["steps"].feature if self._is_rlds else self._features
        self._image_key, self._image = schema.find_image(self._step_features, image_key, self.name)
        self._action_keys = [key.strip() for key in action_key.split(",")]
        if not self._is_rlds or (self._action_keys == ["action"] and "action" not in self._step_features):
            self._action_keys = []
        self._size = tuple(image_size) if image_size else None
        shape = self._size or self._image.shape[:2]
        if None in shape:
            raise UserError(
                f"config.data.image_size is unset, but the frames of {self.name} vary in size: give (h, w)."
            )
        self.damaged: dict[int, str] = {}
        self._max_damaged = max_damaged
        self._lock = threading.Lock()
        self._labels: dict[str, np.ndarray] = {}
        index = self._index(split)
        self.lengths = index["lengths"]
        if len(index["damaged"]):  # other windows, so to a run these are other data
            without = f"{self.fingerprint} without {index['damaged'].tolist()}"
            self.fingerprint = hashlib.sha256(without.encode()).hexdigest()[:16]
        metadata = dict(builder.info.metadata or {})
        classes = schema.num_classes(self._step_features, self._action_keys)
        actions = schema.action_spec(self.name, index, metadata.get("action"), num_actions or classes)
        self.spec = DataSpec((*shape, self._image.shape[-1] or 3), actions, metadata.get("record", {}))
        decoded = int(self.lengths.sum()) * int(np.prod(self.spec.frame_shape))
        self._cache: dict[int, dict[str, np.ndarray]] | None = {} if decoded <= cache_bytes else None

    def __len__(self) -> int:
        return len(self.lengths)

    def read(self, episode: int, start: int, stop: int) -> dict[str, np.ndarray]:
        """Steps [start, stop) of an episode, as the fields of `Clip` without the batch axis.

        Raises:
          DamagedRecord: if these steps cannot be read; the record is counted.
          UserError: if it is one damaged record too many.
        """
        directly = self._cache is None or episode in self.damaged
        try:
            if directly:
                return self._decode(episode, start, stop)
            if episode not in self._cache:  # two threads may decode the same episode: wasteful, harmless
                self._cache[episode] = self._decode(episode, 0, int(self.lengths[episode]))
            return {name: values[start:stop] for name, values in self._cache[episode].items()}
        except DamagedRecord as error:
            self._count(episode, error)
            if directly:
                raise
        return self.read(episode, start, stop)  # with or without a cache, a bad frame spoils only windows that hold it

    def labels(self, key: str) -> np.ndarray:
        """One integer of every episode, such as its class; no frame is decoded for it, and it is kept.

        Args:
          key: path inside an example ("label", "episode_metadata/motion"); below `episode_metadata` its last part will
            do.

        Returns:
          int64 [episodes]; -1 where a record cannot be read or was left without a label.

        Raises:
          UserError: if there is no such integer, or more records are damaged than may be.
        """
        if key not in self._labels:
            path, feature = self._label_feature(key)
            for part in reversed(path.split("/")):
                feature = tfds.features.FeaturesDict({part: feature})
            found = np.full(len(self), -1, np.int64)
            for first in range(0, len(self), _LABELS_AT_ONCE):
                episodes = range(first, min(first + _LABELS_AT_ONCE, len(self)))
                for episode, record in zip(episodes, self._records.many(episodes)):
                    try:
                        if record is None:
                            raise DamagedRecord("its bytes cannot be read")
                        found[episode] = _deserialize_label(feature, record, path)
                    except DamagedRecord as error:
                        self._count(episode, error)
            self._labels[key] = found
        return self._labels[key]

    def num_classes(self, key: str) -> int:
        """Number of classes that the label under `key` declares, or else one more than the largest label."""
        return getattr(self._label_feature(key)[1], "num_classes", None) or int(self.labels(key).max()) + 1

    def _label_feature(self, key: str) -> tuple[str, Any]:
        """(path, feature) of an integer of the whole example."""

        def at(path: str) -> Any:
            feature = self._features
            for part in path.split("/"):
                feature = feature[part] if isinstance(feature, tfds.features.FeaturesDict) and part in feature else None
            is_integer = isinstance(feature, tfds.features.Tensor) and feature.shape == ()
            return feature if is_integer and np.issubdtype(feature.np_dtype, np.integer) else None

        for path in (key, f"episode_metadata/{key}"):
            if at(path) is not None:
                return path, at(path)
        there = [path for path in schema.paths(self._features) if at(path) is not None]
        raise UserError(
            f"config.eval.probes.label_key={key!r} is no integer of a whole example in {self.name}; "
            f"it has {there or 'no such labels'}."
        )

    def _count(self, episode: int, error: DamagedRecord) -> None:
        """Adds a record to `damaged`, once; refuses one too many."""
        filename, number = self._records.place(episode)
        with self._lock:
            if episode in self.damaged:
                return
            if len(self.damaged) >= self._max_damaged:
                raise UserError(
                    f"Record {number} (counted from 0) of {filename} is damaged ({error}), with {len(self.damaged)} "
                    f"other damaged records skipped so far and config.runtime.data.max_damaged={self._max_damaged}: copy the "
                    "file again or make it anew, or raise config.runtime.data.max_damaged to go on without the record."
                ) from error
            self.damaged[episode] = f"record {number} of {filename}: {error}"

    def _columns(self, episode: int) -> dict[str, np.ndarray | None]:
        """The fields that clips are made of, by path, for all steps of an episode; images as they are on disk."""
        record = self._records[episode]
        skip = tfds.decode.SkipDecoding()
        try:
            decoders = {"steps": skip} if self._is_rlds else {self._image_key: skip}
            example = self._features.deserialize_example_np(record, decoders=decoders)
            if self._is_rlds:
                steps = example["steps"]
            else:
                steps = {self._image_key: np.array([example[self._image_key]], dtype=object)}
            keys = (self._image_key, *self._action_keys, "reward", "is_terminal")
            columns = {key: schema.column(self._step_features, steps, key) for key in keys}
        except MemoryError:
            raise
        except Exception as error:
            raise DamagedRecord(str(error)[:120]) from error
        lengths = {key: len(values) for key, values in columns.items() if values is not None}
        if len(set(lengths.values())) > 1:
            raise DamagedRecord(f"its fields differ in length: {lengths}")
        return columns

    def _decode(self, episode: int, start: int, stop: int) -> dict[str, np.ndarray]:
        columns = self._columns(episode)
        images = columns[self._image_key]
        length = len(images)
        if length != self.lengths[episode]:
            raise DamagedRecord(f"it has {length} steps, and had {self.lengths[episode]} when the data were indexed")
        place = np.arange(start, stop)
        return {
            "frames": np.stack([self._frame(image) for image in images[start:stop]]),
            "actions": self._actions(columns)[start:stop].astype(self.spec.actions.dtype),
            "rewards": _or_zeros(columns["reward"], length, np.float32)[start:stop],
            "is_first": place == 0,
            "is_last": place == length - 1,
            "is_terminal": _or_zeros(columns["is_terminal"], length, np.bool_)[start:stop],
        }

    def _actions(self, columns: dict[str, np.ndarray | None]) -> np.ndarray:
        """Actions of a whole episode: int [time] or float32 [time, dim]; zeros where the data have none."""
        length, found = len(columns[self._image_key]), [columns[key] for key in self._action_keys]
        for key, values in zip(self._action_keys, found):
            if values is None:
                raise UserError(
                    f"config.data.action_key={key!r} is no array in {self.name}; "
                    f"its steps have {schema.paths(self._step_features)}: name one, or several joined by commas."
                )
        if not found:
            return np.zeros(length, np.int32)
        if len(found) == 1 and found[0].ndim == 1 and np.issubdtype(found[0].dtype, np.integer):
            return found[0]
        return np.concatenate([np.asarray(v, np.float32).reshape(length, -1) for v in found], axis=1)

    def _frame(self, image: bytes | np.ndarray) -> np.ndarray:
        frame = self._decode_image(image) if isinstance(image, bytes) else np.asarray(image)
        if self._size and frame.shape[:2] != self._size:
            frame = cv2.resize(frame, self._size[::-1], interpolation=cv2.INTER_AREA)
        if frame.shape[:2] != self.spec.frame_shape[:2]:
            raise DamagedRecord(f"a frame of shape {frame.shape[:2]} instead of {self.spec.frame_shape[:2]}")
        return frame if frame.ndim == 3 else frame[..., None]

    def _decode_image(self, image: bytes) -> np.ndarray:
        gray = self._image.shape[-1] == 1
        try:
            frame = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_GRAYSCALE if gray else cv2.IMREAD_COLOR)
        except cv2.error as error:
            raise DamagedRecord(f"a frame cannot be decoded: {str(error)[:120]}") from error
        if frame is None:
            raise DamagedRecord("a frame cannot be decoded")
        return frame if gray else cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)

    def _index(self, split: str) -> dict[str, np.ndarray]:
        """Lengths of all episodes and the range of actions; finding them reads everything, so they are kept."""
        root = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "world_models" / "index"
        slug = "".join(c if c.isalnum() else "_" for c in f"{split}-{','.join(self._action_keys)}")
        path = root / f"{self.fingerprint}-{slug}.npz"
        index = _load_index(path)
        if index is not None and all(self._is_damaged(int(episode)) for episode in index["damaged"]):
            return index
        self.damaged.clear()  # damaged files were mended
        index = self._scan(split)
        try:
            root.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f"{os.getpid()}-{path.name}")
            np.savez(temporary, **index)
            temporary.replace(path)
        except OSError:
            pass  # a cache that cannot be written costs time, nothing else
        return index

    def _is_damaged(self, episode: int) -> bool:
        try:
            self._columns(episode)
        except DamagedRecord as error:
            self._count(episode, error)
            return True
        return False

    def _scan(self, split: str) -> dict[str, np.ndarray]:
        """The index: lengths, range of actions, damaged records. Of single images the first and last are looked at."""
        count = len(self._records)
        lengths, low, high = np.ones(count, np.int64), [], []
        for episode in range(count) if self._is_rlds else (0, count - 1):
            try:
                columns = self._columns(episode)
            except DamagedRecord as error:
                self._count(episode, error)
                lengths[episode] = 0
                continue
            lengths[episode] = len(columns[self._image_key])
            if lengths[episode]:
                actions = self._actions(columns)
                low.append(actions.min(axis=0))
                high.append(actions.max(axis=0))
        if not lengths.any():
            first = next(iter(self.damaged.values()), "all episodes are empty")
            raise UserError(f"Not one record of split {split!r} in {self.name} can be read ({first}): make it again.")
        return {
            "lengths": lengths,
            "low": np.min(low or [0], axis=0),
            "high": np.max(high or [0], axis=0),
            "damaged": np.array(sorted(self.damaged), np.int64),
        }


def _load_index(path: pathlib.Path) -> dict[str, np.ndarray] | None:
    try:
        with np.load(path) as saved:
            return {"damaged": np.zeros(0, np.int64), **saved}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None


def _deserialize_label(features: tfds.features.FeaturesDict, record: bytes, path: str) -> int:
    """The integer at `path` of a record; `features` hold nothing else, so the rest is not looked at."""
    try:
        value = features.deserialize_example_np(record)
        for part in path.split("/"):
            value = value[part]
        return int(value)
    except MemoryError:
        raise
    except Exception as error:
        raise DamagedRecord(str(error)[:120]) from error


def _or_zeros(values: np.ndarray | None, length: int, dtype) -> np.ndarray:
    return np.zeros(length, dtype) if values is None else np.asarray(values, dtype).reshape(length)
