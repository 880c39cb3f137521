"""WordPiece: words as the longest pieces of a vocabulary that is trained on texts or read from a file."""

import json
import pathlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from world_models.core.errors import UserError, config_error
from world_models.data.options import VOCABULARY_SIZE

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CONTINUED = "##"  # begins a piece that continues a word
VOCABULARY_FILE, TOKENIZER_FILE, SPEC_FILE = "vocab.txt", "tokenizer_config.json", "data_spec.json"


class SpecialTokens(NamedTuple):
    """The numbers of the special tokens."""

    padding: int
    unknown: int
    first: int
    separator: int
    mask: int


class WordPieceTokenizer:
    """BERT's tokenizer (Devlin et al. 2018): words and punctuation, in pieces; special tokens are not added by it.

    Attributes:
      vocabulary: the pieces, by number.
      vocabulary_size: how many there are.
      lowercase: whether text loses case and accents.
      special: numbers of the special tokens.
    """

    def __init__(self, vocabulary: Sequence[str], lowercase: bool = True):
        """Takes a vocabulary, with the special tokens in it and [PAD] first.

        Raises:
          UserError: if it lacks a special token, [PAD] is not the first piece, or a piece is there twice.
        """
        tokenizers = _library()
        self.vocabulary, self.lowercase = tuple(vocabulary), lowercase
        self.vocabulary_size = len(self.vocabulary)
        numbers = {piece: i for i, piece in enumerate(self.vocabulary)}
        missing = [piece for piece in SPECIAL if piece not in numbers]
        if missing or numbers[SPECIAL[0]] or len(numbers) < len(self.vocabulary):
            problem = f"lacks {', '.join(missing)}" if missing else "holds a piece twice, or does not begin with [PAD]"
            raise UserError(f"A WordPiece vocabulary of {self.vocabulary_size} pieces {problem}.")
        self.special = SpecialTokens(*(numbers[piece] for piece in SPECIAL))
        self._tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(numbers, unk_token="[UNK]"))
        _prepare(self._tokenizer, lowercase)

    @classmethod
    def train(cls, texts: Iterable[str], vocabulary_size: int = VOCABULARY_SIZE) -> "WordPieceTokenizer":
        """A vocabulary of at most so many pieces: those that merging the most frequent pairs makes of the texts.

        Google's own trainer merges by likelihood: its vocabularies differ.

        Raises:
          ConfigError: if there is no room for the special tokens and the characters of the texts.
        """
        tokenizers = _library()
        field = "config.data.vocabulary_size"
        if vocabulary_size <= len(SPECIAL):
            valid = f"be above {len(SPECIAL)}, the number of special tokens"
            raise config_error(field, vocabulary_size, valid)
        made = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
        _prepare(made, True)
        texts = list(texts)
        # The trainer numbers "##a" in the order of a hash table, and ties between pairs are decided by numbers: as
        # special tokens these pieces have the same numbers, and the vocabulary is the same, every time.
        characters = {c for text in texts for c in made.normalizer.normalize_str(text)}
        first = [*SPECIAL, *(f"{CONTINUED}{c}" for c in sorted(characters) if _continues(c))]
        trainer = tokenizers.trainers.WordPieceTrainer(
            vocab_size=vocabulary_size, special_tokens=first, show_progress=False
        )
        made.train_from_iterator(texts, trainer)
        found = made.get_vocab()
        if len(found) > vocabulary_size:
            valid = f"be at least {len(found)}: the training texts have so many characters, inside words and first"
            raise config_error(field, vocabulary_size, valid)
        return cls(sorted(found, key=found.get))

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> "WordPieceTokenizer":
        """The inverse of `to_dict`."""
        return cls(description["vocabulary"], description["lowercase"])

    def encode(self, text: str) -> np.ndarray:
        """Int32 [tokens]."""
        return self.encode_many([text])[0]

    def encode_many(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The tokens of every text, on all cores."""
        made = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(one.ids, np.int32) for one in made]

    def decode(self, tokens: np.ndarray) -> str:
        """Text of int [tokens]: pieces joined to words, words by spaces; padding is left out."""
        return self._tokenizer.decode([int(t) for t in tokens if t], skip_special_tokens=False)

    def to_dict(self) -> dict[str, Any]:
        """A description for JSON."""
        return {"kind": "wordpiece", "lowercase": self.lowercase, "vocabulary": list(self.vocabulary)}


def read_vocabulary(path: str | pathlib.Path) -> WordPieceTokenizer:
    """The vocabulary of a vocab.txt, a piece a line, or of a finished or begun run.

    Text loses case and accents unless a tokenizer_config.json beside the file has "do_lower_case": false, or a run's
    own tokenizer says so.

    Args:
      path: the file, its folder, or the folder of a run.

    Raises:
      ConfigError: if there is neither, or it is no WordPiece vocabulary.
    """
    path, field = pathlib.Path(path).expanduser(), "config.data.vocabulary"
    spec = path / SPEC_FILE
    file = path / VOCABULARY_FILE if path.is_dir() else path
    try:
        if spec.is_file():
            found = json.loads(spec.read_text())["tokenizer"]
            return WordPieceTokenizer(found["vocabulary"], found["lowercase"])
        settings = file.parent / TOKENIZER_FILE
        lowercase = json.loads(settings.read_text()).get("do_lower_case", True) if settings.is_file() else True
        return WordPieceTokenizer(file.read_text(encoding="utf-8").removesuffix("\n").split("\n"), lowercase)
    except (OSError, UserError, KeyError, ValueError) as error:
        valid = f"be a {VOCABULARY_FILE}, a piece a line, or the folder of a run with WordPiece ({error})"
        raise config_error(field, str(path), valid) from error


def _continues(character: str) -> bool:
    """Whether a character can stand inside a word; punctuation is a word of its own."""
    return character.isalnum() or unicodedata.category(character)[0] in "MS"


def _prepare(tokenizer: Any, lowercase: bool) -> None:
    """BERT's normalization, and its division of text into words."""
    tokenizers = _library()
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = tokenizers.decoders.WordPiece()
    # "[MASK]" in a sentence is the token, not three words.
    tokenizer.add_special_tokens([piece for piece in SPECIAL if tokenizer.token_to_id(piece) is not None])


def _library() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise UserError("WordPiece needs the package tokenizers: pip install -e '.[language]'.") from error
    return tokenizers
