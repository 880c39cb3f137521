"""Episodes of an RLDS data set (or images of a plain one) on disk, by index, with the spec that models need."""

import os
import pathlib
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from world_models.core.errors import UserError, config_error
from world_models.core.specs import ArraySpec, VideoSpec
from world_models.data import fields, images, records, schema
from world_models.data import metadata as metadata_file
from world_models.data.records import DamagedRecord, DamagedRecords


class Episodes:
    """One split of a data set, by episode.

    Frames stay encoded, as they are on disk, until a window of them is read. If the whole split fits into
    `cache_bytes` once decoded, every episode is decoded once and kept.

    An episode whose record is damaged when the split is first indexed has length 0 from then on. Later damage shows
    when the record is read.

    Attributes:
      name: directory of the data.
      lengths: int64 [episodes], number of steps of each.
      spec: `VideoSpec` of clips of one step.
      fingerprint: hex digest of the files, and of which records were damaged when the split was indexed.
      damaged: episode -> which record of which file it is and what is wrong with it, for all damaged records that this
        process met. Threads that load batches add to it: iterate over a copy, `list(damaged.items())`.
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
        observation_keys: tuple[str, ...] = (),
        cache_bytes: int = 2 << 30,
        max_damaged: int = 0,
    ):
        """Opens a split.

        Args:
          dataset: directory or TFDS name.
          split: name of a split, TFDS slices such as "train[:10%]" included.
          image_key: path of the frames inside a step (or inside an example, for image data sets).
          action_key: path of the action inside a step; several paths, comma-separated, are concatenated.
          image_size: (height, width) to resize frames to, or None.
          num_actions: size of a discrete action space that the data set does not declare (0: largest seen + 1).
          observation_keys: paths of further fields of a step to read: tensors, or images, which are not resized.
          cache_bytes: memory that decoded frames may take.
          max_damaged: how many records of the split may be damaged.

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
            valid = f"be (height, width): the frames of {self.name} vary in size"
            raise config_error("config.data.image_size", image_size, valid)
        self._observations = schema.observations(self._step_features, observation_keys, self.name)
        self._damage = DamagedRecords(self._records, max_damaged)
        self._labels: dict[str, np.ndarray] = {}
        index = self._index(split)
        self.lengths = index["lengths"]
        if len(index["damaged"]):  # other windows, so to a run these are other data
            self.fingerprint = records.fingerprint_without(self.fingerprint, index["damaged"].tolist())
        metadata = metadata_file.read(builder)
        classes = schema.num_classes(self._step_features, self._action_keys)
        actions = schema.action_spec(self.name, index, metadata.get("action"), num_actions or classes)
        observations = {key: ArraySpec(f.shape, np.dtype(f.np_dtype).name) for key, f in self._observations.items()}
        frame_shape = (*shape, self._image.shape[-1] or 3)
        self.spec = VideoSpec(frame_shape, actions, metadata.get("record", {}), observations=observations)
        arrays = [ArraySpec(frame_shape, "uint8"), *observations.values()]
        decoded = int(self.lengths.sum()) * sum(int(np.prod(x.shape)) * np.dtype(x.dtype).itemsize for x in arrays)
        self._cache: dict[int, dict[str, np.ndarray]] | None = {} if decoded <= cache_bytes else None

    @property
    def damaged(self) -> dict[int, str]:
        """What is wrong with each damaged episode that this process met, by index."""
        return self._damage.found

    def __len__(self) -> int:
        return len(self.lengths)

    def read(self, episode: int, start: int, stop: int) -> dict[str, np.ndarray]:
        """Steps [start, stop) of an episode: the fields of `Clip` but `text`, without the batch axis.

        Those of `Clip.observations` are under their own names.

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
            self._damage.add(episode, error)
            if directly:
                raise
        return self.read(episode, start, stop)  # with or without a cache, a bad frame spoils only windows that hold it

    def labels(self, key: str) -> np.ndarray:
        """One integer of every episode, such as its class. No frame is decoded for it; the result is kept.

        Args:
          key: path inside an example ("label", "episode_metadata/motion"); below `episode_metadata` the last part is
            enough.

        Returns:
          int64 [episodes]; -1 where a record cannot be read or has no label.

        Raises:
          UserError: if there is no such integer, or more records are damaged than may be.
        """
        if key not in self._labels:
            path, _ = schema.find_label(self._features, key, self.name)
            values = self._values(path, int)
            self._labels[key] = np.array([-1 if value is None else value for value in values], np.int64)
        return self._labels[key]

    def num_classes(self, key: str) -> int:
        """Number of classes that the label under `key` declares, or else one more than the largest label."""
        _, feature = schema.find_label(self._features, key, self.name)
        return getattr(feature, "num_classes", None) or int(self.labels(key).max()) + 1

    def texts(self, key: str) -> list[str]:
        """A text of every episode; of a field of its steps the one of the first step; empty where it cannot be read.

        Args:
          key: path inside an example or a step, of a text or of a label whose classes have names.

        Raises:
          ConfigError: if there is no such field.
          UserError: if more records are damaged than may be.
        """
        path, to_text = schema.find_text(self._features, key, self.name)
        return [text or "" for text in self._values(path, to_text)]

    def _values(self, path: str, convert: Callable[[Any], Any]) -> list[Any]:
        """A field of every example, converted; None where it cannot be read."""
        return fields.read(self._records, self._features, path, convert, self._damage.add)

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
            keys = (self._image_key, *self._action_keys, *self._observations, "reward", "is_terminal")
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
        observations = {key: self._observation(key, columns[key][start:stop]) for key in self._observations}
        return observations | {
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
                there = schema.paths(self._step_features)
                raise config_error("config.data.action_key", key, f"name arrays in the steps of {self.name}: {there}")
        if not found:
            return np.zeros(length, np.int32)
        if len(found) == 1 and found[0].ndim == 1 and np.issubdtype(found[0].dtype, np.integer):
            return found[0]
        return np.concatenate([np.asarray(v, np.float32).reshape(length, -1) for v in found], axis=1)

    def _frame(self, image: bytes | np.ndarray) -> np.ndarray:
        frame = images.decoded(image, self._image.shape[-1])
        if self._size:
            frame = images.shrunk(frame, self._size)
        if frame.shape[:2] != self.spec.frame_shape[:2]:
            raise DamagedRecord(f"a frame of shape {frame.shape[:2]} instead of {self.spec.frame_shape[:2]}")
        return frame if frame.ndim == 3 else frame[..., None]

    def _observation(self, key: str, values: np.ndarray) -> np.ndarray:
        """The values [time, ...] of a further observation."""
        feature = self._observations[key]
        if isinstance(feature, tfds.features.Image):
            values = np.stack([images.decoded(image, feature.shape[-1]) for image in values])
        try:
            return np.asarray(values, feature.np_dtype).reshape(len(values), *feature.shape)
        except ValueError as error:
            raise DamagedRecord(f"{key} has shape {values.shape[1:]} instead of {feature.shape}") from error

    def _index(self, split: str) -> dict[str, np.ndarray]:
        """Lengths of all episodes and the range of actions; finding them reads everything, so they are kept."""
        root = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "world_models" / "index"
        slug = "".join(c if c.isalnum() else "_" for c in f"{split}-{','.join(self._action_keys)}")
        path = root / f"{self.fingerprint}-{slug}.npz"
        index = _load_index(path)
        if index is not None and all(self._is_damaged(int(episode)) for episode in index["damaged"]):
            return index
        self.damaged.clear()  # damaged files were repaired
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
            self._damage.add(episode, error)
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
                self._damage.add(episode, error)
                lengths[episode] = 0
                continue
            lengths[episode] = len(columns[self._image_key])
            if lengths[episode]:
                actions = self._actions(columns)
                low.append(actions.min(axis=0))
                high.append(actions.max(axis=0))
        if not lengths.any():
            first = next(iter(self.damaged.values()), "all episodes are empty")
            raise UserError(f"No record of split {split!r} in {self.name} can be read ({first}): record it again.")
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


def _or_zeros(values: np.ndarray | None, length: int, dtype) -> np.ndarray:
    return np.zeros(length, dtype) if values is None else np.asarray(values, dtype).reshape(length)
