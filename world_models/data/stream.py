"""The deterministic, seekable stream of batches of any data set (Grain), on the host and on the devices."""

from collections.abc import Iterator
from typing import Any

import grain
import jax

from world_models.core.errors import config_error
from world_models.data.dataset import Dataset


def batches(
    dataset: Dataset,
    batch_size: int,
    *,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
    num_threads: int = 2,
    prefetch: int = 8,
) -> grain.IterDataset:
    """An endless stream of shuffled batches, a pure function of `seed` and the step.

    The order of examples (`Dataset.indices`) is cut into global batches, of which this process loads its rows: the
    global batch of a step does not depend on the number of processes. The iterator's `get_state` and `set_state` hold
    the position.

    Args:
      dataset: what to draw from.
      batch_size: rows of the global batch.
      seed: of the order.
      process_index, process_count: which rows to load.
      num_threads: threads that load batches ahead.
      prefetch: batches held ready.

    Returns:
      A Grain data set of batches with batch_size / process_count rows, as `dataset.load` gives them.

    Raises:
      ConfigError: if the processes cannot share a batch evenly.
    """
    if batch_size % process_count:
        raise config_error("config.train.batch_size", batch_size, f"be a multiple of {process_count} processes")
    rows = batch_size // process_count
    mine = slice(process_index * rows, (process_index + 1) * rows)
    # Nothing is dropped of an endless order, but its length in batches of 1 would not fit into an integer without that.
    batched = dataset.indices(seed).batch(batch_size, drop_remainder=True)
    loaded = batched.map(lambda indices: dataset.load(indices[mine]))
    return loaded.to_iter_dataset(grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=prefetch))


def to_device(
    iterator: grain.DatasetIterator, sharding: jax.sharding.Sharding, ahead: int = 2
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Moves batches to the devices `ahead` of their use.

    Yields:
      (batch, position): global arrays with `sharding`, and the iterator's state from which the next batch follows.
    """
    queue: list[tuple[Any, dict[str, Any]]] = []
    for local in iterator:
        batch = jax.tree.map(lambda rows: jax.make_array_from_process_local_data(sharding, rows), local)
        queue.append((batch, iterator.get_state()))
        if len(queue) > ahead:
            yield queue.pop(0)
    yield from queue
