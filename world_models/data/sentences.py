"""Sentences as BERT reads them: [CLS] first segment [SEP] second segment [SEP], alone in a row or packed."""

import re
from collections.abc import Sequence

import numpy as np

from world_models.core.errors import UserError, config_error
from world_models.core.specs import SentenceSpec
from world_models.core.types import SentenceBatch
from world_models.data import segments
from world_models.data.text import Documents, OverDocuments
from world_models.data.wordpiece import WordPieceTokenizer

SENTENCES = ("lines", "punctuation")
_AT_ONCE = 20_000  # sentences tokenized in one call
_END = re.compile(r"([.!?][\"')\]]*)\s+(?=[\"'(\[]?[A-Z0-9])")
PAIR_SEED = 0  # which segments make a pair is part of the data, not of an experiment's randomness


def split_sentences(text: str, how: str) -> list[str]:
    """The sentences of a document: its lines, with "punctuation" also divided after . ! and ? before a capital."""
    lines = [line.strip() for line in text.split("\n")]
    if how == "punctuation":
        lines = [sentence for line in lines for sentence in _END.sub(r"\1\n", line).split("\n")]
    return [line for line in lines if line]


class Sentences(OverDocuments):
    """Examples of a masked language model, by index.

    All tokens are kept in memory, in the smallest integer type that the vocabulary fits.
    """

    def __init__(
        self,
        documents: Documents,
        tokenizer: WordPieceTokenizer,
        length: int,
        *,
        sentences: str = "lines",
        pairs: str = "none",
        packed: bool = False,
        duplicates: int = 1,
        shuffled: bool = False,
    ):
        """Tokenizes the documents and divides them.

        Args:
          documents: the texts.
          tokenizer: from text to tokens.
          length: tokens of a row, special ones included.
          sentences: "lines" or "punctuation", see `split_sentences`.
          pairs: "none", "next" or "order", see `segments.pairs`.
          packed: whether a row holds several segments, if they fit; tokens see those of their own alone.
          duplicates: how often the documents are gone through for pairs, each time with others.
          shuffled: whether all tokens of all documents change places at random: a control that leaves nothing to learn
            but frequencies.

        Raises:
          UserError: if an option cannot work for these documents.
        """
        _check(length, sentences, pairs, packed, duplicates)
        self._documents, self._tokenizer, self._length = documents, tokenizer, length
        self._tokens, ends = _tokenized(documents, tokenizer, sentences)
        if shuffled:
            self._tokens = _shuffled(self._tokens)
        if pairs == "next" and len(ends) < 2:
            valid = (
                f"be 'none' or 'order': there is one document in this split of {documents.name} (config.data.splits)"
            )
            raise config_error("config.data.pairs", pairs, valid)
        if pairs == "none":
            self._segments = segments.single(ends, length - 2)
        else:
            rng = np.random.default_rng(PAIR_SEED)
            self._segments = [s for _ in range(duplicates) for s in segments.pairs(ends, length - 3, pairs, rng)]
        if pairs != "none" and all(len(own) < 2 for own in ends):
            valid = (
                f"be 'none': no document of {documents.name} has 2 sentences as config.data.sentences={sentences!r} "
                "divides them"
            )
            raise config_error("config.data.pairs", pairs, valid)
        self._rows = segments.packed(self._segments, length) if packed else [[i] for i in range(len(self._segments))]
        self._classes = () if pairs == "none" else ("next", "other") if pairs == "next" else ("in order", "swapped")

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def spec(self) -> SentenceSpec:
        """Length, vocabulary, tokenizer, and what a label means."""
        tokenizer = self._tokenizer
        return SentenceSpec(self._length, tokenizer.vocabulary_size, tokenizer.to_dict(), self._classes)

    @property
    def tokens(self) -> list[np.ndarray]:
        """Tokens of each document, without special ones."""
        return self._tokens

    def load(self, indices: np.ndarray) -> SentenceBatch:
        """The rows `indices` [batch] as a `SentenceBatch` of NumPy arrays."""
        batch = empty(len(indices), self._length)
        for row, index in enumerate(indices):
            at = 0
            for block, number in enumerate(self._rows[index], 1):
                one = self._segments[number]
                parts = [self._tokens[span.document][span.begin : span.end] for span in one.spans]
                at = put(batch, row, at, block, parts, self._tokenizer)
                batch.labels[row] = one.label
        return batch


class LabelledSentences(OverDocuments):
    """Texts with a class each, one a row; those that are too long are cut."""

    def __init__(
        self, documents: Documents, tokenizer: WordPieceTokenizer, length: int, classes: Sequence[str] = ()
    ):  # fmt: skip
        """Tokenizes the texts.

        Args:
          documents: with labels.
          tokenizer: from text to tokens.
          length: tokens of a row, special ones included.
          classes: names of the classes; by default those of `documents`, sorted.

        Raises:
          UserError: if there is only one class, or a label is none of `classes`.
        """
        _check(length, "lines", "none", False, 1)
        self._documents, self._tokenizer, self._length = documents, tokenizer, length
        self._classes = tuple(classes) or tuple(sorted(set(documents.labels)))
        if len(self._classes) < 2:
            raise UserError(
                f"{documents.name} has the label {self._classes[0]!r} alone: a classifier needs two classes."
            )
        unknown = sorted(set(documents.labels) - set(self._classes))
        if unknown:
            raise UserError(f"{documents.name} has the label {unknown[0]!r}, which no training text has.")
        self._labels = np.array([self._classes.index(label) for label in documents.labels], np.int32)
        self._texts = [tokens[: length - 2] for tokens in tokenizer.encode_many(documents.texts)]

    def __len__(self) -> int:
        return len(self._texts)

    spec = Sentences.spec

    def load(self, indices: np.ndarray) -> SentenceBatch:
        """The texts `indices` [batch] as a `SentenceBatch` of NumPy arrays."""
        batch = encoded([self._texts[i] for i in indices], self._tokenizer, self._length)
        return batch._replace(labels=self._labels[np.asarray(indices)])


def encoded(texts: Sequence[np.ndarray], tokenizer: WordPieceTokenizer, length: int) -> SentenceBatch:
    """Rows of one segment each, of tokens [at most length − 2], without labels."""
    batch = empty(len(texts), length)
    for row, tokens in enumerate(texts):
        put(batch, row, 0, 1, [tokens], tokenizer)
    return batch


def empty(rows: int, length: int) -> SentenceBatch:
    """A batch of padding."""
    return SentenceBatch(
        *(np.zeros((rows, length), np.int32) for _ in range(4)), np.full(rows, segments.NO_LABEL, np.int32)
    )  # fmt: skip


def put(
    batch: SentenceBatch, row: int, at: int, block: int, parts: Sequence[np.ndarray], tokenizer: WordPieceTokenizer
) -> int:
    """Writes one or two segments into a row from the place `at`, in place; returns the first free place."""
    begin, special = at, tokenizer.special
    batch.tokens[row, at] = special.first
    at += 1
    for kind, tokens in enumerate(parts):
        end = at + len(tokens)
        batch.tokens[row, at:end], batch.tokens[row, end] = tokens, special.separator
        batch.types[row, at : end + 1] = kind
        at = end + 1
    batch.blocks[row, begin:at] = block
    batch.positions[row, begin:at] = np.arange(at - begin)
    return at


def _check(length: int, sentences: str, pairs: str, packed: bool, duplicates: int) -> None:
    if length < 8:
        raise config_error("config.data.text_length", length, "be at least 8")
    if sentences not in SENTENCES:
        raise config_error("config.data.sentences", sentences, f"be one of {SENTENCES}")
    if pairs not in segments.PAIRS:
        raise config_error("config.data.pairs", pairs, f"be one of {segments.PAIRS}")
    if packed and pairs != "none":
        raise config_error(
            "config.data.packed", packed, f"be False with config.data.pairs={pairs!r}: a row has one label"
        )
    if duplicates < 1:
        raise config_error("config.data.duplicates", duplicates, "be at least 1")


def _tokenized(
    documents: Documents, tokenizer: WordPieceTokenizer, how: str
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(tokens of each document, where its sentences end); documents without any token are left out."""
    split = [split_sentences(text, how) for text in documents.texts]
    flat = [sentence for sentences in split for sentence in sentences]
    made: list[np.ndarray] = []
    for begin in range(0, len(flat), _AT_ONCE):
        made += tokenizer.encode_many(flat[begin : begin + _AT_ONCE])
    dtype, tokens, ends, at = np.min_scalar_type(tokenizer.vocabulary_size), [], [], 0
    for sentences in split:
        own = [one for one in made[at : at + len(sentences)] if len(one)]
        at += len(sentences)
        if own:
            tokens.append(np.concatenate(own).astype(dtype))
            ends.append(np.cumsum([len(one) for one in own]))
    if not tokens:
        raise UserError(f"{documents.name} holds no word: every document is white space.")
    return tokens, ends


def _shuffled(tokens: list[np.ndarray]) -> list[np.ndarray]:
    everything = np.random.default_rng(PAIR_SEED).permutation(np.concatenate(tokens))
    return np.split(everything, np.cumsum([len(own) for own in tokens])[:-1])
