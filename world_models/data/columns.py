"""The fields that clips are made of, episode by episode, as they are on disk."""

import numpy as np
import tensorflow_datasets as tfds

from world_models.core.errors import UserError, config_error
from world_models.data import records, schema
from world_models.data.records import DamagedRecord
from world_models.data.schema import LARGEST


class Columns:
    """Frames, actions, rewards, ends and further observations of a split.

    Attributes:
      name: of the data set, for messages.
      split: its name.
      records: the serialized examples.
      is_rlds: whether examples have steps; else each is one image.
      features: of a step, or of an example without steps.
      keys: paths of all fields that are read.
    """

    def __init__(
        self,
        builder: tfds.core.DatasetBuilder,
        split: str,
        *,
        image_key: str,
        action_key: str,
        observation_keys: tuple[str, ...],
    ):
        """See `Episodes` for the arguments and what is raised."""
        self.name, self.split = str(builder.data_path), split
        self._features = builder.info.features
        self.records = records.open_records(builder, split)
        self.is_rlds = "steps" in self._features
        self.features = self._features["steps"].feature if self.is_rlds else self._features
        self.image_key, self.image = schema.find_image(self.features, image_key, self.name)
        self.action_keys = [key.strip() for key in action_key.split(",")]
        if not self.is_rlds or (self.action_keys == ["action"] and "action" not in self.features):
            self.action_keys = []
        self.observations = schema.observations(self.features, observation_keys, self.name)
        self.keys = (self.image_key, *self.action_keys, *self.observations, "reward", "is_terminal")

    def __len__(self) -> int:
        return len(self.records)

    def read(self, episode: int) -> dict[str, np.ndarray | None]:
        """The values of all steps by path, None for fields that the data do not have; images stay encoded.

        Raises:
          DamagedRecord: if the episode cannot be read.
        """
        record = self.records[episode]
        skip = tfds.decode.SkipDecoding()
        try:
            decoders = {"steps": skip} if self.is_rlds else {self.image_key: skip}
            example = self._features.deserialize_example_np(record, decoders=decoders)
            steps = example["steps"] if self.is_rlds else {self.image_key: _one(example[self.image_key])}
            columns = {key: schema.column(self.features, steps, key) for key in self.keys}
        except MemoryError:
            raise
        except Exception as error:
            raise DamagedRecord(str(error)[:120]) from error
        lengths = {key: len(values) for key, values in columns.items() if values is not None}
        if len(set(lengths.values())) > 1:
            raise DamagedRecord(f"its fields differ in length: {lengths}")
        return columns

    def actions(self, columns: dict[str, np.ndarray | None]) -> np.ndarray:
        """Actions of a whole episode: int [time] or float32 [time, dim]; zeros where the data have none.

        What stands at the last step leads nowhere; numbers there that are no actions become 0.
        """
        length, found = len(columns[self.image_key]), [columns[key] for key in self.action_keys]
        for key, values in zip(self.action_keys, found):
            if values is None:
                there = schema.paths(self.features)
                raise config_error("config.data.action_key", key, f"name arrays in the steps of {self.name}: {there}")
        if not found:
            return np.zeros(length, np.int32)
        if len(found) == 1 and found[0].ndim == 1 and np.issubdtype(found[0].dtype, np.integer):
            return found[0]
        with np.errstate(over="ignore"):
            actions = np.concatenate([np.asarray(v, np.float32).reshape(length, -1) for v in found], axis=1)
        return _without_last(actions, LARGEST)

    def rewards(self, columns: dict[str, np.ndarray | None]) -> np.ndarray:
        """Rewards float32 [time] of a whole episode; zeros where the data have none."""
        if columns["reward"] is None:
            return np.zeros(len(columns[self.image_key]), np.float32)
        with np.errstate(over="ignore"):
            return _without_last(np.asarray(columns["reward"], np.float32).reshape(-1), np.finfo(np.float32).max)

    def check_numbers(self, episode: int, columns: dict[str, np.ndarray | None]) -> None:
        """Checks the numbers of an episode.

        Raises:
          UserError: naming the first step with an action that is not finite or beyond `LARGEST`, or a reward or
            further observation that is not finite.
        """
        checked = [(",".join(self.action_keys), self.actions(columns), LARGEST)]
        checked += [("reward", self.rewards(columns), np.inf)]
        checked += [(key, columns[key], np.inf) for key in self.observations]
        for key, values, limit in checked:
            if values.dtype.kind != "f":
                continue
            wrong = np.argwhere(~(np.isfinite(values) & (np.abs(values) <= limit)))
            if len(wrong):
                place = tuple(wrong[0])
                filename, number = self.records.place(episode)
                raise UserError(
                    f"Step {place[0]} of episode {episode} of split {self.split!r} in {self.name} (record {number} of "
                    f"{filename}) has {values[place]:g} in {key!r}: numbers must be finite, and actions at most "
                    f"{LARGEST:g} in size; correct or leave out the episode where the data set is made."
                )


def _one(value: bytes | np.ndarray) -> np.ndarray:
    """One image as the image of a single step."""
    if isinstance(value, bytes):
        return np.array([value], dtype=object)
    return np.asarray(value)[None]


def _without_last(values: np.ndarray, limit: float) -> np.ndarray:
    """The values [time, ...]; those of the last step that are not finite or beyond `limit` are 0."""
    is_number = np.abs(values[-1:]) <= limit  # false for NaN too
    if is_number.all():
        return values
    return np.concatenate([values[:-1], np.where(is_number, values[-1:], 0)])
