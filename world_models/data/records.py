"""Random access to the records of a TFDS data set on disk, ArrayRecord or TFRecord, without TensorFlow."""

import abc
import pathlib
import struct
import threading
from collections.abc import Sequence

import google_crc32c
import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_data_source import ArrayRecordDataSource

from world_models.core.errors import ConfigError, UserError

_TFRECORD_HEADER, _TFRECORD_FOOTER = 12, 4  # length and its checksum before the bytes, their checksum after


class DamagedRecord(Exception):
    """A record that cannot be read. The message says what is wrong with it; the reader knows which record it is."""


class DamagedRecords:
    """The damaged records of a split that were met so far, of which there may only be so many.

    Attributes:
      found: index -> file and number of the record, and what is wrong with it.
    """

    def __init__(self, source: "Records", limit: int):
        """`limit`: how many there may be."""
        self.found: dict[int, str] = {}
        self._source, self._limit, self._lock = source, limit, threading.Lock()

    def add(self, index: int, error: DamagedRecord) -> None:
        """Counts a record, once, whichever thread met it.

        Raises:
          UserError: if it is one more than the limit.
        """
        filename, number = self._source.place(index)
        with self._lock:
            if index in self.found:
                return
            if len(self.found) >= self._limit:
                raise UserError(
                    f"Record {number} (counted from 0) of {filename} is damaged ({error}), {len(self.found)} other "
                    f"damaged records were skipped and config.runtime.data.max_damaged={self._limit}: copy or make the "
                    "file again, or raise config.runtime.data.max_damaged to go on without the record."
                ) from error
            self.found[index] = f"record {number} of {filename}: {error}"


class Records(abc.ABC):
    """The records that TFDS file instructions name, under one index.

    Attributes:
      parts: the instructions: file, first record and number of records of each.
    """

    def __init__(self, instructions: Sequence[tfds.core.utils.shard_utils.FileInstruction]):
        """`instructions` say how many records each file has, as TFDS noted when it was written."""
        self.parts = list(instructions)
        self._ends = np.cumsum([part.take for part in self.parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def place(self, index: int) -> tuple[str, int]:
        """(file, number of the record in that file, from 0)."""
        part = int(np.searchsorted(self._ends, index, side="right"))
        of = self.parts[part]
        return str(of.filename), int(of.skip + index - (self._ends[part] - of.take))

    def __getitem__(self, index: int) -> bytes:
        """The bytes of a record.

        Raises:
          DamagedRecord: if they cannot be read.
        """
        try:
            record = self._read(int(index))
        except MemoryError:
            raise
        except Exception as error:
            raise DamagedRecord(str(error)[:120]) from error
        if not record:
            raise DamagedRecord("no bytes, as in a file that was cut short")
        return record

    def many(self, indices: Sequence[int]) -> list[bytes | None]:
        """The bytes of several records; None for one that cannot be read."""
        found = []
        for index in indices:
            try:
                found.append(self[index])
            except DamagedRecord:
                found.append(None)
        return found

    @abc.abstractmethod
    def _read(self, index: int) -> bytes:
        """The bytes of a record, or any error."""


class ArrayRecords(Records):
    """Records of ArrayRecord files, whose own checksums cover every byte that matters."""

    def __init__(self, instructions):
        """Opens the files that `instructions` name."""
        super().__init__(instructions)
        self._source = ArrayRecordDataSource(self.parts)

    def many(self, indices: Sequence[int]) -> list[bytes | None]:
        """The bytes of several records, in one call, which is much faster; None for one that cannot be read."""
        try:
            return [record or None for record in self._source.__getitems__(list(indices))]
        except MemoryError:
            raise
        except Exception:  # one that cannot be read fails the call
            return super().many(indices)

    def _read(self, index: int) -> bytes:
        return self._source[index]


class TFRecords(Records):
    """Records of TFRecord files, which are scanned once for their offsets."""

    def __init__(self, instructions):
        """Scans the files that `instructions` name."""
        super().__init__(instructions)
        self._offsets = {part.filename: _tfrecord_offsets(part.filename) for part in self.parts}

    def _read(self, index: int) -> bytes:
        filename, number = self.place(index)
        if number >= len(self._offsets[filename]):
            raise EOFError("the file is cut short, or the length of a record before it is wrong")
        offset, length = self._offsets[filename][number]
        with open(filename, "rb") as file:
            file.seek(offset)
            record, footer = file.read(length), file.read(_TFRECORD_FOOTER)
        if footer != tfrecord_checksum(record):
            raise ValueError("its bytes do not fit their checksum")
        return record


def tfrecord_checksum(data: bytes) -> bytes:
    """The four bytes that follow a record in a TFRecord file: its CRC32C, rotated and shifted by a constant."""
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _tfrecord_offsets(filename: str) -> list[tuple[int, int]]:
    """(offset, length) of all records that lie in the file as a whole."""
    places, position = [], 0
    size = pathlib.Path(filename).stat().st_size
    with open(filename, "rb") as file:
        while position + _TFRECORD_HEADER <= size:
            file.seek(position)
            (length,) = struct.unpack("<Q", file.read(8))
            start = position + _TFRECORD_HEADER
            position = start + length + _TFRECORD_FOOTER
            if position > size:
                break
            places.append((start, length))
    return places


def open_records(builder: tfds.core.DatasetBuilder, split: str) -> Records:
    """The serialized examples of a split.

    Raises:
      UserError: if the split is unknown or empty, or a file of it is missing or of a format other than
        array_record and tfrecord.
    """
    if builder.info.splits is None or split.split("[")[0] not in builder.info.splits:
        raise ConfigError(
            "config.data",
            f"config.data: {builder.data_path} has no split {split!r}; it has {sorted(builder.info.splits or ())}.",
        )
    info = builder.info.splits[split]
    if info.num_examples == 0:
        raise ConfigError("config.data", f"config.data: split {split!r} of {builder.data_path} is empty.")
    for part in info.file_instructions:
        if not pathlib.Path(part.filename).exists():
            raise ConfigError(
                "config.data",
                f"config.data: {part.filename} is missing, so the data set is half-written: make it again.",
            )
    file_format = builder.info.file_format.value
    if file_format == "array_record":
        return ArrayRecords(info.file_instructions)
    if file_format == "tfrecord":
        return TFRecords(info.file_instructions)
    raise ConfigError(
        "config.data",
        f"config.data: {builder.data_path} is stored as {file_format}; array_record and tfrecord can be read.",
    )
