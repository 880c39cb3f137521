"""Texts from packages: documents to learn language from, and sentences with a class each."""

import gzip
import json
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from world_models.core.errors import UserError, config_error
from world_models.data import rlds
from world_models.data.sources import packages
from world_models.data.sources.collection import Collection, Split

LABELLED = ("headlines", "spam_subjects")
"""Sources of short texts with a class each."""
# Brown's quotes and what a printed page has for them.
_QUOTES = {"``": '"', "''": '"'}
_PARTS_OF_SPEECH = ("noun", "verb", "adj", "adv")
_HEADER = re.compile(r"^Subject:[ \t]*(.*(?:\n[ \t].*)*)", re.MULTILINE | re.IGNORECASE)


class Corpus(NamedTuple):
    """Texts of a package.

    Attributes:
      texts: a sentence a line; none is empty.
      labels: class of each; empty if they have none.
      tags: of Brown, the part of speech of every word, lines and words as in the text; else empty.
    """

    texts: Sequence[str]
    labels: Sequence[str] = ()
    tags: Sequence[str] = ()


def read(kind: str) -> Corpus:
    """The texts of a source, one of `FIELDS` with texts.

    Raises:
      UserError: if the package is not installed or a file of it is damaged.
    """
    package, reader = _SOURCES[kind]
    folder = package.locate()
    try:
        corpus = reader(folder)
        if not corpus.texts or not all(corpus.texts):
            raise ValueError("a text is empty")
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise UserError(f"{folder} is damaged ({error}): delete it and {packages.REMEDY}.") from error
    return corpus


def collection(kind: str, limit: int, splits: Mapping[str, float], seed: int) -> Collection:
    """Texts of a source as a data set of {"text", "label", "tags"}, an example a document.

    Args:
      kind: of the source.
      limit: texts at most, at random; 0 for all.
      splits: split -> share of the texts; equal texts are in the same split.
      seed: of the choice and the splits.

    Raises:
      UserError: as `read`, or if a split would be empty.
    """
    corpus, package = read(kind), _SOURCES[kind][0]
    count = len(corpus.texts)
    if not 0 <= limit <= count:
        raise config_error("config.record.num_episodes", limit, f"be from 0 to {count}, the texts of {kind!r}")
    chosen = np.sort(np.random.default_rng([seed, 0x7E27]).permutation(count)[: limit or count])
    groups = {corpus.texts[i]: i for i in chosen}
    dealt = rlds.split_episodes([groups[corpus.texts[i]] for i in chosen], splits, seed)
    classes = sorted(set(corpus.labels))
    features: dict[str, Any] = {"text": tfds.features.Text()}
    if classes:
        features["label"] = tfds.features.ClassLabel(names=classes)
    if corpus.tags:
        features["tags"] = tfds.features.Text()

    def example(index: int) -> dict[str, Any]:
        made: dict[str, Any] = {"text": corpus.texts[index]}
        if classes:
            made["label"] = corpus.labels[index]
        if corpus.tags:
            made["tags"] = corpus.tags[index]
        return made

    def of_split(places: Sequence[int]) -> Callable[[int], dict[str, Any]]:
        return lambda place: example(int(chosen[places[place]]))

    return Collection(
        name=kind,
        description=f"Texts of {package.package}, an example a document, a line a sentence.",
        features=features,
        splits={name: Split(len(places), of_split(places)) for name, places in dealt.items()},
        licence=package.licence,
        source=package.source,
        summary=f"{len(chosen):,} texts of {package.package}" + (f" in {len(classes)} classes." if classes else "."),
    )


def _brown(folder: pathlib.Path) -> Corpus:
    genres = dict(line.split()[:2] for line in (folder / "cats.txt").read_text().splitlines() if line.strip())
    texts, tags = [], []
    for name in genres:
        lines = (folder / name).read_text(encoding="latin-1").splitlines()
        words = [[word.rpartition("/") for word in line.split()] for line in lines if line.strip()]
        texts.append("\n".join(" ".join(_QUOTES.get(word, word) for word, _, _ in line) for line in words))
        tags.append("\n".join(" ".join(tag for _, _, tag in line) for line in words))
    return Corpus(texts, list(genres.values()), tags)


def _wordnet(folder: pathlib.Path) -> Corpus:
    texts, labels = [], []
    for part in _PARTS_OF_SPEECH:
        for line in (folder / f"dict/data.{part}").read_text(encoding="utf-8").splitlines():
            if line.startswith(" ") or " | " not in line:
                continue  # the licence, at the top
            gloss = line.split(" | ", 1)[1].strip()
            definition, *examples = re.split(r';\s*(?=")', gloss)
            texts.append("\n".join([definition, *(example.strip('"; ') for example in examples)]).strip())
            labels.append(part)
    return Corpus(texts, labels)


def _gcide(folder: pathlib.Path) -> Corpus:
    with gzip.open(folder / "gcide.dict.dz") as file:
        content = file.read().decode("utf-8", errors="replace")
    return Corpus(list(_entries(content)))


def _entries(content: str) -> Iterator[str]:
    """Entries of a dictionary: unindented heads with indented text, without pronunciation, marks and sources."""
    for entry in re.split(r"\n(?=\S)", content):
        head, _, body = entry.partition("\n")
        body = re.sub(r"\[(?:1913 Webster|PJC|WordNet[^\]]*|GG|Webster 1913 Suppl\.)[^\]]*\]|[{}]", "", body)
        paragraphs = (" ".join(part.split()) for part in re.split(r"\n\s*\n", body))
        word = re.split(r"\s*[\\\[(,]", head)[0].strip()
        text = "\n".join(part for part in paragraphs if len(part) > 1)
        if word and text and not word[0].isdigit() and not word.startswith("00"):
            yield f"{word}.\n{text}"


def _subjects(folder: pathlib.Path) -> Corpus:
    found: dict[str, str] = {}  # a subject once, as it came first
    for group in packages.SPAM.wanted:
        for file in sorted((folder / group).glob("*.json")):
            mail = json.loads(file.read_text(encoding="utf-8"))["text"]
            header = _HEADER.search(mail.partition("\n\n")[0])
            subject = " ".join(header.group(1).split()) if header else ""
            if subject:
                found.setdefault(subject, "spam" if group.startswith("spam") else "ham")
    return Corpus(list(found), list(found.values()))


def _headlines(folder: pathlib.Path) -> Corpus:
    found: dict[str, str] = {}
    for kind in packages.HEADLINES.wanted:
        for file in sorted((folder / kind).glob("*.txt")):
            found.setdefault(file.read_text(encoding="utf-8", errors="replace").strip().split("\n")[0], kind)
    return Corpus(list(found), list(found.values()))


_SOURCES: dict[str, tuple[packages.Package, Callable[[pathlib.Path], Corpus]]] = {
    "brown": (packages.BROWN, _brown),
    "wordnet": (packages.WORDNET, _wordnet),
    "gcide": (packages.GCIDE, _gcide),
    "spam_subjects": (packages.SPAM, _subjects),
    "headlines": (packages.HEADLINES, _headlines),
}
