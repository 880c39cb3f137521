"""Weighted mixtures of data sets."""

import numpy as np
import pytest
from test_stream import Numbers, take

from world_models.core.errors import UserError
from world_models.core.specs import TextSpec
from world_models.core.types import TextBatch
from world_models.data import stream
from world_models.data.mixture import Mixture


class Part(Numbers):
    """Texts of one token: a hundred times the number of the part, and the index."""

    spec = TextSpec(1, 1000)

    def __init__(self, number, size, fingerprint="0", damaged=None):
        super().__init__(size)
        self.number, self.fingerprint, self.damaged = number, fingerprint, damaged or {}
        self.name = f"part {number}"

    def load(self, indices):
        tokens = (100 * self.number + indices)[:, None].astype(np.int32)
        return TextBatch(tokens, np.ones_like(tokens, bool))


PARTS = [Part(0, 50), Part(1, 7), Part(2, 20)]


def test_examples_by_index_are_those_of_the_parts_in_turn():
    mixture = Mixture(PARTS, [1, 1, 1])
    rows = np.random.default_rng(0).permutation(len(mixture))
    whole = np.concatenate([part.load(np.arange(len(part))).tokens for part in PARTS])
    np.testing.assert_array_equal(mixture.load(rows).tokens, whole[rows])


@pytest.mark.parametrize("weights", [(0.7, 0.2, 0.1), (1, 1, 1), (3, 0.5, 10)])
@pytest.mark.parametrize("batch_size", [1, 8])
def test_rows_come_from_the_parts_in_their_shares(weights, batch_size):
    batches = iter(stream.batches(Mixture(PARTS, weights), batch_size, seed=5))
    tokens = np.concatenate([batch.tokens[:, 0] for batch in take(batches, 2400 // batch_size)])
    shares = np.bincount(tokens // 100, minlength=3) / len(tokens)
    np.testing.assert_allclose(shares, np.array(weights) / sum(weights), rtol=0.02)
    # Every part is shuffled epoch by epoch, whatever the others do.
    for part in PARTS:
        own = tokens[tokens // 100 == part.number] % 100
        epochs = own[: len(own) // len(part) * len(part)].reshape(-1, len(part))
        np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(len(part)), (len(epochs), 1)))
        assert (epochs[0] != epochs[1]).any()


def test_parts_of_one_size_have_orders_of_their_own():
    (batch,) = take(iter(stream.batches(Mixture([Part(0, 40), Part(1, 40)], [1, 1]), 80, seed=0)), 1)
    tokens = batch.tokens[:, 0]
    assert (tokens[tokens < 100] != tokens[tokens >= 100] - 100).any()


def test_fingerprint_is_of_all_parts_and_weights():
    found = [
        Mixture(parts, weights).fingerprint
        for parts, weights in [
            ([Part(0, 5, "a"), Part(1, 5, "b")], [1, 1]),
            ([Part(0, 5, "a"), Part(1, 5, "c")], [1, 1]),
            ([Part(0, 5, "b"), Part(1, 5, "a")], [1, 1]),
            ([Part(0, 5, "a"), Part(1, 5, "b")], [1, 2]),
        ]
    ]
    assert len(set(found)) == 4
    assert Mixture([Part(0, 5, "a"), Part(1, 5, "b")], [2, 2]).fingerprint == found[0]


def test_damaged_records_of_all_parts_are_told_apart():
    first, second = Part(0, 5, damaged={3: "a"}), Part(1, 5)
    mixture = Mixture([first, second], [1, 1])
    second.damaged[3] = "b"
    assert mixture.damaged == {(0, 3): "a", (1, 3): "b"}


def test_mixtures_that_cannot_work_are_named():
    other = Part(3, 5)
    other.spec = TextSpec(2, 1000)
    with pytest.raises(UserError, match=r"config.data.mixture .*part 3.*length"):
        Mixture([PARTS[0], other], [1, 1])
    for weights in ([1, 0], [1, -1], [1, np.nan], [1]):
        with pytest.raises(UserError, match=r"config.data.mixture"):
            Mixture(PARTS[:2], weights)
