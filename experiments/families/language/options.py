"""The config of language models. No JAX here."""

import dataclasses

from experiments.evaluation.options import EvalOptions
from experiments.families.options import ExperimentConfig
from world_models.data.options import SPLITS, VOCABULARY_SIZE, DataOptions
from world_models.models.language.options import LanguageOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class SentenceDataOptions(DataOptions):
    """Rows of sentences, of .txt and .jsonl files (also folders of them) or of a TFDS data set of documents.

    Attributes:
      dataset, mixture, train_split, validation_split, test_split: as of `DataOptions`.
      text_key: path of the text in an example, or its key in a line of a .jsonl file.
      label_key: the same of a class, to fine-tune a classifier of texts; empty to pretrain.
      splits: share of the documents by split, of files that are not called as a split; they add up to 1.
      text_length: tokens of a row, special ones included.
      sentences: "lines", a line a sentence, or "punctuation", which divides lines after . ! and ? as well.
      pairs: what a row holds: "none", one segment; "next", two, of which the second follows in half of the rows and is
        from another document in the others; "order", two that follow each other and are swapped in half of the rows.
      packed: whether rows are filled with several segments, which do not see each other; with pairs="none".
      duplicates: how often documents are gone through for pairs, each time with others.
      shuffled: whether the tokens of the training split change places at random: a control.
      vocabulary: a vocab.txt, or the folder of a run whose vocabulary is taken; empty to train one.
      vocabulary_size: pieces of a vocabulary that is trained, on the training split alone.
    """

    text_key: str = "text"
    label_key: str = ""
    splits: dict = dataclasses.field(default_factory=lambda: dict(SPLITS))
    text_length: int = 128
    sentences: str = "lines"
    pairs: str = "next"
    packed: bool = False
    duplicates: int = 5
    shuffled: bool = False
    vocabulary: str = ""
    vocabulary_size: int = VOCABULARY_SIZE


@dataclasses.dataclass(frozen=True)
class FillingOptions:
    """What the command `imagine` makes of a language model.

    Attributes:
      sentences: with [MASK] where something is to be filled in; () takes held-out sentences and masks one word each.
      num_shown: held-out sentences.
      num_fillings: of each mask, the most probable first.
    """

    sentences: tuple[str, ...] = ()
    num_shown: int = 12
    num_fillings: int = 5


@dataclasses.dataclass(frozen=True)
class LanguageProbeOptions:
    """Probes of the encoder of a pretrained model.

    Attributes:
      names: which: "tags", ridge regression to parts of speech, of data that have them; "few_labels", ridge regression
        to the class of short texts from packages.
      tags_key: path of the tags in an example, lines and words as in the text.
      num_sentences: of the training and of the validation split, for "tags".
      sources: texts for "few_labels": "headlines", "spam_subjects".
      labels: how many of them the probe is trained on, a measurement each.
      num_test: texts that it is tested on.
      text_length: tokens of a text or sentence; the rest is cut.
      baselines: of "untrained", the same encoder with initial weights; "counts", naive Bayes; "minilm", a public one.
    """

    names: tuple[str, ...] = ()
    tags_key: str = "tags"
    num_sentences: int = 500
    sources: tuple[str, ...] = ("headlines", "spam_subjects")
    labels: tuple[int, ...] = (50, 500)
    num_test: int = 1000
    text_length: int = 32
    baselines: tuple[str, ...] = ("untrained", "counts", "minilm")


@dataclasses.dataclass(frozen=True)
class LanguageEval(EvalOptions):
    """What is measured of a language model.

    Attributes:
      every, best, better, held_out: as of `EvalOptions`.
      baselines: whether unigrams and trigrams predict the same masked tokens.
      probes: what the encoder knows.
      imagine: what the command `imagine` makes.
    """

    baselines: bool = True
    probes: LanguageProbeOptions = LanguageProbeOptions()
    imagine: FillingOptions = FillingOptions()


@dataclasses.dataclass(frozen=True, kw_only=True)
class LanguageConfig(ExperimentConfig):
    """A config of a language model.

    Attributes:
      model: the encoder, and what it learns from.
      data: the texts.
    """

    model: LanguageOptions
    data: SentenceDataOptions = SentenceDataOptions()
    eval: LanguageEval = LanguageEval()
    experiment: str = "experiments.families.language.experiment"
