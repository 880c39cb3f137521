"""Episodes of an RLDS data set (or images of a plain one) on disk, by index, with the spec that models need."""

import functools
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from world_models.core.errors import config_error
from world_models.core.specs import ArraySpec, VideoSpec
from world_models.data import builders, fields, fingerprints, images, index, schema
from world_models.data import metadata as metadata_file
from world_models.data.columns import Columns
from world_models.data.frames import Frames
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
          num_actions: number of discrete actions where the data set does not declare it; 0: largest of all splits + 1.
          observation_keys: paths of further fields of a step to read: tensors, or images, which are not resized.
          cache_bytes: memory that decoded frames may take.
          max_damaged: how many records of the split may be damaged.

        Raises:
          UserError: if the data are missing, empty, half-written, of another schema or more damaged than that, or if
            numbers are not finite or frames could mean several things (see `Columns.check_numbers` and `Frames`).
        """
        builder = builders.find_builder(dataset)
        self.name = str(builder.data_path)
        self._features = builder.info.features
        keys = {"image_key": image_key, "action_key": action_key, "observation_keys": tuple(observation_keys)}
        open_columns = functools.partial(Columns, builder, **keys)
        self._columns = columns = open_columns(split)
        self._frames = Frames.of(columns.image, columns.image_key, self.name)
        self._size = tuple(image_size) if image_size else None
        shape = self._size or self._frames.shape[:2]
        if None in shape:
            valid = f"be (height, width): the frames of {self.name} vary in size"
            raise config_error("config.data.image_size", image_size, valid)
        self._damage = DamagedRecords(columns.records, max_damaged)
        self._labels: dict[str, np.ndarray] = {}
        self.fingerprint = fingerprints.of_dataset(builder)
        own = index.find(columns, self._frames, self._damage, self.fingerprint)
        self.lengths = own["lengths"]
        metadata = metadata_file.read(builder)
        num_actions = num_actions or schema.num_classes(columns.features, columns.action_keys)
        is_sized = num_actions or metadata.get("action") or not columns.action_keys
        if self._frames.is_measured or (own["low"].ndim == 0 and not is_sized):
            others = [open_columns(name) for name, n in _sizes(builder).items() if n and name != split]
            own |= self._ranges(own, others, max_damaged)
        if len(own["damaged"]):  # other windows, so to a run these are other data
            self.fingerprint = fingerprints.without(self.fingerprint, own["damaged"].tolist())
        if self._frames.note:
            _tell(self.name, self._frames.note)
        actions = schema.action_spec(self.name, own, metadata.get("action"), num_actions)
        observations = {key: ArraySpec(f.shape, np.dtype(f.np_dtype).name) for key, f in columns.observations.items()}
        frame_shape = (*shape, self._frames.shape[-1])
        self.spec = VideoSpec(frame_shape, actions, metadata.get("record", {}), observations=observations)
        arrays = [ArraySpec(frame_shape, "uint8"), *observations.values()]
        decoded = int(self.lengths.sum()) * sum(int(np.prod(x.shape)) * np.dtype(x.dtype).itemsize for x in arrays)
        self._cache: dict[int, dict[str, np.ndarray]] | None = {} if decoded <= cache_bytes else None

    def _ranges(self, own: dict[str, np.ndarray], others: list[Columns], max_damaged: int) -> dict[str, np.ndarray]:
        """The index entries that all splits decide together, so that they agree; also decides the scale of frames."""
        fingerprint, frames = self.fingerprint, self._frames
        damages = [DamagedRecords(each.records, max_damaged) for each in others]
        ranges = index.merged(
            [own, *(index.find(each, frames, damage, fingerprint) for each, damage in zip(others, damages))]
        )
        if frames.is_measured:
            self._frames = frames.scaled(*ranges["values"], bool(ranges["whole"]), self.name)
        return ranges if own["low"].ndim == 0 else {}

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
        return fields.read(self._columns.records, self._features, path, convert, self._damage.add)

    def _decode(self, episode: int, start: int, stop: int) -> dict[str, np.ndarray]:
        own = self._columns
        columns = own.read(episode)
        stored = columns[own.image_key]
        length = len(stored)
        if length != self.lengths[episode]:
            raise DamagedRecord(f"it has {length} steps, and had {self.lengths[episode]} when the data were indexed")
        place = np.arange(start, stop)
        observations = {key: self._observation(key, columns[key][start:stop]) for key in own.observations}
        return observations | {
            "frames": np.stack([self._frame(image) for image in stored[start:stop]]),
            "actions": own.actions(columns)[start:stop].astype(self.spec.actions.dtype),
            "rewards": own.rewards(columns)[start:stop],
            "is_first": place == 0,
            "is_last": place == length - 1,
            "is_terminal": _or_false(columns["is_terminal"], length)[start:stop],
        }

    def _frame(self, stored: bytes | np.ndarray) -> np.ndarray:
        frame = self._frames.decode(stored)
        if self._size:
            frame = images.shrunk(frame, self._size)
        if frame.shape[:2] != self.spec.frame_shape[:2]:
            raise DamagedRecord(f"a frame of shape {frame.shape[:2]} instead of {self.spec.frame_shape[:2]}")
        return frame if frame.ndim == 3 else frame[..., None]

    def _observation(self, key: str, values: np.ndarray) -> np.ndarray:
        """The values [time, ...] of a further observation."""
        feature = self._columns.observations[key]
        if isinstance(feature, tfds.features.Image):
            values = np.stack([images.as_declared(image, feature) for image in values])
        try:
            return np.asarray(values, feature.np_dtype).reshape(len(values), *feature.shape)
        except ValueError as error:
            raise DamagedRecord(f"{key} has shape {values.shape[1:]} instead of {feature.shape}") from error


@functools.cache
def _tell(name: str, note: str) -> None:
    """Says once in a process what is done to the frames of a data set."""
    logging.getLogger(__name__).warning("%s: %s.", name, note)


def _sizes(builder: tfds.core.DatasetBuilder) -> dict[str, int]:
    return {name: split.num_examples for name, split in builder.info.splits.items()}


def _or_false(values: np.ndarray | None, length: int) -> np.ndarray:
    return np.zeros(length, np.bool_) if values is None else np.asarray(values, np.bool_).reshape(length)
