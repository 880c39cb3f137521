"""Finished episodes as an RLDS data set: a TFDS builder over ArrayRecord files, without TensorFlow."""

import contextlib
import dataclasses
import importlib.metadata
import io
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import example_serializer

from world_models.core.errors import config_error
from world_models.data.episodes import Episode

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Description:
    """What a data set says about itself.

    Attributes:
      image_size: (height, width) of the frames.
      action: `{"kind": "discrete" | "continuous", "size": n, "low": [...], "high": [...]}`.
      text: what the episodes are, in a sentence.
      record: the resolved `config.record`, as JSON.
      versions: package name -> version.
      instances: whether episodes have masks.
    """

    image_size: tuple[int, int]
    action: dict
    text: str
    record: dict
    versions: dict[str, str]
    instances: bool = False


class Stored(NamedTuple):
    """An episode that waits to be written.

    Attributes:
      index: its number in the recording.
      path: its file; see `Episode.save`.
      metadata: integers and texts about it, of the same names for all episodes.
    """

    index: int
    path: pathlib.Path
    metadata: dict[str, int | str]


def features(about: Description, metadata: Mapping[str, int | str]) -> tfds.features.FeaturesDict:
    """The RLDS features of a recording: nested `steps` and `episode_metadata`, which `metadata` is a sample of."""
    action = about.action
    if action["kind"] == "discrete":
        action_feature = tfds.features.ClassLabel(num_classes=action["size"])
    else:
        action_feature = tfds.features.Tensor(shape=(action["size"],), dtype=np.float32)
    image = lambda channels: tfds.features.Image(shape=(*about.image_size, channels), encoding_format="png")
    steps = {
        "observation": {"image": image(3), **({"instances": image(1)} if about.instances else {})},
        "action": action_feature,
        "reward": np.float32,
        "discount": np.float32,
        "is_first": np.bool_,
        "is_last": np.bool_,
        "is_terminal": np.bool_,
    }
    kinds = {name: tfds.features.Text() if isinstance(value, str) else np.int64 for name, value in metadata.items()}
    kinds |= {"index": np.int64, "versions": tfds.features.Text()}
    return tfds.features.FeaturesDict({"steps": tfds.features.Dataset(steps), "episode_metadata": kinds})


def steps(episode: Episode) -> dict:
    """The `steps` of an episode, as arrays over its T steps."""
    length = len(episode.images)
    last = np.arange(length) == length - 1
    return {
        "observation": {"image": episode.images, **({"instances": episode.instances} if episode.instances else {})},
        "action": episode.actions,
        "reward": episode.rewards,
        "discount": np.where(last & episode.terminal, np.float32(0), np.float32(1)),
        "is_first": np.arange(length) == 0,
        "is_last": last,
        "is_terminal": last & episode.terminal,
    }


class Recording(tfds.core.GeneratorBasedBuilder):
    """Writes episode files as they are numbered; `tfds.builder_from_directory` reads the result without this class."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, description: Description, splits: dict[str, Sequence[Stored]], **kwargs):
        """`splits` holds the episodes of every split."""
        self._description, self._splits = description, splits
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        description = self._description
        sample = next(iter(self._splits.values()))[0]
        metadata = {"action": description.action, "record": description.record, "versions": description.versions}
        return tfds.core.DatasetInfo(
            builder=self,
            description=description.text,
            features=features(description, sample.metadata),
            metadata=tfds.core.MetadataDict(metadata),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        del dl_manager
        return {name: self._generate_examples(files) for name, files in self._splits.items()}

    def _generate_examples(self, files: Sequence[Stored]) -> Iterator[tuple[int, dict]]:
        versions = json.dumps(self._description.versions)
        for stored in files:
            metadata = {"index": stored.index, **stored.metadata, "versions": versions}
            yield stored.index, {"steps": steps(Episode.load(stored.path)), "episode_metadata": metadata}


def versions(modules: Sequence[str]) -> dict[str, str]:
    """Versions of this package and of the installed packages that modules belong to."""
    packages = importlib.metadata.packages_distributions()
    names = [name for module in modules for name in packages.get(module.partition(".")[0], ())]
    found = {}
    for name in dict.fromkeys(["world-models", *names]):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def split_episodes(
    groups: Sequence[int], fractions: Mapping[str, float], seed: int, *, field: str = "config.record.splits"
) -> dict[str, list[int]]:
    """Assigns episodes (or documents) to splits: every group to one split, a fraction of the groups to each.

    Args:
      groups: the group of every episode.
      fractions: split name -> share of the groups; they sum to one.
      seed: of the permutation that decides which group goes where.
      field: of the fractions, for error messages.

    Returns:
      Split name -> episode indices in rising order, for the splits with a fraction above zero.

    Raises:
      ConfigError: if a split with a fraction above zero would be empty.
    """
    names = [name for name in SPLITS if fractions.get(name, 0) > 0]
    unique = np.unique(groups)
    exact = np.array([fractions[name] * len(unique) for name in names])
    counts = np.floor(exact + 1e-9).astype(int)
    remainders = np.argsort(counts - exact, kind="stable")
    counts[remainders[: len(unique) - counts.sum()]] += 1
    for name, count in zip(names, counts):
        if count == 0:
            least = int(np.ceil(1 / fractions[name]))
            valid = f"be 0, or a share of at least {least} examples: of {len(unique)} it is less than one"
            raise config_error(f"{field}.{name}", fractions[name], valid)
    order = np.random.default_rng(np.random.SeedSequence([seed, 0x5917])).permutation(unique)
    dealt = np.split(order, np.cumsum(counts)[:-1])
    return {name: np.flatnonzero(np.isin(groups, part)).tolist() for name, part in zip(names, dealt)}


def write(
    output: pathlib.Path,
    scratch: pathlib.Path,
    description: Description,
    splits: dict[str, Sequence[Stored]],
) -> None:
    """Writes a data set under `scratch` and moves it to `output` in one rename, once all of it is on disk.

    Args:
      output: the directory to make; its parent exists and it does not.
      scratch: a directory on the same file system, emptied first.
      description: what the data set says about itself.
      splits: the episodes of every split; none is empty.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    builder = Recording(description=description, splits=splits, data_dir=scratch)
    publish(builder, output, lambda path: _check(path, splits))


def publish(builder: tfds.core.DatasetBuilder, output: pathlib.Path, check: Callable[[os.PathLike], None]) -> None:
    """Makes what a builder makes and moves it to `output` in one rename, once all of it is on disk.

    Args:
      builder: a builder whose directory is on the file system of `output`.
      output: the directory to make; its parent exists and it does not.
      check: opens the directory that was written as a reader would, and raises OSError if something is missing.
    """
    tfds.disable_progress_bar()
    with _reproducible(), contextlib.redirect_stdout(io.StringIO()):  # it speaks of downloads
        builder.download_and_prepare()
    check(builder.data_path)
    for path in sorted(pathlib.Path(builder.data_path).iterdir()):
        _sync(path)
    _sync(pathlib.Path(builder.data_path))
    os.rename(builder.data_path, output)
    _sync(output.parent)


@contextlib.contextmanager
def _reproducible() -> Iterator[None]:
    """Makes TFDS write equal examples as equal bytes; by default each process draws an order of an example's fields."""
    serializer = example_serializer.ExampleSerializer
    before = serializer.serialize_example

    def serialize_example(self: example_serializer.ExampleSerializer, example: dict) -> bytes:
        return self.get_tf_example(example).SerializeToString(deterministic=True)

    serializer.serialize_example = serialize_example
    try:
        yield
    finally:
        serializer.serialize_example = before


def _check(path: os.PathLike, splits: dict[str, Sequence]) -> None:
    """Opens what was written as a reader would, and reads the last episode of every split."""
    builder = tfds.builder_from_directory(path)
    for name, files in splits.items():
        source = builder.as_data_source(name)
        if len(source) != len(files):
            raise OSError(f"{path}: split {name} holds {len(source)} episodes instead of {len(files)}")
        index = source[len(files) - 1]["episode_metadata"]["index"]
        if index != files[-1].index:
            raise OSError(f"{path}: the last episode of split {name} is number {index} instead of {files[-1].index}")


def _sync(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
