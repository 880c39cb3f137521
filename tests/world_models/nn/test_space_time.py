"""The space-time transformer: cached equals recomputed, causal, one program for any length of a stream."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from world_models.nn.options import TransformerOptions
from world_models.nn.space_time import Group, SpaceTimeTransformer, rotate

OPTIONS = TransformerOptions(width=16, depth=4, heads=2)
BATCH, TIME, TOKENS, WINDOW, CONDITION = 2, 9, 3, 3, 5
MODERN = dataclasses.replace(OPTIONS, heads=4, kv_heads=2, norm="rms", qk_norm=True, mlp="swiglu")
CONDITIONS = pytest.mark.parametrize("kind", ["none", "frame", "token"])


def _make(kind, options=OPTIONS, time_every=2):
    width = 0 if kind == "none" else CONDITION
    model = nnx.jit(lambda: SpaceTimeTransformer(options, time_every, WINDOW, width, rngs=nnx.Rngs(0)))()
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


@pytest.mark.parametrize("time_every", [1, 2, 4])
def test_modern_blocks_cached_equal_recomputed_from_any_number_of_observed_frames(time_every):
    """Grouped queries, RMSNorm, normalized queries and keys, SwiGLU."""
    model, x, condition = _make("frame", MODERN, time_every)
    whole = jax.jit(lambda model, x, condition: model(x, condition))(model, x, condition)
    step = jax.jit(lambda model, cache, x, condition: model.step(cache, x, condition))
    for seen in (1, 3, 5):  # fewer frames than the cache has slots, as many, and more
        cache, outputs = jax.jit(lambda m, x, c: m.observe(x, c))(model, x[:, :seen], condition[:, :seen])
        np.testing.assert_allclose(outputs, whole[:, :seen], atol=1e-5)
        for t in range(seen, TIME):
            cache, frame = step(model, cache, x[:, t], condition[:, t])
            np.testing.assert_allclose(frame, whole[:, t], atol=1e-5)


def test_attending_changes_no_cache_and_a_window_forgets():
    """With one block over time, outputs depend on the `WINDOW` newest frames alone, whatever came before."""
    options = dataclasses.replace(MODERN, depth=2)
    model, x, _ = _make("none", options)
    observe = jax.jit(lambda model, x: model.observe(x))
    cache, _ = observe(model, x[:, :-1])
    other, _ = observe(model, np.concatenate([x[:, :1] + 5, x[:, 1:-1]], axis=1))
    attend = jax.jit(lambda model, cache, x: model.attend(cache, x))
    first, again, changed = (attend(model, own, x[:, -1]) for own in (cache, cache, other))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_allclose(first, changed, atol=1e-6)
    recent, _ = observe(model, np.concatenate([x[:, :-2], x[:, -2:-1] + 5], axis=1))
    assert np.abs(np.asarray(attend(model, recent, x[:, -1]) - first)).max() > 1e-2


@pytest.mark.parametrize(("window", "sinks"), [(3, 1), (4, 1), (4, 3)])
def test_with_sinks_a_window_is_the_first_frames_and_the_newest_as_if_they_followed_each_other(window, sinks):
    """With one block over time: a frame of the stream equals the last one of a clip of the frames in its window."""
    _, x, _ = _make("none")
    options = dataclasses.replace(MODERN, depth=2)
    model = nnx.jit(lambda: SpaceTimeTransformer(options, 2, window, sinks=sinks, rngs=nnx.Rngs(0)))()
    whole = jax.jit(lambda model, x: model(x)[:, -1])
    attend = jax.jit(lambda model, cache, x: model.attend(cache, x))
    step = jax.jit(lambda model, cache, x: model.step(cache, x))
    for seen in (1, window):
        cache, _ = jax.jit(lambda m, x: m.observe(x))(model, x[:, :seen])
        for t in range(seen, TIME):
            frames = range(t + 1) if t < window else [*range(sinks), *range(t - window + sinks + 1, t + 1)]
            expected, looked = whole(model, x[:, frames]), attend(model, cache, x[:, t])
            cache, kept = step(model, cache, x[:, t])
            np.testing.assert_allclose(looked, expected, atol=1e-5)
            np.testing.assert_allclose(kept, expected, atol=1e-5)
    assert step._cache_size() == 1
    with pytest.raises(ValueError, match=f"observe got {window + 1} frames; with sinks it takes at most {window}"):
        model.observe(x[:, : window + 1])


def test_a_frame_of_a_stream_copies_no_cache():
    """Looked at and then kept, as a sampler does: what that needs beside the cache is smaller than a group's part."""
    options = TransformerOptions(width=64, depth=2, heads=2)
    model = nnx.jit(lambda: SpaceTimeTransformer(options, 1, 512, rngs=nnx.Rngs(0)))()
    cache, x = model.cache(4, 8), jnp.zeros((4, 8, 64))
    frame = jax.jit(lambda model, cache, x: model.step(cache, model.attend(cache, x)), donate_argnums=1)
    needed = frame.lower(model, cache, x).compile().memory_analysis()
    part = sum(array.nbytes for array in cache.groups[0])
    assert needed.temp_size_in_bytes < part / 4
    assert needed.alias_size_in_bytes >= len(cache.groups) * part


def test_a_stream_of_a_billion_frames_is_as_exact_as_a_short_one():
    """Rotary positions are integers modulo a turn: only distances matter, at any count."""
    model, x, _ = _make("none", MODERN)
    step = jax.jit(lambda model, cache, x: model.step(cache, x))
    streams = [model.cache(BATCH, TOKENS)._replace(count=jnp.int32(count)) for count in (6, 6 + 2**30)]
    for t in range(TIME):  # both caches are full, of zeros at first
        streams, outputs = zip(*(step(model, cache, x[:, t]) for cache in streams))
        np.testing.assert_allclose(*outputs, atol=2e-5)


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


def test_rotary_positions_rotate_pairs_of_channels_and_products_depend_on_distances_alone():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 1, 6, 2, 8)).astype(np.float32)
    points = x[..., :4].astype(complex) + 1j * x[..., 4:]
    turned = points * np.exp(1j * np.arange(6)[:, None, None] * 10_000.0 ** -(np.arange(4) / 4))
    np.testing.assert_allclose(
        rotate(x, np.arange(6)), np.concatenate([turned.real, turned.imag], axis=-1), rtol=1e-5, atol=1e-5
    )
    product = lambda shift: np.einsum("bthc,bshc->bhts", *(rotate(z, np.arange(6) + shift) for z in (x, y)))
    np.testing.assert_allclose(product(0), product(40), atol=1e-4)


def test_a_block_over_time_equals_numpy_in_float64():
    """A head, a token and a frame at a time; the block within frames is the shared transformer's."""
    group = nnx.jit(lambda: Group(dataclasses.replace(OPTIONS, depth=2), 2, rngs=nnx.Rngs(0)))()
    x = np.random.default_rng(0).standard_normal((2, 5, 3, 16)).astype(np.float32)
    found, _ = nnx.jit(lambda group, x: group(x, 3))(group, x)
    within = np.stack([np.asarray(group.space(x[:, t])) for t in range(5)], axis=1).astype(np.float64)
    block = jax.tree.map(lambda a: np.asarray(a, np.float64), nnx.to_pure_dict(nnx.state(group.time, nnx.Param)))
    normal = lambda y: (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-6)
    qkv = np.einsum("btnw,wkhd->kbtnhd", normal(within), block["attention"]["qkv"]["kernel"])
    turn = np.exp(1j * np.arange(5)[:, None] * 10_000.0 ** -(np.arange(4) / 4))  # [time, half]
    as_points = lambda y: (y[..., :4] + 1j * y[..., 4:]) * turn[:, None, None]
    q, k = as_points(qkv[0]), as_points(qkv[1])
    mixed = np.zeros_like(qkv[2])
    for t in range(5):
        past = slice(max(0, t - 2), t + 1)
        scores = np.einsum("bnhd,bsnhd->bnhs", q[:, t], k[:, past].conj()).real / np.sqrt(8)
        weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        mixed[:, t] = np.einsum("bnhs,bsnhd->bnhd", weights, qkv[2][:, past])
    expected = within + np.einsum("btnhd,hdw->btnw", mixed, block["attention"]["out"]["kernel"])
    hidden = np.asarray(jax.nn.gelu(normal(expected) @ block["mlp"]["up"]["kernel"], approximate=False))
    np.testing.assert_allclose(found, expected + hidden @ block["mlp"]["down"]["kernel"], atol=1e-4)


def test_frames_given_another_past_equal_frames_attended_one_by_one():
    """What teacher forcing trains, all frames of a clip at once, is what a rollout does with each."""
    model, x, condition = _make("frame", MODERN)
    other = x[::-1] * 0.5
    entries, outputs = jax.jit(lambda model, x, c: model.remember(x, c))(model, x, condition)
    np.testing.assert_allclose(outputs, jax.jit(lambda model, x, c: model(x, c))(model, x, condition), atol=1e-6)
    together = jax.jit(lambda model, x, c, past: model(x, c, past))(model, other, condition, entries)
    attend = jax.jit(lambda model, cache, x, c: model.attend(cache, x, c))
    step = jax.jit(lambda model, cache, x, c: model.step(cache, x, c)[0])
    cache = model.cache(BATCH, TOKENS)
    for t in range(TIME):
        np.testing.assert_allclose(attend(model, cache, other[:, t], condition[:, t]), together[:, t], atol=1e-5)
        cache = step(model, cache, x[:, t], condition[:, t])
