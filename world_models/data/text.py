"""Text: documents of a TFDS data set, or of plain .txt and .jsonl files, as chunks of tokens."""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from world_models.core.errors import ConfigError, UserError, config_error
from world_models.core.specs import TextSpec
from world_models.core.types import TextBatch
from world_models.data import builders, fields, fingerprints, records, rlds, schema
from world_models.data.clips import window_starts
from world_models.data.dataset import Dataset
from world_models.data.tokenizers import Tokenizer, pad

SUFFIXES = (".txt", ".jsonl")
SPLIT_SEED = 0  # which document is in which split is part of the data, not of an experiment's randomness


@dataclasses.dataclass(frozen=True)
class Documents:
    """The texts of a split.

    Attributes:
      name: where they are.
      fingerprint: hex digest of all files, and of which records are damaged.
      texts: the documents; none is empty.
      damaged: record -> what is wrong with it, for those left out.
      labels: the class of each document, where it was asked for; else empty.
    """

    name: str
    fingerprint: str
    texts: Sequence[str]
    damaged: Mapping[int, str] = dataclasses.field(default_factory=dict)
    labels: Sequence[str] = ()


def read_documents(
    dataset: str,
    split: str,
    *,
    text_key: str,
    splits: Mapping[str, float],
    max_damaged: int = 0,
    label_key: str = "",
) -> Documents:
    """Reads a split of a data set.

    A .txt file is a document, and so is a line of a .jsonl file. Files called as a split ("train.txt") are that split.
    Otherwise documents are assigned to splits at random (equal ones to the same); one document alone is divided into
    contiguous parts, in the order of `splits`.

    Args:
      dataset: a .txt or .jsonl file or a folder of them; or directory or TFDS name of a data set with a document an
        example.
      split: name of a split; of TFDS data sets slices such as "train[:10%]" too.
      text_key: path of the text in an example, or its key in a line of a .jsonl file.
      splits: split -> share of the documents of files; they sum to 1.
      max_damaged: how many records of a TFDS data set may be damaged.
      label_key: path of a class in an example, or its key in a line of a .jsonl file; empty for no labels.

    Raises:
      UserError: if there is no text, it is not UTF-8, a document is empty or has no label, there is one document with a
        label alone, or there is no such split.
    """
    files = text_files(pathlib.Path(dataset).expanduser())
    if not files:
        return _read_records(dataset, split, text_key, max_damaged, label_key)
    named = [file for file in files if file.stem in splits]
    if named:
        rows = {n: [r for f in named if f.stem == n for r in _documents(f, text_key, label_key)] for n in splits}
        rows = {name: found for name, found in rows.items() if found}
    else:
        rows = _divided([row for file in files for row in _documents(file, text_key, label_key)], splits, dataset)
    if split not in rows:
        raise ConfigError("config.data", f"config.data: {dataset} has no split {split!r}; it has {list(rows)}.")
    texts, labels = zip(*rows[split])
    return Documents(str(dataset), _fingerprint(files), texts, labels=labels if label_key else ())


def text_files(path: pathlib.Path) -> list[pathlib.Path]:
    """The text files at a path, sorted; none if it is a TFDS data set, or does not exist."""
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise config_error("config.data.dataset", str(path), f"be a folder or a file with {' or '.join(SUFFIXES)}")
        return [path]
    found = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES) if path.is_dir() else []
    return [] if any(path.rglob("dataset_info.json")) else found


_Row = tuple[str, str]  # text and label


def _documents(file: pathlib.Path, text_key: str, label_key: str) -> Iterator[_Row]:
    content = file.read_bytes()
    try:
        whole = content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 (byte {error.start}): convert it, with iconv for example.") from error
    if not whole.strip():
        raise UserError(f"{file} is empty: remove it, or put text there.")
    if "\0" in whole:
        raise UserError(f"{file} is not UTF-8 text (a zero byte is in it): convert it, with iconv for example.")
    if file.suffix == ".txt":
        if label_key:
            raise config_error("config.data.label_key", label_key, f"be empty: {file} is a .txt file, without labels")
        yield whole, ""
        return
    for number, line in enumerate(whole.split("\n"), 1):
        if line.strip():
            yield _of_line(line, text_key, label_key, f"{file}, line {number}")


def _of_line(line: str, text_key: str, label_key: str, place: str) -> _Row:
    try:
        found = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{place}, is not JSON: {error}") from error
    text = found.get(text_key) if isinstance(found, dict) else found
    if not isinstance(text, str):
        raise UserError(f"{place}, has no text under config.data.text_key={text_key!r}.")
    if not text.strip():
        raise UserError(f"{place}, is an empty document: remove it.")
    label = found.get(label_key) if label_key and isinstance(found, dict) else None
    if label_key and (not isinstance(label, str | int) or label == ""):
        raise UserError(f"{place}, has no label under config.data.label_key={label_key!r}: every line needs one.")
    return text, str(label) if label_key else ""


def _divided(rows: Sequence[_Row], splits: Mapping[str, float], dataset: str) -> dict[str, list[_Row]]:
    """Documents by split; see `read_documents`."""
    if abs(sum(splits.values()) - 1) > 1e-6:
        raise config_error("config.data.splits", dict(splits), "be shares that sum to 1")
    if len(rows) > 1:
        groups = {text: i for i, (text, _) in enumerate(rows)}
        dealt = rlds.split_episodes([groups[text] for text, _ in rows], splits, SPLIT_SEED, field="config.data.splits")
        return {name: [rows[i] for i in indices] for name, indices in dealt.items()}
    text, label = rows[0]
    if label:
        raise config_error(
            "config.data.dataset", dataset, "have several documents, as each has one label or text of tags"
        )
    ends = np.rint(np.cumsum(list(splits.values())) * len(text)).astype(int)
    parts = {name: text[begin:end] for name, begin, end in zip(splits, [0, *ends], ends)}
    return {name: [(part, label)] for name, part in parts.items() if part}


def _fingerprint(files: Sequence[pathlib.Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        digest.update(f"{file.name}:{len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def _read_records(dataset: str, split: str, text_key: str, max_damaged: int, label_key: str) -> Documents:
    builder = builders.find_builder(dataset)
    name, features = str(builder.data_path), builder.info.features
    source = records.open_records(builder, split)
    path, to_text = schema.find_text(features, text_key, name)
    damaged = records.DamagedRecords(source, max_damaged)
    found = fields.read(source, features, path, to_text, damaged.add)
    empty = [number for number, text in enumerate(found) if text is not None and not text.strip()]
    if empty:
        filename, number = source.place(empty[0])
        raise UserError(f"Record {number} (counted from 0) of {filename} is an empty document: leave it out.")
    labels = _labels(source, features, label_key, name, damaged) if label_key else [""] * len(found)
    rows = [row for row in zip(found, labels) if None not in row]
    if not rows:
        raise UserError(f"No record of split {split!r} in {name} can be read: copy or make the data set again.")
    whole = fingerprints.of_dataset(builder)
    fingerprint = fingerprints.without(whole, sorted(damaged.found)) if damaged.found else whole
    texts, labels = zip(*rows)
    return Documents(name, fingerprint, texts, damaged.found, labels if label_key else ())


def _labels(
    source: records.Records, features: Any, key: str, name: str, damaged: records.DamagedRecords
) -> list[str | None]:
    """The class of every record by its name, or by its number where classes have no names."""
    path, feature = schema.find_label(features, key, name, field="config.data.label_key")
    numbers = fields.read(source, features, path, int, damaged.add)
    if any(number is not None and number < 0 for number in numbers):
        filename, number = source.place(next(i for i, x in enumerate(numbers) if x is not None and x < 0))
        raise UserError(f"Record {number} (counted from 0) of {filename} has no label (−1): every record needs one.")
    named = getattr(feature, "_int2str", None)
    return [None if x is None else feature.int2str(x) if named else str(x) for x in numbers]


class OverDocuments(Dataset):
    """A data set of pieces of `Documents`, which are its `_documents`."""

    _documents: Documents

    @property
    def name(self) -> str:
        """Where the text is."""
        return self._documents.name

    @property
    def fingerprint(self) -> str:
        """That of the documents."""
        return self._documents.fingerprint

    @property
    def damaged(self) -> Mapping[int, str]:
        """Records that were left out."""
        return self._documents.damaged


class TextChunks(OverDocuments):
    """Chunks of documents, by index. No chunk holds text of two documents; the last of a document may be padded.

    All tokens are kept in memory, in the smallest integer type that the vocabulary fits.
    """

    def __init__(self, documents: Documents, tokenizer: Tokenizer, length: int, stride: int = 0):
        """Tokenizes the documents.

        Args:
          documents: the texts.
          tokenizer: from text to tokens.
          length: tokens of a chunk.
          stride: tokens between the starts of neighbouring chunks; 0 for `length`, so that none is in two chunks.

        Raises:
          ConfigError: if `length` is longer than every document, or `stride` longer than `length`.
        """
        if length < 1:
            raise config_error("config.data.text_length", length, "be at least 1")
        if not 0 <= stride <= length:
            raise config_error("config.data.stride", stride, f"be from 0 to config.data.text_length={length}")
        self._documents, self._tokenizer, self._length, stride = documents, tokenizer, length, stride or length
        dtype = np.min_scalar_type(tokenizer.vocabulary_size)
        self._tokens = [tokenizer.encode(text).astype(dtype) for text in documents.texts]
        lengths = np.array([len(tokens) for tokens in self._tokens])
        if length > lengths.max():
            valid = f"be at most {lengths.max()}, the tokens of the longest document of {documents.name}"
            raise config_error("config.data.text_length", length, valid)
        # Windows over documents that are extended so that the last window, which may be padded, counts as whole.
        whole = np.maximum(0, -(-(lengths - length) // stride)) * stride + length
        self._document, self._start = window_starts(whole, length, stride)

    def __len__(self) -> int:
        return len(self._document)

    @property
    def spec(self) -> TextSpec:
        """Length, vocabulary and tokenizer."""
        return TextSpec(self._length, self._tokenizer.vocabulary_size, self._tokenizer.to_dict())

    def load(self, indices: np.ndarray) -> TextBatch:
        """The chunks `indices` [batch] as a `TextBatch` of NumPy arrays."""
        places = zip(self._document[indices], self._start[indices])
        return pad([self._tokens[document][start : start + self._length] for document, start in places], self._length)
