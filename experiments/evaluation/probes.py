"""Evaluators of what an encoder has learned: probes of frozen features, and fine-tuning on few labels."""

import functools
import pathlib
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from flax import nnx

from experiments.evaluation.fine_tuning import check, fine_tune, from_scratch, in_batches
from experiments.evaluation.options import FineTuneOptions
from experiments.training.data import open_windows
from experiments.training.experiment import Evaluator, Experiment, new_model
from world_models.core.errors import config_error
from world_models.core.types import Array
from world_models.data.clips import Windows
from world_models.probes.baselines import random_features, raw_pixels
from world_models.probes.few_shot import balanced_subset
from world_models.probes.knn import knn_probe
from world_models.probes.linear import linear_probe
from world_models.probes.ridge import ridge_probe

FROZEN = ("ridge", "knn", "linear", "few_labels")
KINDS = (*FROZEN, "fine_tune")
BATCH = 256
NEIGHBOURS = 20  # or all training rows, if there are fewer


def make_probes(
    experiment: Experiment, config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> dict[str, Evaluator]:
    """The probes that `config.eval.probes.names` names.

    Raises:
      UserError: if a probe is unknown, or the data have no such labels.
    """
    wanted, data = tuple(config.eval.probes.names), config.data
    for name in wanted:
        if name not in KINDS:
            raise config_error("config.eval.probes.names", wanted, f"be some of {KINDS}")
    if not wanted:
        return {}
    if data.mixture:
        valid = "be empty where config.data.mixture is not: its data sets may differ in labels"
        raise config_error("config.eval.probes.names", wanted, valid)
    open_split = functools.partial(open_windows, config, workdir, clip_length=data.clip_length, stride=data.clip_length)
    options = config.eval.probes
    examples = Examples(experiment, open_split(data.train_split), open_split(data.test_split), config)
    labelled = Labelled(examples, options.label_key)
    found: dict[str, Evaluator] = _frozen_probes(labelled, config)
    for key in options.more_label_keys:
        frozen = _frozen_probes(Labelled(examples, key), config)
        found |= {f"{name}_{key.rpartition('/')[2]}": probe for name, probe in frozen.items()}
    if "fine_tune" in wanted:
        found["fine_tune"] = FewShot(experiment, labelled, config)
    return found


def _frozen_probes(labelled: "Labelled", config: ml_collections.ConfigDict) -> dict[str, "FrozenProbe"]:
    """The probes of frozen features that the config names, of one kind of labels."""
    probes: dict[str, Callable[..., float]] = {}
    for name in config.eval.probes.names:
        if name == "few_labels":
            shots = filter(None, config.eval.probes.shots)
            probes |= {f"{name}_{count}": _few_labels(count, config.seed) for count in shots}
        elif name in FROZEN:
            probes[name] = _frozen(name, config)
    return {name: FrozenProbe(labelled, probe, config) for name, probe in probes.items()}


def _frozen(name: str, config: ml_collections.ConfigDict) -> Callable[..., float]:
    """The probe as a function (train_x, train_y, test_x, test_y, num_classes) -> accuracy."""
    if name == "ridge":
        return lambda *arrays: ridge_probe(*arrays).accuracy
    if name == "knn":
        return lambda train_x, *arrays: knn_probe(train_x, *arrays, k=min(NEIGHBOURS, len(train_x)))
    options = config.eval.linear_probe

    def linear(train_x: np.ndarray, *arrays: Any) -> float:
        batch = min(options.batch_size, 9 * len(train_x) // 10)  # a tenth may be held out
        sizes = {"epochs": options.epochs, "warmup_epochs": options.warmup_epochs, "batch_size": batch}
        rates = options.base_learning_rates
        return linear_probe(train_x, *arrays, base_learning_rates=rates, seed=config.seed, **sizes)

    return linear


def _few_labels(shots: int, seed: int) -> Callable[..., float]:
    """Ridge regression on so many labels a class, or as many as there are, as a function like `_frozen`'s."""

    def few(train_x: np.ndarray, train_y: np.ndarray, *arrays: Any) -> float:
        rows = balanced_subset(train_y, shots, seed, or_fewer=True)
        return ridge_probe(train_x[rows], train_y[rows], *arrays).accuracy

    return few


class Examples:
    """Clips of a training and a test set in memory, each perhaps a random part of its split, and features of them.

    All probes of a model take the same features: those of the last model are kept, and of the untrained one.
    """

    def __init__(self, experiment: Experiment, train: Windows, test: Windows, config: ml_collections.ConfigDict):
        """`config.eval.probes` says how many clips of each set (num_train, num_test; 0 for all) and how to pool."""
        options = config.eval.probes
        self.windows, self._counts = (train, test), (options.num_train, options.num_test)
        self._experiment, self._config = experiment, config
        self._last: tuple[weakref.ref, list[np.ndarray]] | None = None

    @functools.cached_property
    def _clips(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return [self._load(part) for part in range(2)]

    @property
    def frames(self) -> list[np.ndarray]:
        """Of both sets: uint8 [n, time, h, w, c]."""
        return [frames for frames, _ in self._clips]

    @property
    def episodes(self) -> list[np.ndarray]:
        """Of both sets: which episode of its split each clip is from."""
        return [episodes for _, episodes in self._clips]

    def _load(self, part: int) -> tuple[np.ndarray, np.ndarray]:
        windows, count = self.windows[part], self._counts[part]
        rows = np.arange(len(windows))
        if 0 < count < len(windows):
            rows = np.sort(np.random.default_rng((self._config.seed, part)).permutation(rows)[:count])
        frames = np.concatenate([windows.load(rows[i : i + BATCH]).frames for i in range(0, len(rows), BATCH)])
        episodes = windows.episode[rows]
        whole = ~np.isin(episodes, list(windows.episodes.damaged))  # others stand in for the damaged
        return frames[whole], episodes[whole]

    def encoded(self, model: nnx.Module) -> list[np.ndarray]:
        """Features [n, d] of both sets by a model, whose parameters do not change as long as it lives."""
        if self._last is None or self._last[0]() is not model:
            self._last = weakref.ref(model), self._encode(model)
        return self._last[1]

    @functools.cached_property
    def untrained(self) -> list[np.ndarray]:
        """The same by the model with its initial weights."""
        return self._encode(new_model(self._experiment, self._config.seed))

    def _encode(self, model: nnx.Module) -> list[np.ndarray]:
        encode = lambda frames: _features(model, frames, self._config.eval.probes.pool)
        return [in_batches(encode, model, frames, BATCH) for frames in self.frames]


class Labelled:
    """Those of some clips that have a label."""

    def __init__(self, examples: Examples, label_key: str):
        """Reads the labels of both splits under `label_key`."""
        self.examples = examples
        self.num_classes = max(windows.episodes.num_classes(label_key) for windows in examples.windows)
        self._by_episode = [windows.episodes.labels(label_key) for windows in examples.windows]
        if self.num_classes < 2 or not all((labels >= 0).any() for labels in self._by_episode):
            valid = "be the path of labels, of two classes or more, that some examples of both splits have"
            raise config_error(
                "config.eval.probes.label_key", label_key, f"{valid}; config.eval.probes.names=() has none"
            )

    @functools.cached_property
    def _all(self) -> list[np.ndarray]:
        return [own[episodes] for own, episodes in zip(self._by_episode, self.examples.episodes)]

    @property
    def labels(self) -> list[np.ndarray]:
        """Of the training and the test set: int64 [n], none negative."""
        return [labels[labels >= 0] for labels in self._all]

    @property
    def train(self) -> tuple[np.ndarray, np.ndarray]:
        """(uint8 frames [n, time, h, w, c], labels [n])."""
        return self.of(self.examples.frames)[0], self.labels[0]

    @property
    def test(self) -> tuple[np.ndarray, np.ndarray]:
        """The same of the test set."""
        return self.of(self.examples.frames)[1], self.labels[1]

    def of(self, parts: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Of something of all clips of both sets that of the labelled ones; not copied where all are labelled."""
        return [x if labels.min() >= 0 else x[labels >= 0] for x, labels in zip(parts, self._all)]


class FrozenProbe:
    """Accuracy of a probe on frozen features, in percent, beside three baselines that no pretraining is in.

    The baselines: the pixels themselves; as many random features of them; the same encoder with its initial weights.
    """

    def __init__(self, labelled: Labelled, probe: Callable[..., float], config: ml_collections.ConfigDict):
        """`probe` is a function (train_x, train_y, test_x, test_y, num_classes) -> accuracy."""
        self._labelled, self._probe, self._config = labelled, probe, config
        self._baselines: dict[str, float] | None = None

    def __call__(self, model: nnx.Module) -> dict[str, float]:
        """Measures a model with `features`."""
        found = {"accuracy": self._accuracy(*self._labelled.of(self._labelled.examples.encoded(model)))}
        if self._config.eval.probes.baselines:
            self._baselines = self._baselines or self._measure_baselines()
            found |= self._baselines
        return found

    def _accuracy(self, train_x: np.ndarray, test_x: np.ndarray) -> float:
        train_y, test_y = self._labelled.labels
        return 100 * self._probe(train_x, train_y, test_x, test_y, self._labelled.num_classes)

    def _measure_baselines(self) -> dict[str, float]:
        examples, of = self._labelled.examples, self._labelled.of
        train, test = of(examples.frames)
        untrained = of(examples.untrained)
        return {
            "raw_pixels": self._accuracy(raw_pixels(train), raw_pixels(test)),
            "random_features": self._accuracy(*random_features(train, test, untrained[0].shape[1], self._config.seed)),
            "random_init": self._accuracy(*untrained),
        }


class FewShot:
    """Accuracy, in percent, after fine-tuning on so many labels a class, from these weights and from scratch."""

    def __init__(self, experiment: Experiment, labelled: Labelled, config: ml_collections.ConfigDict):
        """`config.eval.probes.shots` says how many labels a class, 0 for all; `config.eval.fine_tune` how."""
        self._experiment, self._labelled, self._config = experiment, labelled, config
        self._options = config.eval.fine_tune
        check(self._options)
        self._scratch: dict[int, float] = {}

    def __call__(self, model: nnx.Module) -> dict[str, float]:
        """Measures a `MaskedAutoencoder`."""
        found = {}
        for shots in self._config.eval.probes.shots:
            found[f"accuracy_{shots or 'all'}"] = self._fine_tuned(model, shots, self._options)
            if self._config.eval.probes.baselines:
                if shots not in self._scratch:
                    new = new_model(self._experiment, self._config.seed)
                    self._scratch[shots] = self._fine_tuned(new, shots, from_scratch(self._options))
                found[f"scratch_{shots or 'all'}"] = self._scratch[shots]
        return found

    def _fine_tuned(self, model: nnx.Module, shots: int, options: FineTuneOptions) -> float:
        frames, labels = self._labelled.train
        if shots:
            rows = balanced_subset(labels, shots, self._config.seed)
            frames, labels = frames[rows], labels[rows]
        test = self._labelled.test
        classes, seed = self._labelled.num_classes, self._config.seed
        return 100 * fine_tune(model, options, (frames, labels), test, classes, seed)


@functools.partial(jax.jit, static_argnames="pool")
def _features(model: nnx.Module, frames: Array, pool: str) -> jax.Array:
    return model.features(frames, pool)
