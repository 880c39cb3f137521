"""A weighted mixture of data sets."""

import functools
import hashlib
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import grain
import jax
import numpy as np

from world_models.core.errors import ConfigError, UserError
from world_models.core.specs import Spec
from world_models.data.dataset import Dataset


class Mixture(Dataset):
    """Rows of several data sets in given proportions.

    In training, rows of the parts follow each other in a fixed interleaving (`grain.MapDataset.mix`): in any stretch of
    the stream, of any batch size, a part has its share to within a row. Shares are the weights to within 1 %. Each part
    is shuffled for itself and begins a new epoch when it is used up, whatever the others do. By index, the parts stand
    one after another.

    Attributes:
      weights: of the parts, summing to 1.
    """

    def __init__(self, parts: Sequence[Dataset], weights: Sequence[float]):
        """Mixes data sets whose specs can be merged.

        Raises:
          UserError: if they cannot, or a weight is not above 0.
        """
        if not parts or len(parts) != len(weights) or not all(0 < weight < np.inf for weight in weights):
            raise ConfigError(
                "config.data.mixture",
                f"config.data.mixture: {len(parts)} data sets need a weight above 0 each, not {weights}.",
            )
        self._parts = tuple(parts)
        self.weights = tuple(float(weight / sum(weights)) for weight in weights)
        self._ends = np.cumsum([len(part) for part in parts])
        try:
            self._spec = functools.reduce(lambda spec, part: spec.merged(part.spec), parts[1:], parts[0].spec)
        except UserError as error:
            raise ConfigError(
                "config.data.mixture", f"config.data.mixture of {', '.join(part.name for part in parts)}: {error}."
            ) from error

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def name(self) -> str:
        """Shares and names of the parts."""
        return " + ".join(f"{weight:.4g} {part.name}" for weight, part in zip(self.weights, self._parts))

    @property
    def fingerprint(self) -> str:
        """Hex digest of the fingerprints and weights of all parts."""
        whole = [(part.fingerprint, weight) for part, weight in zip(self._parts, self.weights)]
        return hashlib.sha256(repr(whole).encode()).hexdigest()[:16]

    @property
    def spec(self) -> Spec:
        """The specs of the parts, merged."""
        return self._spec

    @property
    def damaged(self) -> Mapping[tuple[int, Any], str]:
        """Those of all parts, by (part, record)."""
        return {(i, record): what for i, part in enumerate(self._parts) for record, what in list(part.damaged.items())}

    @property
    def parts(self) -> tuple[Dataset, ...]:
        """The data sets."""
        return self._parts

    def load(self, indices: np.ndarray) -> Any:
        """The examples `indices` [batch], counted through all parts, as a pytree of NumPy arrays [batch, ...]."""
        indices = np.asarray(indices)
        owner = np.searchsorted(self._ends, indices, side="right")
        owners = np.unique(owner)
        begin = lambda i: self._ends[i - 1] if i else 0
        found = [self._parts[i].load(indices[owner == i] - begin(i)) for i in owners]
        if len(found) == 1:
            return found[0]
        back = np.argsort(np.concatenate([np.flatnonzero(owner == i) for i in owners]))
        return jax.tree.map(lambda *rows: np.concatenate(rows)[back], *found)

    def indices(self, seed: int) -> grain.MapDataset:
        """The endless order of the examples in training: see the class."""
        streams = []
        for i, (part, end) in enumerate(zip(self._parts, self._ends)):
            own, first = np.random.SeedSequence((seed, i)).generate_state(1)[0], int(end) - len(part)
            streams.append(part.indices(int(own)).map(functools.partial(operator.add, first)))
        return grain.MapDataset.mix(streams, self.weights)
