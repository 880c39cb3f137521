"""The video transformer: causality, cache, context noise, heads, and its interface as a world model."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from world_models.core.imagination import imagine
from world_models.core.types import ActionSpec, Clip
from world_models.diffusion.ddpm import DDPM
from world_models.diffusion.edm import EDM
from world_models.diffusion.flow import Flow, Shortcut
from world_models.models.tokenizer.options import TokenizerOptions
from world_models.models.video_transformer.model import VideoTransformer
from world_models.models.video_transformer.options import VideoTransformerOptions
from world_models.nn.options import HeadOptions, TransformerOptions

DISCRETE = ActionSpec("discrete", 3)
CONTINUOUS = ActionSpec("continuous", 2, (-1.0, 0.0), (1.0, 10.0))
NETWORK = TransformerOptions(16, 4, 4, 8 / 3, kv_heads=2, norm="rms", qk_norm=True, mlp="swiglu")
OPTIONS = VideoTransformerOptions(NETWORK, time_every=2, window=4, registers=2, condition=16, patch=4)
TOKENIZER = TokenizerOptions(
    TransformerOptions(16, 2, 2), TransformerOptions(16, 2, 2), patch=4, latents=3, latent_channels=4, window=3,
    time_every=2,
)  # fmt: skip
BATCH, TIME = 2, 9


@functools.cache
def _model(process=None, spec=DISCRETE, **changes):
    options = dataclasses.replace(OPTIONS, **changes)
    model = nnx.jit(lambda: VideoTransformer(options, process or Flow(), (8, 8, 3), spec, rngs=nnx.Rngs(0)))()
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)  # zero-initialised layers would hide dependencies
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    leaves = [x + 0.1 * jax.random.normal(key, x.shape) for x, key in zip(leaves, keys)]
    return nnx.merge(graphdef, jax.tree.unflatten(tree, leaves), rest)


_observe = jax.jit(lambda model, *inputs: model.observe(*inputs))


def _clip(spec=DISCRETE, time=TIME, batch=BATCH):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (batch, time, 8, 8, 3), dtype=np.uint8)
    if spec.kind == "discrete":
        actions = rng.integers(0, spec.size, (batch, time)).astype(np.int32)
    else:
        actions = rng.uniform(spec.low, spec.high, (batch, time, spec.size)).astype(np.float32)
    never = np.zeros((batch, time), bool)
    return Clip(frames, actions, rng.standard_normal((batch, time)).astype(np.float32), never, never, never)


@pytest.mark.parametrize(
    ("process", "level", "spec", "tokenizer"),
    [
        (Flow(), 0.9, DISCRETE, None),
        (Shortcut(max_steps=8), 0.9, CONTINUOUS, TOKENIZER),
        (EDM(), 0.1, DISCRETE, None),
        (DDPM(prediction="velocity", schedule="sigmoid"), 14, DISCRETE, None),
    ],
    ids=["flow", "shortcut", "edm", "velocity"],
)
def test_every_process_trains_and_imagines(process, level, spec, tokenizer):
    model = _model(process, spec, tokenizer=tokenizer, context_level=level)
    clip, keys = _clip(spec), jax.random.split(jax.random.key(0), BATCH)
    loss, _ = jax.jit(lambda model, clip, keys: model.loss(clip, keys))(model, clip, keys)
    assert np.isfinite(loss)
    frames = jax.jit(imagine)(model, clip.frames[:, :3], clip.actions[:, :2], clip.actions[:, 2:6], jax.random.key(1))
    assert (frames.shape, frames.dtype) == ((2, 4, 8, 8, 3), np.uint8)


@pytest.mark.parametrize(("forcing", "levels"), [("diffusion", TIME), ("teacher", TIME), ("sequence", 1)])
def test_the_past_in_training_is_that_of_a_rollout_under_teacher_forcing_alone(forcing, levels):
    model, clip = _model(Flow(num_steps=1), forcing=forcing, context_level=1.0), _clip()
    found = {}

    class Noise(Flow):
        def errors(self, network, clean, keys):
            noise = jax.random.normal(jax.random.key(7), clean.shape)
            found.update(levels=keys.size, clean=network(noise, jnp.zeros(keys.shape)) * self.data_std)
            return jnp.zeros(keys.shape)

    model.process, kept = Noise(num_steps=1), model.process
    model.loss(clip, jax.random.split(jax.random.key(0), BATCH))
    model.process = kept
    latents = model.codec.encode(clip.frames)
    level = np.ones((BATCH, TIME), np.float32)
    level[:, -1] = 0
    noise = jax.random.normal(jax.random.key(7), latents.shape)
    shown = latents.at[:, -1].set(noise[:, -1])
    expected = model.denoise(shown, level, clip.actions[:, :-1])[:, -1]
    assert found["levels"] == BATCH * levels
    assert np.allclose(expected, found["clean"][:, -1], atol=1e-4) == (forcing == "teacher")


def test_the_past_under_self_forcing_is_what_the_model_imagines_after_the_first_frames():
    clip, keys = _clip(), jax.random.split(jax.random.key(0), BATCH)
    loss = jax.jit(lambda model: model.loss(clip, keys)[0])
    teacher, whole, own = (
        loss(_model(Flow(num_steps=2), **changes))
        for changes in ({"forcing": "teacher"}, {"forcing": "self", "own_after": TIME}, {"forcing": "self"})
    )
    np.testing.assert_allclose(teacher, whole, rtol=1e-6)  # no frame is imagined
    assert abs(float(own - teacher)) > 1e-4

    model = _model(Flow(num_steps=2), forcing="self", context_level=1.0)
    latents = model.codec.encode(clip.frames)
    actions = model._embed_actions(jnp.asarray(clip.actions)[:, :-1])
    future = jax.jit(lambda model, x, key: model._own_future(x, actions, jnp.zeros_like(x), key))
    imagined = future(model, latents, keys[0])
    np.testing.assert_array_equal(imagined[:, :4], latents[:, :4])
    state = jax.jit(lambda model, *x: model.observe(*x))(model, clip.frames[:, :4], clip.actions[:, :3], keys[1])
    sample = jax.jit(lambda model, *x: model._sample(*x))
    first = sample(model, state.cache, actions[:, 4], jax.random.split(keys[0], TIME - 4)[0])
    np.testing.assert_allclose(imagined[:, 4], first, atol=1e-5)
    gradient = jax.grad(lambda x: future(model, x, keys[0])[:, 4:].sum())(latents)
    assert not np.any(gradient)


WAYS = ("modulation", "add", "film", "token", "cross")


@pytest.mark.parametrize(
    ("changed", "actions"),
    [*((name, "modulation") for name in ("frame", "level", "size")), *(("action", way) for way in WAYS)],
)
def test_nothing_earlier_depends_on_a_later_frame_noise_level_action_or_step_size(changed, actions):
    model, clip = _model(Shortcut(max_steps=8), actions=actions), _clip()
    rng = np.random.default_rng(1)
    inputs = {
        "frame": rng.standard_normal((BATCH, TIME, 4, 48)).astype(np.float32),
        "level": rng.uniform(0, 0.9, (BATCH, TIME)).astype(np.float32),
        "action": clip.actions[:, :-1],
        "size": rng.integers(0, 3, (BATCH, TIME)).astype(np.int32),
    }
    denoise = jax.jit(lambda model, x: model.denoise(*(x[name] for name in ("frame", "level", "action", "size"))))
    other = {name: x.copy() for name, x in inputs.items()}
    at = 5
    if changed == "action":  # actions[t] leads to frame t + 1
        other[changed][:, at - 1 :] = (other[changed][:, at - 1 :] + 1) % 3
    else:
        other[changed][:, at:] += 1 if changed in ("frame", "size") else 0.05
    before, after = denoise(model, inputs), denoise(model, other)
    np.testing.assert_array_equal(before[:, :at], after[:, :at])
    for t in range(at, TIME):
        assert np.abs(np.asarray(before - after)[:, t]).max() > 1e-4


@pytest.mark.parametrize("way", WAYS)
def test_actions_come_in_as_the_option_says(way):
    """What another action changes in the transformer's inputs: conditions, a token, or all tokens alike or not."""
    model = _model(Flow(), actions=way)
    latents = np.random.default_rng(0).standard_normal((1, 4, 48)).astype(np.float32)
    told = lambda action: model._inputs(latents, jnp.zeros(1), None, model.action_embedding(jnp.array([action])))
    (tokens, condition), (others, other) = told(0), told(1)
    change = np.asarray(others - tokens)[0]
    assert tokens.shape[1] == 2 + 4 + (way == "token")  # registers, patches
    assert np.any(condition != other) == (way == "modulation")
    touched = {"modulation": [], "token": [2]}.get(way, [2, 3, 4, 5])
    assert np.flatnonzero(np.abs(change).max(axis=-1) > 1e-4).tolist() == touched
    if len(touched) == 4:
        alike = np.abs(change[2:] - change[2]).max() < 1e-5
        assert alike == (way == "add")


@pytest.mark.parametrize(("seen", "actions"), zip((2, 6, 3, 1, 4), WAYS))
def test_a_cached_rollout_equals_a_recomputed_one_beyond_the_window(seen, actions):
    """With a clean context and one step a frame, each frame is the estimate of pure noise after all frames so far."""
    model = _model(Flow(num_steps=1), context_level=1.0, actions=actions)
    clip, step = _clip(), jax.jit(lambda model, state, action, key: model.step(state, action, key)[0])
    denoise = jax.jit(lambda model, *x: model.codec.clip(model.denoise(*x)))
    state = _observe(model, clip.frames[:, :seen], clip.actions[:, : seen - 1], jax.random.key(0))
    latents = list(jnp.moveaxis(model.codec.encode(clip.frames[:, :seen]), 1, 0))
    for t in range(seen, TIME):
        key = jax.random.key(t)
        state = step(model, state, clip.actions[:, t - 1], key)
        noise = jax.random.normal(jax.random.split(key)[0], latents[0].shape)
        level = np.ones((BATCH, t + 1), np.float32)
        level[:, t] = 0
        expected = denoise(model, jnp.stack([*latents, noise], axis=1), level, clip.actions[:, :t])[:, t]
        latents.append(state.latents)
        exact = np.abs(np.asarray(expected - state.latents)) < 1e-5
        assert exact.mean() > 0.995  # a value between two levels of uint8 may round either way
        np.testing.assert_array_equal(model.decode(state), model.codec.decode_step(None, state.latents)[1])
    assert step._cache_size() == 1


def test_latents_are_decoded_as_the_tokenizer_decodes_the_whole_stream():
    model = _model(Flow(num_steps=2), tokenizer=TOKENIZER)
    clip, step = _clip(), jax.jit(lambda model, state, action, key: model.step(state, action, key)[0])
    state = _observe(model, clip.frames[:, :3], clip.actions[:, :2], jax.random.key(0))
    np.testing.assert_array_equal(model.decode(state), clip.frames[:, 2])
    latents, frames = list(jnp.moveaxis(model.codec.encode(clip.frames[:, :3]), 1, 0)), []
    for t in range(3, TIME):
        state = step(model, state, clip.actions[:, t - 1], jax.random.key(t))
        latents.append(state.latents)
        frames.append(model.decode(state))
    whole = jax.jit(lambda model, latents: model.tokenizer.decode(latents))(model, jnp.stack(latents, axis=1))[:, 3:]
    assert np.abs(np.asarray(whole, int) - np.stack(frames, axis=1)).max() <= 1


def test_a_tokenizer_is_constant():
    model, clip = _model(tokenizer=TOKENIZER), _clip()
    assert not nnx.state(model.tokenizer, nnx.Param)
    grads = nnx.jit(nnx.grad(lambda model: model.loss(clip, jax.random.split(jax.random.key(0), BATCH))[0]))(model)
    assert "tokenizer" not in grads


def test_the_network_knows_the_noise_on_its_context():
    """The same noisy tokens under another level are read as other frames; less noise moves frames less."""
    clip, tokens, conditions = _clip(), {}, {}
    for level in (0.5, 0.9, 1.0):
        model = _model(context_level=level)
        latents, actions = model.codec.encode(clip.frames), model._embed_actions(jnp.asarray(clip.actions)[:, :-1])
        noise = jax.random.normal(jax.random.key(0), latents.shape)
        tokens[level], conditions[level] = map(np.asarray, model._as_context(latents, noise, actions))
    clean, _ = model._inputs(latents, jnp.ones(latents.shape[:2]), None, actions)
    np.testing.assert_allclose(tokens[1.0], clean, atol=1e-6)
    distance = lambda level: np.abs(tokens[level] - clean).mean()
    assert 0 < distance(0.9) < distance(0.5)
    assert np.abs(conditions[0.5] - conditions[0.9]).max() > 1e-2


def test_futures_under_other_noise_and_actions_differ():
    model, clip = _model(), _clip()
    run = jax.jit(lambda model, actions, key: imagine(model, clip.frames[:, :2], clip.actions[:, :1], actions, key))
    first = run(model, clip.actions[:, 1:5], jax.random.key(0))
    np.testing.assert_array_equal(first, run(model, clip.actions[:, 1:5], jax.random.key(0)))
    assert np.any(first != run(model, clip.actions[:, 1:5], jax.random.key(1)))
    assert np.any(first != run(model, (clip.actions[:, 1:5] + 1) % 3, jax.random.key(0)))


def test_too_few_frames_are_named():
    model, clip = _model(), _clip()
    with pytest.raises(ValueError, match="observe got 3 frames and 3 actions"):
        model.observe(clip.frames[:, :3], clip.actions[:, :3], jax.random.key(0))


def test_heads_learn_rewards_and_ends_of_the_action_that_led_to_a_frame():
    model = _model(heads=HeadOptions(reward=1.0, terminal=1.0, hidden=16))
    merge, params, rest = nnx.split(model, nnx.Param, ...)
    adam = optax.adam(3e-3)

    def batch(seed):
        clip = _clip(time=4, batch=16)
        actions = np.random.default_rng(seed).integers(0, 3, (16, 4)).astype(np.int32)
        ends = np.concatenate([np.zeros((16, 1), bool), actions[:, :-1] == 2], axis=1)
        return clip._replace(actions=actions, rewards=(actions == 1).astype(np.float32), is_terminal=ends)

    @jax.jit
    def update(params, moments, clip, key):
        loss = lambda params: nnx.merge(merge, params, rest).loss(clip, jax.random.split(key, 16))
        (_, parts), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, moments = adam.update(grads, moments, params)
        return optax.apply_updates(params, updates), moments, parts

    moments = adam.init(params)
    for i in range(120):
        params, moments, _ = update(params, moments, batch(i), jax.random.key(i))
    model, clip = nnx.merge(merge, params, rest), batch(1000)
    state = _observe(model, clip.frames[:, :2], clip.actions[:, :1], jax.random.key(0))
    _, prediction = jax.jit(lambda model, *x: model.step(*x))(model, state, clip.actions[:, 1], jax.random.key(1))
    assert np.corrcoef(prediction.rewards, clip.actions[:, 1] == 1)[0, 1] > 0.9
    assert np.all((np.asarray(prediction.terminals) > 0.5) == (clip.actions[:, 1] == 2))
