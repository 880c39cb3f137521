"""Experiment: BERT, pretrained on masked tokens and pairs of segments, or fine-tuned to classify texts."""

import dataclasses
import pathlib

import jax
import ml_collections
from flax import nnx

from experiments.evaluation.rollouts import HeldOutLoss
from experiments.families.checks import check_least, check_one_of, check_transformer
from experiments.families.language import probes
from experiments.families.language.evaluators import Classified, Predicted
from experiments.families.language.options import LanguageConfig
from experiments.runs.config import read
from experiments.training import experiment
from experiments.training.data import open_sentences, open_tagged
from experiments.training.experiment import Capability, Evaluator
from world_models.core.errors import config_error
from world_models.core.specs import SentenceSpec
from world_models.core.types import Array, SentenceBatch
from world_models.data.dataset import Dataset
from world_models.data.tokenizers import tokenizer_from_dict
from world_models.models.language.masking import Masked, mask_tokens
from world_models.models.language.model import LanguageModel, SentenceClassifier
from world_models.nn.options import with_compute


class Experiment(experiment.Experiment):
    """A language model in pretraining, or, with `config.data.label_key`, a classifier of texts."""

    spec_type = SentenceSpec

    def __init__(self, config: ml_collections.ConfigDict, spec: SentenceSpec):
        """Checks `config.model` against the data."""
        super().__init__(config, spec)
        self.config = read(config, LanguageConfig)
        self.options = with_compute(self.config.model, self.config.runtime.compute)
        self.classifies = bool(self.config.data.label_key)
        _check(self.config)
        self.tokenizer = tokenizer_from_dict(spec.tokenizer)

    @classmethod
    def open_data(
        cls, config: ml_collections.ConfigDict, workdir: pathlib.Path, split: str, spec: SentenceSpec | None = None
    ) -> Dataset:
        """Rows of `config.data.text_length` tokens."""
        return open_sentences(config, workdir, split, spec=spec)

    def init(self, rngs: nnx.Rngs) -> nnx.Module:
        """A new model."""
        if self.classifies:
            return SentenceClassifier(self.options, self.spec.vocabulary_size, len(self.spec.classes), rngs=rngs)
        return LanguageModel(self.options, self.spec.vocabulary_size, rngs=rngs)

    def loss(self, model: nnx.Module, batch: SentenceBatch, keys: Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The losses of masked tokens and pairs, or that of the classes; in nats."""
        if self.classifies:
            return model.loss(batch)
        return model.loss(batch, self.mask(batch, keys))

    def mask(self, batch: SentenceBatch, keys: Array, *, hidden: bool = False) -> Masked:
        """What the model sees of a batch, and what it must predict.

        Args:
          batch: rows.
          keys: [batch] random keys.
          hidden: whether [MASK] stands for every token to predict, so that none can be copied.
        """
        options = self.options.mask
        if hidden:
            options = dataclasses.replace(options, masked=1.0, random=0.0)
        return mask_tokens(keys, batch, options, self.tokenizer.special, self.spec.vocabulary_size)

    def evaluators(self, workdir: pathlib.Path) -> dict[str, Evaluator]:
        """The loss on held-out rows, and what is predicted right beside baselines."""
        config = self.config
        held_out = self.open_data(config, workdir, config.data.validation_split, self.spec)
        count, batch = config.eval.held_out.num_examples, config.train.batch_size
        loss = HeldOutLoss(self, held_out, batch_size=batch, count=count, seed=config.seed)
        if self.classifies:
            return {"held_out": loss, "classes": Classified(held_out, batch)}
        training = None
        if config.eval.baselines and self.options.masked:
            training = self.open_data(config, workdir, config.data.train_split, self.spec)
        text = Predicted(self, held_out, training, batch, count, config.seed)
        return {"held_out": loss, "text": text, **self._probes(workdir)}

    def _probes(self, workdir: pathlib.Path) -> dict[str, Evaluator]:
        config, options, found = self.config, self.config.eval.probes, {}
        probes.check(options)
        if "tags" in options.names:
            splits = (config.data.train_split, config.data.validation_split)
            found["tags"] = probes.Tags(self, *(open_tagged(config, workdir, split) for split in splits), options)
        if "few_labels" in options.names:
            found["few_labels"] = probes.FewLabels(self, options, config.seed)
        return found

    @classmethod
    def capabilities(cls) -> dict[str, Capability]:
        """It fills in masked words, and its weights can be written in Hugging Face's layout."""
        return {
            **super().capabilities(),
            "imagine": Capability("experiments.families.language.fillings"),
            "export": Capability("experiments.families.language.export"),
        }


def _check(config: LanguageConfig) -> None:
    options, data = config.model, config.data
    check_transformer("config.model.transformer", options.transformer)
    check_one_of("config.model", options, dtype=("float32", "bfloat16"))
    if data.text_length > options.positions:
        valid = f"be at most config.model.positions={options.positions}: longer rows have no positions"
        raise config_error("config.data.text_length", data.text_length, valid)
    for name in ("masked", "pairs"):
        check_least("config.model", options, name, 0)
    if options.norm_epsilon <= 0:
        raise config_error("config.model.norm_epsilon", options.norm_epsilon, "be above 0")
    mask = options.mask
    if not 0 < mask.ratio < 1:
        raise config_error("config.model.mask.ratio", mask.ratio, "be between 0 and 1")
    if min(mask.masked, mask.random) < 0 or mask.masked + mask.random > 1:
        valid = f"be at least 0, and at most 1 together with config.model.mask.random={mask.random}"
        raise config_error("config.model.mask.masked", mask.masked, valid)
    if data.label_key:
        return
    if not options.masked and not options.pairs:
        raise config_error("config.model.masked", 0.0, "be above 0 where config.model.pairs is 0: nothing is learned")
    if options.pairs and data.pairs == "none":
        raise config_error("config.model.pairs", options.pairs, "be 0 with config.data.pairs='none'")
