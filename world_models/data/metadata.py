"""The metadata of a TFDS data set: where it came from, as whoever wrote it said."""

import pathlib
from typing import Any

import tensorflow_datasets as tfds

from world_models.core.errors import config_error


def read(builder: tfds.core.DatasetBuilder) -> dict[str, Any]:
    """The content of metadata.json; empty where there is none.

    Raises:
      ConfigError: if it is damaged.
    """
    try:
        return dict(builder.info.metadata or {})
    except (OSError, ValueError, TypeError) as error:
        path = pathlib.Path(builder.data_path)
        valid = f"be a TFDS data set, and its metadata.json is damaged ({error}): restore it from a copy, or delete it"
        raise config_error("config.data.dataset", str(path), valid) from error
