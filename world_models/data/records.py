"""Random access to the records of a TFDS data set on disk, ArrayRecord or TFRecord, without TensorFlow."""

import hashlib
import pathlib
import struct

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_data_source import ArrayRecordDataSource

from world_models.errors import UserError

_TFRECORD_HEADER, _TFRECORD_FOOTER = 12, 4  # length and its checksum before the bytes, their checksum after


class TFRecordSource:
    """The records that TFDS file instructions name, by index. The files are scanned once for their offsets."""

    def __init__(self, instructions):
        self._places: list[tuple[str, int, int]] = []
        for part in instructions:
            places = _tfrecord_offsets(part.filename)
            stop = None if part.take < 0 else part.skip + part.take
            self._places += [(part.filename, *place) for place in places[part.skip : stop]]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> bytes:
        filename, offset, length = self._places[index]
        with open(filename, "rb") as file:
            file.seek(offset)
            return file.read(length)


def _tfrecord_offsets(filename: str) -> list[tuple[int, int]]:
    places, position = [], 0
    size = pathlib.Path(filename).stat().st_size
    with open(filename, "rb") as file:
        while position < size:
            file.seek(position)
            (length,) = struct.unpack("<Q", file.read(8))
            start = position + _TFRECORD_HEADER
            position = start + length + _TFRECORD_FOOTER
            if position > size:
                raise UserError(f"{filename} ends in the middle of record {len(places)}: copy the file again.")
            places.append((start, length))
    return places


def find_builder(name: str) -> tfds.core.DatasetBuilder:
    """Opens a TFDS data set that is already on disk.

    Args:
      name: a directory that holds `dataset_info.json` (or one below it does, as in `name/version`), or a TFDS name
        such as "fashion_mnist" or "robo_set:0.1.0" under the TFDS data directory.

    Raises:
      UserError: if there is no such data set, or it is unfinished.
    """
    path = pathlib.Path(name).expanduser()
    if path.is_dir():
        found = sorted(path.glob("dataset_info.json")) or sorted(path.glob("*/dataset_info.json"))
        found = found or sorted(path.glob("*/*/dataset_info.json"))
        if not found:
            raise UserError(_no_data_in(path))
        try:
            return tfds.builder_from_directory(found[-1].parent)
        except Exception as error:
            raise UserError(f"config.data.dataset={name!r} cannot be read as a TFDS data set: {error}") from error
    if path.is_absolute() or (len(path.parts) > 1 and not _is_tfds_name(name)):
        raise UserError(
            f"config.data.dataset={name!r} is missing{_partial_hint(path)}: record it first "
            "(launch.py record), or give the directory or the TFDS name of a data set that is there."
        )
    try:
        return tfds.builder(name, try_gcs=False)
    except Exception as error:
        raise UserError(
            f"config.data.dataset={name!r} is neither a directory nor a TFDS data set prepared on this machine."
        ) from error


def _is_tfds_name(name: str) -> bool:
    try:
        tfds.builder_cls(name)
    except Exception:
        return False
    return True


def _partial_hint(path: pathlib.Path) -> str:
    partial = path.with_name(path.name + ".partial")
    return (
        f" (an unfinished recording lies in {partial}: run launch.py record again to finish it)"
        if partial.exists()
        else ""
    )


def _no_data_in(path: pathlib.Path) -> str:
    state = "is empty" if not any(path.iterdir()) else "holds no dataset_info.json, so it is unfinished or no TFDS data"
    return f"config.data.dataset='{path}' {state}: record it again (launch.py record), or name another directory."


def open_records(builder: tfds.core.DatasetBuilder, split: str):
    """The serialized examples of a split: an object with `len` and indexing by int.

    Raises:
      UserError: if the split is unknown or empty, or a file of it is missing or of a format other than
        array_record and tfrecord.
    """
    if builder.info.splits is None or split.split("[")[0] not in builder.info.splits:
        raise UserError(
            f"config.data: {builder.data_path} has no split {split!r}; it has {sorted(builder.info.splits or ())}."
        )
    info = builder.info.splits[split]
    if info.num_examples == 0:
        raise UserError(f"config.data: split {split!r} of {builder.data_path} is empty.")
    for part in info.file_instructions:
        if not pathlib.Path(part.filename).exists():
            raise UserError(f"config.data: {part.filename} is missing, so the data set is half-written: make it again.")
    file_format = builder.info.file_format.value
    if file_format == "array_record":
        return _ArrayRecords(info.file_instructions)
    if file_format == "tfrecord":
        return TFRecordSource(info.file_instructions)
    raise UserError(
        f"config.data: {builder.data_path} is stored as {file_format}; array_record and tfrecord can be read."
    )


class _ArrayRecords:
    """ArrayRecord files under one index, with a clear word for files that are damaged."""

    def __init__(self, instructions):
        self._name = pathlib.Path(instructions[0].filename).parent
        self._source = ArrayRecordDataSource(instructions)
        self[0], self[len(self) - 1]

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> bytes:
        try:
            record = self._source[int(index)]
        except Exception as error:
            raise UserError(self._damaged(index, error)) from error
        if not record:
            raise UserError(self._damaged(index, "no bytes"))
        return record

    def _damaged(self, index: int, reason: object) -> str:
        return (
            f"config.data: record {index} in {self._name} is damaged or cut short ({str(reason)[:120]}): copy it again."
        )


def fingerprint(builder: tfds.core.DatasetBuilder) -> str:
    """A hex digest that changes when the data do: names, sizes, and the first and last 64 KiB of every file."""
    digest = hashlib.sha256()
    for path in sorted(pathlib.Path(builder.data_path).iterdir()):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}\n".encode())
        with open(path, "rb") as file:
            digest.update(file.read(1 << 16))
            file.seek(max(0, size - (1 << 16)))
            digest.update(file.read())
    return digest.hexdigest()[:16]


def column(features, steps: dict, key: str) -> np.ndarray | None:
    """The values of one field for all steps, decoded unless it is an image.

    Args:
      features: the features of one step.
      steps: the steps of an episode as arrays, as TFDS gives them when decoding is skipped.
      key: path such as "observation/image".

    Returns:
      Array [time, ...]; encoded images stay an object array of bytes; None if there is no such field.
    """
    feature, values = features, steps
    for part in key.split("/"):
        if not isinstance(values, dict) or part not in values:
            return None
        feature, values = feature[part], values[part]
    if isinstance(values, dict):
        return None
    if values.dtype == object and not isinstance(feature, tfds.features.Image):
        return np.stack([feature.decode_example_np(value) for value in values])
    return values
