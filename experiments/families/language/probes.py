"""What a text encoder knows that it was not trained for: parts of speech, and the class of a text from few labels."""

import collections
import dataclasses
import functools
import re
from typing import Any

import jax
import numpy as np
from flax import nnx

from experiments.families.language.options import LanguageProbeOptions
from world_models.core import sharding as parallel
from world_models.core.errors import UserError, config_error
from world_models.core.types import SentenceBatch
from world_models.data.sentences import encoded
from world_models.data.sources import packages, texts
from world_models.data.text import Documents
from world_models.data.wordpiece import WordPieceTokenizer, read_vocabulary
from world_models.models.language import hugging_face
from world_models.models.language.model import Encoder, LanguageModel, mean_features
from world_models.probes.naive_bayes import naive_bayes
from world_models.probes.ridge import ridge_probe

KINDS = ("tags", "few_labels")
BASELINES = ("untrained", "counts", "minilm")
CLASSES = 12  # parts of speech: the most frequent ones, and one more for the others
_BATCH = 64


def check(options: LanguageProbeOptions) -> None:
    """Raises ConfigError for a value of `config.eval.probes` that cannot work."""
    for name, known in (("names", KINDS), ("baselines", BASELINES), ("sources", tuple(texts.LABELLED))):
        if not set(getattr(options, name)) <= set(known):
            raise config_error(f"config.eval.probes.{name}", getattr(options, name), f"be some of {known}")
    for name, least in (("num_sentences", 1), ("num_test", 1), ("text_length", 3)):
        if getattr(options, name) < least:
            raise config_error(f"config.eval.probes.{name}", getattr(options, name), f"be at least {least}")
    if not options.labels or min(options.labels) < 2:
        raise config_error("config.eval.probes.labels", options.labels, "be numbers of at least 2")


class Tags:
    """Evaluator: accuracy, in percent, of ridge regression from the features of a word's first piece to its tag.

    Baselines: "untrained", the same encoder with initial weights; "word", the tag that the word has most often among
    the words that the probe is trained on.
    """

    def __init__(self, experiment: Any, training: Documents, held_out: Documents, options: LanguageProbeOptions):
        """Takes texts with their tags as `labels`, a line a sentence, a tag a word."""
        self._experiment, self._options = experiment, options
        length = min(experiment.spec.length, options.text_length)
        read = functools.partial(_tagged, tokenizer=experiment.tokenizer, length=length, count=options.num_sentences)
        self._train, self._test = read(training), read(held_out)
        common = collections.Counter(self._train.tags).most_common(CLASSES)
        numbers = {tag: i for i, (tag, _) in enumerate(common)}
        self._y = [np.array([numbers.get(t, len(numbers)) for t in part.tags]) for part in (self._train, self._test)]
        self._baselines: dict[str, float] | None = None

    def __call__(self, model: nnx.Module) -> dict[str, float]:
        """Measures a model with an encoder."""
        if self._baselines is None:
            self._baselines = {"word": self._by_word()}
            if "untrained" in self._options.baselines:
                new = _untrained(self._experiment)
                self._baselines["untrained"] = self._accuracy(new)
        return {"accuracy": self._accuracy(model), **self._baselines, "num_test": float(len(self._y[1]))}

    def _accuracy(self, model: nnx.Module) -> float:
        features = [
            _in_batches(_features, model.encoder, part.batch)[part.rows, part.places]
            for part in (self._train, self._test)
        ]
        (train_y, test_y), (train_x, test_x) = self._y, features
        return 100 * ridge_probe(train_x, train_y, test_x, test_y, CLASSES + 1).accuracy

    def _by_word(self) -> float:
        seen: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
        for word, tag in zip(self._train.words, self._y[0]):
            seen[word][tag] += 1
        usual = collections.Counter(self._y[0]).most_common(1)[0][0]
        guesses = [seen[word].most_common(1)[0][0] if word in seen else usual for word in self._test.words]
        return 100 * float(np.mean(np.array(guesses) == self._y[1]))


@dataclasses.dataclass
class _Tagged:
    """Sentences as rows, and of every word the row and place of its first piece, itself in lower case, and its tag."""

    batch: SentenceBatch
    rows: np.ndarray
    places: np.ndarray
    words: list[str]
    tags: list[str]


def _tagged(documents: Documents, tokenizer: WordPieceTokenizer, length: int, count: int) -> _Tagged:
    lines = [
        pair
        for text, tags in zip(documents.texts, documents.labels)
        for pair in zip(text.split("\n"), tags.split("\n"))
        if pair[0].strip()
    ]
    lines = [lines[i] for i in np.unique(np.linspace(0, len(lines) - 1, count).astype(int))]
    sentences, found = [], []
    for row, (line, tags) in enumerate(lines):
        words, own = line.split(), tags.split()
        if len(words) != len(own):
            raise UserError(f"{documents.name} has {len(words)} words and {len(own)} tags in the line {line[:60]!r}.")
        pieces, place = [], 1
        for word, tag, made in zip(words, own, tokenizer.encode_many(words)):
            if len(made) and place < length - 1:
                found.append((row, place, word.lower(), _kind(tag)))
            pieces.append(made)
            place += len(made)
        sentences.append(np.concatenate(pieces)[: length - 2])
    rows, places, words, kinds = zip(*found)
    return _Tagged(encoded(sentences, tokenizer, length), np.array(rows), np.array(places), list(words), list(kinds))


def _kind(tag: str) -> str:
    """The kind of word that a tag of Brown's names: its first two letters, without case and tense."""
    return re.split(r"[-+$*]", tag)[0][:2] or tag


@functools.lru_cache(maxsize=1)  # both probes begin with it
def _untrained(experiment: Any) -> nnx.Module:
    return jax.jit(lambda: experiment.init(nnx.Rngs(experiment.config.seed)))()


class FewLabels:
    """Evaluator: accuracy, in percent, of ridge regression from mean features to the class of a text, from few labels.

    Baselines: "untrained", the same encoder with initial weights; "naive_bayes", counts of words; "minilm", the mean
    features of a public encoder, trained on a billion pairs of sentences.
    """

    def __init__(self, experiment: Any, options: LanguageProbeOptions, seed: int):
        """Reads the texts of `options.sources`, of which the seed chooses those with labels and those of the test."""
        self._experiment, self._options, self._seed = experiment, options, seed
        positions = experiment.config.model.positions
        if options.text_length > positions:
            valid = f"be at most config.model.positions={positions}"
            raise config_error("config.eval.probes.text_length", options.text_length, valid)
        self._corpora = {source: texts.read(source) for source in options.sources}
        least = max(options.labels) + options.num_test
        for source, corpus in self._corpora.items():
            if len(corpus.texts) < least:
                valid = f"leave {max(options.labels)} of the {len(corpus.texts)} texts of {source!r} for labels"
                raise config_error("config.eval.probes.num_test", options.num_test, valid)
        self._baselines: dict[str, float] | None = None

    def __call__(self, model: nnx.Module) -> dict[str, float]:
        """Measures a model with an encoder."""
        if self._baselines is None:
            self._baselines = self._measure_baselines()
        tokenizer = self._experiment.tokenizer
        found = {"num_test": float(self._options.num_test)}
        return found | self._measured("", model.encoder, tokenizer) | self._baselines

    def _measure_baselines(self) -> dict[str, float]:
        wanted, found = self._options.baselines, {}
        if "untrained" in wanted:
            new = _untrained(self._experiment)
            found |= self._measured("_untrained", new.encoder, self._experiment.tokenizer)
        if "minilm" in wanted:
            found |= self._measured("_minilm", *minilm())
        if "counts" in wanted:
            for source, corpus in self._corpora.items():
                y, classes = _numbers(corpus)
                for count, (train, test) in self._splits(len(y)).items():
                    pick = lambda rows, corpus=corpus: [corpus.texts[i] for i in rows]
                    accuracy = naive_bayes(pick(train), y[train], pick(test), y[test], classes)
                    found[f"{source}_{count}_naive_bayes"] = 100 * accuracy
        return found

    def _measured(self, name: str, encoder: Encoder, tokenizer: WordPieceTokenizer) -> dict[str, float]:
        found, length = {}, self._options.text_length
        for source, corpus in self._corpora.items():
            y, classes = _numbers(corpus)
            splits = self._splits(len(y))
            used = np.unique(np.concatenate([rows for pair in splits.values() for rows in pair]))
            rows = [own[: length - 2] for own in tokenizer.encode_many([corpus.texts[i] for i in used])]
            x = np.zeros((len(y), encoder.tokens.features), np.float32)
            x[used] = _in_batches(_means, encoder, encoded(rows, tokenizer, length))
            for count, (train, test) in splits.items():
                accuracy = ridge_probe(x[train], y[train], x[test], y[test], classes).accuracy
                found[f"{source}_{count}{name}"] = 100 * accuracy
        return found

    def _splits(self, size: int) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """(training rows, test rows) by number of labels; smaller training sets are parts of larger ones."""
        order = np.random.default_rng((self._seed, 0xFE3)).permutation(size)
        test, rest = order[: self._options.num_test], order[self._options.num_test :]
        return {count: (rest[:count], test) for count in self._options.labels}


def _numbers(corpus: texts.Corpus) -> tuple[np.ndarray, int]:
    classes = sorted(set(corpus.labels))
    return np.array([classes.index(label) for label in corpus.labels]), len(classes)


@functools.lru_cache(maxsize=1)
def minilm() -> tuple[Encoder, WordPieceTokenizer]:
    """The encoder and tokenizer of MiniLM. Raises UserError if its package is not installed."""
    folder = packages.MINILM.locate()
    options, size = hugging_face.described(folder)
    options = dataclasses.replace(options, masked=0.0, pairs=0.0)
    model = nnx.eval_shape(lambda: LanguageModel(options, size, rngs=nnx.Rngs(0)))
    nnx.update(model, hugging_face.read(folder, model).params)
    return model.encoder, read_vocabulary(folder)


_features = jax.jit(lambda encoder, batch: encoder(batch))
_means = jax.jit(mean_features)


def _in_batches(function: Any, encoder: Encoder, batch: SentenceBatch) -> np.ndarray:
    """`function` of all rows, as float32 [rows, ...]."""
    found = []
    for begin in range(0, len(batch.tokens), _BATCH):
        part = SentenceBatch(*(x[begin : begin + _BATCH] for x in batch))
        count = len(part.tokens)
        full = SentenceBatch(*(np.concatenate([x, np.repeat(x[:1], _BATCH - count, axis=0)]) for x in part))
        made = parallel.on_host(function(encoder, parallel.place_beside(encoder, full)))
        found.append(made[:count].astype(np.float32))
    return np.concatenate(found)
