"""What the data stream needs of a data set, whatever an example holds."""

from collections.abc import Hashable, Mapping
from typing import Any, Protocol

import grain
import numpy as np

from world_models.core.specs import Spec


class Dataset(Protocol):
    """Examples by index. Classes that implement it derive from it and so take over `parts` and `indices`."""

    @property
    def name(self) -> str:
        """Where the data are, for messages."""

    @property
    def fingerprint(self) -> str:
        """Hex digest of the data, and of which records were damaged when they were opened."""

    @property
    def spec(self) -> Spec:
        """What an example holds."""

    @property
    def damaged(self) -> Mapping[Hashable, str]:
        """What is wrong, by record, with all damaged records that this process met.

        Threads that load batches add to it: iterate over a copy, `list(damaged.items())`.
        """

    def __len__(self) -> int:
        """Number of examples."""

    def load(self, indices: np.ndarray) -> Any:
        """The examples `indices` [batch] as a pytree of NumPy arrays [batch, ...], as `spec` describes them."""

    @property
    def parts(self) -> tuple["Dataset", ...]:
        """The data sets that it mixes; itself where it is no mixture."""
        return (self,)

    def indices(self, seed: int) -> grain.MapDataset:
        """The endless order of the examples in training: every epoch a new permutation."""
        return grain.MapDataset.range(len(self)).seed(seed).shuffle().repeat(None)
