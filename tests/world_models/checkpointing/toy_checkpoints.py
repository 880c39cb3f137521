"""Checkpoints of a state that tells its step, written and compared in tests."""

import jax
import jax.numpy as jnp
import numpy as np

from world_models.checkpointing.checkpoints import Checkpoints


def trees(step, size=5000):
    """A state that tells its step."""
    numbers = np.random.default_rng(step).standard_normal(size, np.float32)
    weights = {"ema": {"kernel": jnp.asarray(numbers)}, "constants": {}}
    return {"weights": weights, "optimizer": {"step": jnp.int32(step), "moments": jnp.asarray(-numbers)}}


def abstract(state):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)


def write(folder, steps, keep=9, **options):
    saver = Checkpoints(folder, keep=keep, **options)
    for step in steps:
        saver.save(step, trees(step), {"step": step})
    saver.close()


def assert_holds(saver, step, wanted=None):
    """Asserts that the newest checkpoint, or the wanted one, is that of `step`, in every bit."""
    state, position = saver.restore(abstract(trees(0)), wanted)
    assert position == {"step": step}
    assert jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(a, b), state, trees(step)))
