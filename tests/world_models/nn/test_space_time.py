"""The space-time transformer: cached equals recomputed, causal, one program for any length of a stream."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from world_models.nn.options import TransformerOptions
from world_models.nn.space_time import SpaceTimeTransformer

OPTIONS = TransformerOptions(width=16, depth=4, heads=2)
BATCH, TIME, TOKENS, WINDOW, CONDITION = 2, 9, 3, 3, 5
CONDITIONS = pytest.mark.parametrize("kind", ["none", "frame", "token"])


def _make(kind):
    width = 0 if kind == "none" else CONDITION
    model = nnx.jit(lambda: SpaceTimeTransformer(OPTIONS, 2, WINDOW, width, rngs=nnx.Rngs(0)))()
    graphdef, params = nnx.split(model)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))  # zero-initialised layers would hide what depends on what
    model = nnx.merge(graphdef, tree.unflatten([x + 0.1 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys)]))
    rng = np.random.default_rng(0)
    normal = lambda *shape: rng.standard_normal(shape).astype(np.float32)
    shapes = {"frame": (BATCH, TIME, CONDITION), "token": (BATCH, TIME, TOKENS, CONDITION)}
    return model, normal(BATCH, TIME, TOKENS, 16), None if kind == "none" else normal(*shapes[kind])


@CONDITIONS
def test_cached_equals_recomputed_in_one_compilation(kind):
    model, x, condition = _make(kind)
    whole = jax.jit(lambda model, x, condition: model(x, condition))(model, x, condition)
    step = jax.jit(lambda model, cache, x, condition: model.step(cache, x, condition))
    cache, frames = model.cache(BATCH, TOKENS), []
    for t in range(TIME):  # the window wraps at the fourth frame
        cache, frame = step(model, cache, x[:, t], None if condition is None else condition[:, t])
        frames.append(frame)
    np.testing.assert_allclose(jnp.stack(frames, axis=1), whole, atol=1e-5)
    assert step._cache_size() == 1


@CONDITIONS
def test_no_frame_depends_on_a_later_one(kind):
    model, x, condition = _make(kind)
    run = jax.jit(lambda model, x, condition: model(x, condition))
    other = x.copy()
    other[:, 5:] += 1
    changed = None if condition is None else np.concatenate([condition[:, :5], condition[:, 5:] + 1], axis=1)
    before, after = run(model, x, condition), run(model, other, changed)
    np.testing.assert_array_equal(before[:, :5], after[:, :5])
    assert np.abs(np.asarray(before - after)[:, 5:]).max() > 1e-2


def test_the_condition_of_a_frame_reaches_it_and_equals_that_of_all_its_tokens():
    model, x, condition = _make("frame")
    run = jax.jit(lambda model, x, condition: model(x, condition))
    found = run(model, x, condition)
    tokens = np.repeat(condition[:, :, None], TOKENS, axis=2)
    np.testing.assert_allclose(run(model, x, tokens), found, atol=1e-5)
    assert np.abs(np.asarray(run(model, x, condition + 1) - found)).max() > 1e-2


def test_a_new_conditional_transformer_is_the_identity():
    model = nnx.jit(lambda: SpaceTimeTransformer(OPTIONS, 2, WINDOW, CONDITION, rngs=nnx.Rngs(0)))()
    _, x, condition = _make("frame")
    np.testing.assert_array_equal(model(x, condition), x)
