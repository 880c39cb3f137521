"""The data sets that a config names: episodes, clips, text, sentences and images with text, alone or mixed."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import ml_collections

from experiments.runs.workdir import dataset_of
from world_models.core.errors import UserError, config_error
from world_models.core.specs import ImageTextSpec, SentenceSpec, TextSpec, VideoSpec
from world_models.data.clips import Windows
from world_models.data.dataset import Dataset
from world_models.data.image_text import ImageTexts
from world_models.data.mixture import Mixture
from world_models.data.sentences import LabelledSentences, Sentences
from world_models.data.stored_episodes import Episodes
from world_models.data.text import Documents, TextChunks, read_documents, text_files
from world_models.data.tokenizers import TextEncoder, Tokenizer, tokenizer_from_dict, train_tokenizer
from world_models.data.wordpiece import WordPieceTokenizer, read_vocabulary


def sources(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> list[tuple[str, float]]:
    """The run's data sets, each with its weight: `config.data.mixture`, or the one of `config.data.dataset`.

    Raises:
      ConfigError: if both are given, or the mixture is not made of pairs.
    """
    mixture = config.data.mixture
    if not mixture:
        return [(dataset_of(config, workdir), 1.0)]
    if config.data.dataset:
        raise config_error("config.data.dataset", config.data.dataset, "be empty where config.data.mixture is not")
    for pair in mixture:
        is_pair = isinstance(pair, tuple | list) and len(pair) == 2
        if not (is_pair and isinstance(pair[0], str) and isinstance(pair[1], int | float) and pair[1] > 0):
            valid = 'be pairs of a data set and a weight above 0, such as (("a", 0.7), ("b", 0.3))'
            raise config_error("config.data.mixture", mixture, valid)
    return [(name, float(weight)) for name, weight in mixture]


def mixed(config: ml_collections.ConfigDict, workdir: pathlib.Path, open_one: Callable[[str], Dataset]) -> Dataset:
    """What `open_one` makes of the run's data set, or the mixture of what it makes of each."""
    named = sources(config, workdir)
    found = [open_one(name) for name, _ in named]
    return found[0] if len(found) == 1 else Mixture(found, [weight for _, weight in named])


def open_episodes(config: ml_collections.ConfigDict, workdir: pathlib.Path, split: str, dataset: str = "") -> Episodes:
    """A split of a data set of episodes or images; by default the run's own."""
    data = config.data
    own = {"action_key": data.action_key, "num_actions": data.num_actions, "observation_keys": data.observation_keys}
    return _images(config, dataset or dataset_of(config, workdir), split, **own)


def _images(config: ml_collections.ConfigDict, dataset: str, split: str, **options: Any) -> Episodes:
    data, runtime = config.data, config.runtime.data
    return Episodes(
        dataset,
        split,
        image_key=data.image_key,
        image_size=tuple(data.image_size) if data.image_size else None,
        cache_bytes=int(runtime.cache_gb * 2**30),
        max_damaged=runtime.max_damaged,
        **options,
    )


def open_windows(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    split: str,
    clip_length: int,
    stride: int,
    *,
    spec: VideoSpec | None = None,
    **options: Any,
) -> Dataset:
    """Clips of a split of the run's data.

    Args:
      config, workdir: of the run.
      split: name of a split.
      clip_length, stride: of the windows.
      spec: of the training data, whose tokenizer texts get; None to make one of the training split.
      **options: of `Windows`, instead of those that the config says.
    """
    key = config.data.text_key
    encoder = _encoder(config, workdir, spec and spec.text) if key else None
    options = {"across_episodes": config.data.across_episodes, "text_key": key, "encoder": encoder} | options
    open_one = lambda name: Windows(open_episodes(config, workdir, split, name), clip_length, stride, **options)
    return mixed(config, workdir, open_one)


def open_image_texts(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, split: str, *, spec: ImageTextSpec | None = None
) -> Dataset:
    """Images with texts of a split of the run's data; `spec` as in `open_windows`."""
    encoder = _encoder(config, workdir, spec and spec.text)
    key = config.data.text_key
    return mixed(config, workdir, lambda name: ImageTexts(_images(config, name, split), key, encoder))


def open_text(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, split: str, *, spec: TextSpec | None = None
) -> Dataset:
    """Chunks of text of a split of the run's data; `spec` as in `open_windows`."""
    data = config.data

    def read(split: str, name: str) -> Documents:
        options = {"text_key": data.text_key, "splits": dict(data.splits)}
        return read_documents(name, split, **options, max_damaged=config.runtime.data.max_damaged)

    if spec:
        tokenizer = tokenizer_from_dict(spec.tokenizer)
    else:
        names = [name for name, _ in sources(config, workdir)]
        tokenizer = _trained(config, (text for name in names for text in read(data.train_split, name).texts))
    make = lambda name: TextChunks(read(split, name), tokenizer, data.text_length, data.stride)
    return mixed(config, workdir, make)


def open_sentences(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, split: str, *, spec: SentenceSpec | None = None
) -> Dataset:
    """Rows of sentences of a split of the run's data, or of texts with a class each; `spec` as in `open_windows`."""
    data = config.data
    training = split == data.train_split

    def read(name: str, split: str, label_key: str = "") -> Documents:
        options = {"text_key": data.text_key, "splits": dict(data.splits), "label_key": label_key}
        return read_documents(name, split, **options, max_damaged=config.runtime.data.max_damaged)

    if spec:
        tokenizer = tokenizer_from_dict(spec.tokenizer)
    elif data.vocabulary:
        tokenizer = read_vocabulary(data.vocabulary)
    else:
        names = [name for name, _ in sources(config, workdir)]
        texts = (text for name in names for text in read(name, data.train_split).texts)
        tokenizer = WordPieceTokenizer.train(texts, data.vocabulary_size)

    def make(name: str) -> Dataset:
        documents = read(name, split, data.label_key)
        if data.label_key:
            return LabelledSentences(documents, tokenizer, data.text_length, spec.classes if spec else ())
        return Sentences(
            documents,
            tokenizer,
            data.text_length,
            sentences=data.sentences,
            pairs=data.pairs,
            packed=data.packed,
            duplicates=data.duplicates if training else 1,
            shuffled=data.shuffled and training,
        )

    return mixed(config, workdir, make)


def open_tagged(config: ml_collections.ConfigDict, workdir: pathlib.Path, split: str) -> Documents:
    """The documents of a split of the run's data with tags, under `config.eval.probes.tags_key`, as their labels.

    Raises:
      UserError: if the data are a mixture, or some documents have no tags.
    """
    data, key = config.data, config.eval.probes.tags_key
    if data.mixture:
        raise config_error("config.eval.probes.names", tuple(config.eval.probes.names), "have no 'tags' of a mixture")
    options = {"splits": dict(data.splits), "max_damaged": config.runtime.data.max_damaged}
    name = dataset_of(config, workdir)
    found = read_documents(name, split, text_key=data.text_key, **options)
    try:
        if text_files(pathlib.Path(name).expanduser()):  # which are dealt to splits by their text
            return read_documents(name, split, text_key=data.text_key, label_key=key, **options)
        tags = read_documents(name, split, text_key=key, **options)
    except UserError as error:
        raise config_error("config.eval.probes.tags_key", key, f"be the path of tags in the data ({error})") from error
    return dataclasses.replace(found, labels=tags.texts)


def _encoder(config: ml_collections.ConfigDict, workdir: pathlib.Path, spec: TextSpec | None) -> TextEncoder:
    """The encoder of texts that go with frames."""
    if spec:
        return TextEncoder.of_spec(spec)
    data = config.data
    training = (_images(config, name, data.train_split) for name, _ in sources(config, workdir))
    texts = (text for episodes in training for text in episodes.texts(data.text_key))
    return TextEncoder(_trained(config, texts), data.text_length)


def _trained(config: ml_collections.ConfigDict, texts: Iterable[str]) -> Tokenizer:
    return train_tokenizer(config.data.tokenizer, texts)
