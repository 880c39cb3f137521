"""One field of every example of a split, without decoding the others."""

from collections.abc import Callable
from typing import Any

import tensorflow_datasets as tfds

from world_models.data.records import DamagedRecord, Records

_AT_ONCE = 256  # records read in one call: many, because each call costs, and few, because episodes are large
STEPS = "steps/"


def read(
    records: Records,
    features: tfds.features.FeaturesDict,
    path: str,
    convert: Callable[[Any], Any],
    on_damage: Callable[[int, DamagedRecord], None],
) -> list[Any]:
    """The field of every example.

    Args:
      records: the examples.
      features: what they hold.
      path: of the field; below "steps/" the value of the first step is taken.
      convert: from the value as TFDS gives it to the one returned; an error in it counts as damage.
      on_damage: is called with the index and error of every record that cannot be read.

    Returns:
      A list; None where the record cannot be read.
    """
    alone = _alone(features, path.split("/"))
    found: list[Any] = [None] * len(records)
    for first in range(0, len(records), _AT_ONCE):
        indices = range(first, min(first + _AT_ONCE, len(records)))
        for index, record in zip(indices, records.many(indices)):
            try:
                found[index] = _value(alone, record, path, convert)
            except DamagedRecord as error:
                on_damage(index, error)
    return found


def _alone(features: Any, path: list[str]) -> tfds.features.FeaturesDict:
    """Features that hold nothing else than the field, so that the rest of a record is not parsed."""
    feature = features[path[0]]
    if len(path) > 1:
        nested = isinstance(feature, tfds.features.Dataset)
        feature = _alone(feature.feature if nested else feature, path[1:])
        feature = tfds.features.Dataset(feature) if nested else feature
    return tfds.features.FeaturesDict({path[0]: feature})


def _value(features: tfds.features.FeaturesDict, record: bytes | None, path: str, convert: Callable) -> Any:
    if record is None:
        raise DamagedRecord("its bytes cannot be read")
    try:
        decoders = {"steps": tfds.decode.SkipDecoding()} if path.startswith(STEPS) else None
        value = features.deserialize_example_np(record, decoders=decoders)
        for part in path.split("/"):
            value = value[part]
        return convert(value[0] if path.startswith(STEPS) else value)
    except MemoryError:
        raise
    except Exception as error:
        raise DamagedRecord(str(error)[:120]) from error
