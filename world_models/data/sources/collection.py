"""Data sets that are made in one go, example by example: a TFDS builder over ArrayRecord files, without TensorFlow."""

import dataclasses
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow_datasets as tfds

from world_models.data import rlds


@dataclasses.dataclass(frozen=True)
class Split:
    """The examples of one split.

    Attributes:
      size: how many there are.
      example: makes the one of an index in [0, size), as TFDS takes it: images as PNG files.
    """

    size: int
    example: Callable[[int], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Collection:
    """A data set that can be made.

    Attributes:
      name: of the data set, such as "fashion_mnist".
      description: what it is, in a sentence or two.
      features: of one example.
      splits: split name -> its examples.
      licence: of the data.
      source: where the data come from: package, author, paper.
      summary: a sentence about the source's images and what is done to them; empty where they are made at their size.
      metadata: what else the data set says of itself, such as its action space; JSON.
    """

    name: str
    description: str
    features: dict[str, Any]
    splits: dict[str, Split]
    licence: str
    source: str
    summary: str = ""
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)


class _Builder(tfds.core.GeneratorBasedBuilder):
    """Writes a collection; `tfds.builder_from_directory` reads the result without this class."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, collection: Collection, record: dict, progress: Callable[[int], None], **kwargs):
        self.name = collection.name
        self._collection, self._record, self._progress, self._done = collection, record, progress, 0
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        collection = self._collection
        about = {"licence": collection.licence, "source": collection.source, "record": self._record}
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{collection.description} Licence: {collection.licence}.",
            features=tfds.features.FeaturesDict(collection.features),
            citation=collection.source,
            metadata=tfds.core.MetadataDict({**about, **collection.metadata}),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        del dl_manager
        return {name: self._generate_examples(split) for name, split in self._collection.splits.items()}

    def _generate_examples(self, split: Split) -> Iterator[tuple[int, dict]]:
        for index in range(split.size):
            yield index, split.example(index)
            self._done += 1
            self._progress(self._done)


def write(
    output: pathlib.Path,
    scratch: pathlib.Path,
    collection: Collection,
    record: dict,
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Writes a data set under `scratch` and moves it to `output` in one rename, once all of it is on disk.

    Args:
      output: the directory to make; its parent exists and it does not.
      scratch: a directory on the same file system, emptied first.
      collection: what to write.
      record: the resolved `config.record`, kept in the data set's metadata.
      progress: is told the number of examples made so far.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    builder = _Builder(collection=collection, record=record, progress=progress, data_dir=scratch)
    rlds.publish(builder, output, lambda path: _check(path, collection.splits))


def _check(path: os.PathLike, splits: dict[str, Split]) -> None:
    """Opens what was written as a reader would, and reads the last example of every split."""
    builder = tfds.builder_from_directory(path)
    for name, split in splits.items():
        source = builder.as_data_source(name)
        if len(source) != split.size:
            raise OSError(f"{path}: split {name} holds {len(source)} examples instead of {split.size}")
        source[split.size - 1]
