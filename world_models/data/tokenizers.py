"""Text to integers and back, in batches of one length."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from world_models.core.errors import config_error
from world_models.core.specs import TextSpec
from world_models.core.types import TextBatch
from world_models.data.wordpiece import WordPieceTokenizer

PADDING, UNKNOWN = 0, 1


class Tokenizer(Protocol):
    """Text to tokens in [0, vocabulary_size) and back; token 0 is padding, which no text has.

    Attributes:
      vocabulary_size: number of tokens, padding included.
    """

    vocabulary_size: int

    def encode(self, text: str) -> np.ndarray:
        """Int32 [tokens]."""

    def decode(self, tokens: np.ndarray) -> str:
        """Text of int [tokens]; padding is left out."""

    def to_dict(self) -> dict[str, Any]:
        """A description for JSON, with "kind": a key of `TOKENIZERS`; `tokenizer_from_dict` is the inverse."""


class CharacterTokenizer:
    """A token a character (Unicode code point); 1 stands for those outside the vocabulary."""

    def __init__(self, characters: str):
        """`characters` is the vocabulary in any order."""
        self._codes = np.unique(_code_points(characters))
        self.vocabulary_size = len(self._codes) + 2

    @classmethod
    def train(cls, texts: Iterable[str]) -> "CharacterTokenizer":
        """The characters of some texts."""
        found: set[str] = set()
        for text in texts:
            found |= set(text)
        return cls("".join(found))

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> "CharacterTokenizer":
        """The inverse of `to_dict`."""
        return cls(description["characters"])

    def encode(self, text: str) -> np.ndarray:
        """Int32 [characters]."""
        codes = _code_points(text)
        place = np.minimum(np.searchsorted(self._codes, codes), len(self._codes) - 1)
        return np.where(self._codes[place] == codes, place + 2, UNKNOWN).astype(np.int32)

    def decode(self, tokens: np.ndarray) -> str:
        """Text of int [tokens]; padding is left out, and unknown characters become U+FFFD."""
        return "".join("�" if t == UNKNOWN else chr(self._codes[t - 2]) for t in tokens if t != PADDING)

    def to_dict(self) -> dict[str, Any]:
        """A description for JSON."""
        return {"kind": "characters", "characters": "".join(map(chr, self._codes))}


TOKENIZERS = {"characters": CharacterTokenizer, "wordpiece": WordPieceTokenizer}


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def train_tokenizer(kind: str, texts: Iterable[str]) -> Tokenizer:
    """A tokenizer made of training texts.

    Raises:
      ConfigError: for an unknown kind.
    """
    if kind not in TOKENIZERS:
        raise config_error("config.data.tokenizer", kind, f"be one of {tuple(TOKENIZERS)}")
    return TOKENIZERS[kind].train(texts)


def tokenizer_from_dict(description: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that `Tokenizer.to_dict` described."""
    return TOKENIZERS[description["kind"]].from_dict(description)


class TextEncoder:
    """Texts as rows of one length: longer ones are cut, shorter ones padded."""

    def __init__(self, tokenizer: Tokenizer, length: int):
        """`length` counts tokens.

        Raises:
          ConfigError: if it is below 1.
        """
        if length < 1:
            raise config_error("config.data.text_length", length, "be at least 1")
        self.tokenizer, self.length = tokenizer, length

    @classmethod
    def of_spec(cls, spec: TextSpec) -> "TextEncoder":
        """The encoder that made data of this spec."""
        return cls(tokenizer_from_dict(spec.tokenizer), spec.length)

    @property
    def spec(self) -> TextSpec:
        """What it makes."""
        return TextSpec(self.length, self.tokenizer.vocabulary_size, self.tokenizer.to_dict())

    def __call__(self, texts: Sequence[str]) -> TextBatch:
        """Rows of NumPy arrays, one a text."""
        return pad([self.tokenizer.encode(text)[: self.length] for text in texts], self.length)


def pad(rows: Sequence[np.ndarray], length: int) -> TextBatch:
    """A batch of rows of at most `length` tokens each."""
    tokens = np.full((len(rows), length), PADDING, np.int32)
    for row, own in zip(tokens, rows):
        row[: len(own)] = own
    lengths = np.array([len(row) for row in rows])
    return TextBatch(tokens, np.arange(length) < lengths[:, None])
