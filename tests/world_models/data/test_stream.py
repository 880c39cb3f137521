"""The stream of batches: the same for data of every kind, anywhere and on any number of processes."""

import jax
import numpy as np
import pytest

from world_models.core import specs
from world_models.core.errors import ConfigError
from world_models.data import stream
from world_models.data.clips import Windows
from world_models.data.dataset import Dataset
from world_models.data.image_text import ImageTexts
from world_models.data.mixture import Mixture
from world_models.data.stored_episodes import Episodes
from world_models.data.text import Documents, TextChunks
from world_models.data.tokenizers import CharacterTokenizer, TextEncoder

ENCODER = TextEncoder(CharacterTokenizer.train(["random policy"]), 6)


def clips(data):
    """Clips with a text and a further observation."""
    episodes = Episodes(str(data), "train", observation_keys=("discount",))
    return Windows(episodes, 5, text_key="policy", encoder=ENCODER)


def text(data):
    """Two documents."""
    texts = ["the first document is longer", "the second"]
    return TextChunks(Documents("here", "0", texts), CharacterTokenizer.train(texts), 4)


def image_text(data):
    """Frames with the name of the policy."""
    return ImageTexts(Episodes(str(data), "train"), "policy", ENCODER)


def mixture(data):
    """Clips of two splits."""
    return Mixture([Windows(Episodes(str(data), split), 5) for split in ("train", "test")], [0.7, 0.3])


@pytest.fixture(params=[clips, text, image_text, mixture], ids=lambda make: make.__name__)
def dataset(request, square_data):
    return request.param(square_data)


class Numbers(Dataset):
    """Examples that are their own indices."""

    name, fingerprint, spec, damaged = "numbers", "0", None, {}

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def load(self, indices):
        return indices


def take(iterator, count):
    return [next(iterator) for _ in range(count)]


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_examples_are_as_the_spec_says(dataset):
    batch, expected = dataset.load(np.array([3, 0])), specs.batch_of(dataset.spec, 2)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), batch) == jax.tree.map(lambda x: (x.shape, x.dtype), expected)
    assert specs.from_dict(dataset.spec.to_dict()) == dataset.spec


def test_stream_is_a_function_of_the_seed_and_can_be_resumed_anywhere(dataset):
    first = iter(stream.batches(dataset, 8, seed=3))
    again = iter(stream.batches(dataset, 8, seed=3, num_threads=1, prefetch=1))
    head = take(first, 5)
    position = first.get_state()
    tail = take(first, 20)  # several epochs
    assert_same(head, take(again, 5))
    again.set_state(position)
    assert_same(tail, take(again, 20))
    other = take(iter(stream.batches(dataset, 8, seed=4)), 5)
    assert any((a != b).any() for a, b in zip(jax.tree.leaves(head), jax.tree.leaves(other)))


def test_processes_share_the_same_global_batch(dataset):
    whole = take(iter(stream.batches(dataset, 8, seed=1)), 4)
    parts = [take(iter(stream.batches(dataset, 8, seed=1, process_index=i, process_count=4)), 4) for i in range(4)]
    for step, batch in enumerate(whole):
        assert_same(batch, jax.tree.map(lambda *rows: np.concatenate(rows), *[part[step] for part in parts]))
    with pytest.raises(ConfigError) as error:
        stream.batches(dataset, 8, seed=1, process_count=3)
    assert error.value.field == "config.train.batch_size"


def test_prefetched_batches_carry_the_position_that_follows_them(dataset):
    plain = take(iter(stream.batches(dataset, 4, seed=0)), 8)
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    feed = stream.to_device(iter(stream.batches(dataset, 4, seed=0)), sharding, ahead=3)
    for step in range(4):
        batch, position = next(feed)
        assert_same(batch, plain[step])
    resumed = iter(stream.batches(dataset, 4, seed=0))
    resumed.set_state(position)
    assert_same(next(resumed), plain[4])


def test_the_order_of_earlier_revisions_stays():
    """Trainings are only comparable with earlier ones if they see the same batches."""
    found = take(iter(stream.batches(Numbers(37), 5, seed=3)), 21)
    expected = {
        0: [29, 30, 31, 7, 26],
        1: [3, 18, 19, 24, 0],
        7: [13, 8, 36, 24, 15],
        8: [7, 26, 10, 28, 4],
        20: [4, 14, 21, 20, 7],
    }
    assert {step: found[step].tolist() for step in expected} == expected


def test_every_epoch_holds_every_example_once_in_a_new_order():
    epochs = np.concatenate(take(iter(stream.batches(Numbers(35), 7, seed=0)), 10)).reshape(2, -1)
    np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(35), (2, 1)))
    assert (epochs[0] != epochs[1]).any()
