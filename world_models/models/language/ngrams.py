"""Counts of words and their neighbours: what needs no network to guess a masked token."""

from collections.abc import Sequence

import numpy as np
import scipy.sparse

_AT_ONCE = 256  # places whose distributions are in memory together


class NGrams:
    """Probabilities of a token, alone or given its left and right neighbours.

    Unigrams are counts plus one. Given a neighbour, counts are interpolated with unigrams by the number of different
    tokens seen beside it (Witten & Bell 1991); both neighbours' distributions are multiplied, divided by unigrams and
    normalized, and interpolated in the same way with the counts of tokens seen between the two.
    """

    def __init__(self, documents: Sequence[np.ndarray], vocabulary_size: int):
        """Counts the tokens of documents, int [tokens] each."""
        size = self._size = vocabulary_size
        documents = [own.astype(np.int64) for own in documents]
        counts = np.bincount(np.concatenate(documents), minlength=size) + 1.0
        self._unigrams = counts / counts.sum()
        inner = [own for own in documents if len(own) > 1]
        left, right = (np.concatenate([own[part] for own in inner]) for part in (np.s_[:-1], np.s_[1:]))
        self._after, self._before = _counts(left, right, size, size), _counts(right, left, size, size)
        longer = [own for own in documents if len(own) > 2]
        contexts = np.concatenate([own[:-2] * size + own[2:] for own in longer]) if longer else np.zeros(0, np.int64)
        between = np.concatenate([own[1:-1] for own in longer]) if longer else np.zeros(0, np.int64)
        self._contexts, rows = np.unique(contexts, return_inverse=True)
        self._between = _counts(rows, between, max(len(self._contexts), 1), size)

    def unigrams(self, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(log-probability, whether it is the most probable) of each token, [n]."""
        return np.log(self._unigrams[targets]), targets == np.argmax(self._unigrams)

    def between(self, left: np.ndarray, right: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same given the neighbours, int [n] each."""
        parts = [
            self._between_few(*(x[i : i + _AT_ONCE].astype(np.int64) for x in (left, right, targets)))
            for i in range(0, len(targets), _AT_ONCE)
        ]
        return tuple(np.concatenate(x) for x in zip(*parts))

    def _between_few(self, left: np.ndarray, right: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mixed = _smoothed(self._after[left], self._unigrams) * _smoothed(self._before[right], self._unigrams)
        mixed /= self._unigrams
        mixed /= mixed.sum(axis=1, keepdims=True)
        contexts = left * self._size + right
        place = np.minimum(np.searchsorted(self._contexts, contexts), max(len(self._contexts) - 1, 0))
        known = self._contexts[place] == contexts if len(self._contexts) else np.zeros(len(contexts), bool)
        counts = scipy.sparse.diags_array(known.astype(float)) @ self._between[place]
        found = _smoothed(counts.tocsr(), mixed)
        rows = np.arange(len(targets))
        return np.log(found[rows, targets]), targets == found.argmax(axis=1)


def _counts(rows: np.ndarray, columns: np.ndarray, height: int, width: int) -> scipy.sparse.csr_array:
    """How often each pair occurs, [height, width]."""
    return scipy.sparse.coo_array((np.ones(len(rows)), (rows, columns)), (height, width)).tocsr()


def _smoothed(counts: scipy.sparse.csr_array, otherwise: np.ndarray) -> np.ndarray:
    """Counts [n, size] as probabilities, interpolated with other ones, [size] or [n, size]."""
    kinds, totals = (np.asarray(own.sum(axis=1)).reshape(-1, 1) for own in (counts > 0, counts))
    kinds = np.where(totals > 0, kinds, 1)
    return (counts.toarray() + kinds * otherwise) / (totals + kinds)
