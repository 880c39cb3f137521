"""The episodes of an RLDS (or plain image) data set, by index, with a description that models can be built from."""

import dataclasses
import functools
import os
import pathlib
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds

from world_models.data import records
from world_models.errors import UserError
from world_models.types import ActionSpec

cv2.setNumThreads(1)  # parallelism comes from the pipeline's own threads


@dataclasses.dataclass(frozen=True)
class DataSpec:
    """What a model must know of its data: frame shape (height, width, channel) and action space."""

    frame_shape: tuple[int, int, int]
    actions: ActionSpec

    def to_dict(self) -> dict[str, Any]:
        """A dict for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> "DataSpec":
        """The inverse of `to_dict`."""
        return cls(tuple(d["frame_shape"]), ActionSpec.from_dict(d["actions"]))


class Episodes:
    """One split of a data set, by episode.

    Frames stay as they were encoded on disk until a window of them is asked for. If the whole split fits into
    `cache_bytes` once decoded, every episode is decoded once and kept.

    Attributes:
      name: directory of the data.
      lengths: int64 [episodes], number of steps of each.
      spec: `DataSpec`.
      fingerprint: hex digest of the files.
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

        Raises:
          UserError: if the data are missing, empty, half-written or of another schema.
        """
        builder = records.find_builder(dataset)
        self.name = str(builder.data_path)
        self.fingerprint = records.fingerprint(builder)
        self._features = builder.info.features
        self._records = records.open_records(builder, split)
        self._is_rlds = "steps" in self._features
        self._step_features = self._features["steps"].feature if self._is_rlds else self._features
        self._image_key, self._image = _find_image(self._step_features, image_key, self.name)
        self._action_keys = [key.strip() for key in action_key.split(",")]
        if not self._is_rlds or (self._action_keys == ["action"] and "action" not in self._step_features):
            self._action_keys = []
        self._size = tuple(image_size) if image_size else None
        shape = self._size or self._image.shape[:2]
        if None in shape:
            raise UserError(
                f"config.data.image_size is unset, but the frames of {self.name} vary in size: give (h, w)."
            )
        index = self._index(split)
        self.lengths = index["lengths"]
        declared = dict(builder.info.metadata or {}).get("action")
        classes = _classes(self._step_features, self._action_keys)
        actions = _action_spec(self.name, index, declared, num_actions or classes)
        self.spec = DataSpec((*shape, self._image.shape[-1] or 3), actions)
        decoded = int(self.lengths.sum()) * int(np.prod(self.spec.frame_shape))
        self._cache: dict[int, dict[str, np.ndarray]] | None = {} if decoded <= cache_bytes else None

    def __len__(self) -> int:
        return len(self.lengths)

    def read(self, episode: int, start: int, stop: int) -> dict[str, np.ndarray]:
        """Steps [start, stop) of an episode, as the fields of `Clip` without the batch axis."""
        if self._cache is None:
            return self._decode(self._parse(episode), start, stop)
        if episode not in self._cache:  # two threads may decode the same episode: wasteful, harmless
            self._cache[episode] = self._decode(self._parse(episode), 0, int(self.lengths[episode]))
        return {name: values[start:stop] for name, values in self._cache[episode].items()}

    def _parse(self, episode: int) -> dict[str, Any]:
        skip = tfds.decode.SkipDecoding()
        decoders = {"steps": skip} if self._is_rlds else {self._image_key: skip}
        example = self._features.deserialize_example_np(self._records[episode], decoders=decoders)
        if self._is_rlds:
            return example["steps"]
        return {self._image_key: np.array([example[self._image_key]], dtype=object)}

    def _decode(self, steps: dict[str, Any], start: int, stop: int) -> dict[str, np.ndarray]:
        get = functools.partial(records.column, self._step_features, steps)
        images = get(self._image_key)
        length = len(images)
        place = np.arange(start, stop)
        return {
            "frames": np.stack([self._frame(image) for image in images[start:stop]]),
            "actions": self._actions(steps, length)[start:stop].astype(self.spec.actions.dtype),
            "rewards": _or_zeros(get("reward"), length, np.float32)[start:stop],
            "is_first": place == 0,
            "is_last": place == length - 1,
            "is_terminal": _or_zeros(get("is_terminal"), length, np.bool_)[start:stop],
        }

    def _actions(self, steps: dict[str, Any], length: int) -> np.ndarray:
        """Actions of a whole episode: int [time] or float32 [time, dim]; zeros where the data have none."""
        found = [records.column(self._step_features, steps, key) for key in self._action_keys]
        for key, values in zip(self._action_keys, found):
            if values is None:
                raise UserError(
                    f"config.data.action_key={key!r} is no array in {self.name}; "
                    f"its steps have {_paths(self._step_features)}: name one, or several joined by commas."
                )
        if not found:
            return np.zeros(length, np.int32)
        if len(found) == 1 and found[0].ndim == 1 and np.issubdtype(found[0].dtype, np.integer):
            return found[0]
        return np.concatenate([np.asarray(v, np.float32).reshape(length, -1) for v in found], axis=1)

    def _frame(self, image: bytes | np.ndarray) -> np.ndarray:
        if not isinstance(image, bytes):
            frame = np.asarray(image)
        elif self._image.shape[-1] == 1:
            frame = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_GRAYSCALE)
        else:
            frame = cv2.cvtColor(cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        if self._size and frame.shape[:2] != self._size:
            frame = cv2.resize(frame, self._size[::-1], interpolation=cv2.INTER_AREA)
        return frame if frame.ndim == 3 else frame[..., None]

    def _index(self, split: str) -> dict[str, np.ndarray]:
        """Lengths of all episodes and the range of actions; finding them reads everything, so they are kept."""
        root = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "world_models" / "index"
        slug = "".join(c if c.isalnum() else "_" for c in f"{split}-{','.join(self._action_keys)}")
        path = root / f"{self.fingerprint}-{slug}.npz"
        try:
            with np.load(path) as saved:
                return dict(saved)
        except (OSError, ValueError):
            pass
        index = self._scan()
        try:
            root.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f"{os.getpid()}-{path.name}")
            np.savez(temporary, **index)
            temporary.replace(path)
        except OSError:
            pass  # a cache that cannot be written costs time, nothing else
        return index

    def _scan(self) -> dict[str, np.ndarray]:
        if not self._is_rlds:
            return {"lengths": np.ones(len(self._records), np.int64), "low": np.array(0), "high": np.array(0)}
        lengths, low, high = [], [], []
        for episode in range(len(self._records)):
            steps = self._parse(episode)
            lengths.append(len(records.column(self._step_features, steps, self._image_key)))
            actions = self._actions(steps, lengths[-1])
            low.append(actions.min(axis=0))
            high.append(actions.max(axis=0))
        return {"lengths": np.array(lengths, np.int64), "low": np.min(low, axis=0), "high": np.max(high, axis=0)}


def _or_zeros(values: np.ndarray | None, length: int, dtype) -> np.ndarray:
    return np.zeros(length, dtype) if values is None else np.asarray(values, dtype).reshape(length)


def _paths(features, prefix: str = "") -> list[str]:
    if not isinstance(features, tfds.features.FeaturesDict):
        return [prefix]
    return [path for key in features for path in _paths(features[key], f"{prefix}/{key}" if prefix else key)]


def _feature(features, key: str):
    for part in key.split("/"):
        if not isinstance(features, tfds.features.FeaturesDict) or part not in features:
            return None
        features = features[part]
    return features


def _find_image(features, key: str, name: str):
    """(path, feature) of the frames: under `key`, or under its last part for data sets of single images."""
    for candidate in (key, key.split("/")[-1]):
        feature = _feature(features, candidate)
        if feature is not None and len(feature.shape or ()) == 3:
            return candidate, feature
    raise UserError(f"config.data.image_key={key!r} is no image in {name}; it has {_paths(features)}.")


def _classes(features, action_keys: list[str]) -> int:
    """Number of actions that a class label declares, or 0."""
    feature = _feature(features, action_keys[0]) if len(action_keys) == 1 else None
    return getattr(feature, "num_classes", None) or 0


def _action_spec(name: str, index: dict[str, np.ndarray], declared: dict | None, num_actions: int) -> ActionSpec:
    low, high = index["low"], index["high"]
    if low.ndim == 0:
        size = num_actions or (declared or {}).get("size") or int(high) + 1
        if int(high) >= size or int(low) < 0:
            raise UserError(f"config.data.num_actions={size} does not fit {name}: its actions are {low} to {high}.")
        return ActionSpec("discrete", int(size))
    if declared and len(declared.get("low", ())) == len(low):
        low, high = np.array(declared["low"]), np.array(declared["high"])
    return ActionSpec("continuous", len(low), tuple(low.astype(float).tolist()), tuple(high.astype(float).tolist()))
