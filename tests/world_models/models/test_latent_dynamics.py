"""Levels of latent dynamics: whole clips and filter agree, rollouts, gradients, and learning a moving dot."""

import dataclasses
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import cpu_devices
from flax import nnx

from world_models.core.errors import UserError
from world_models.core.imagination import imagine
from world_models.core.types import ActionSpec, Clip
from world_models.models.latent_dynamics import regularizers
from world_models.models.latent_dynamics.level import Level
from world_models.models.latent_dynamics.model import MultiLevelDynamics
from world_models.models.latent_dynamics.options import (
    CNNOptions,
    DecoderOptions,
    LatentDynamicsOptions,
    LevelOptions,
    ViTOptions,
)
from world_models.nn.options import PixelOptions

SIZE = 8
SPEC = ActionSpec("continuous", 2, (-2.0, -2.0), (2.0, 2.0))
TERMS = {"std": 16.0, "cov": 8.0, "time": 1.0, "inverse": 1.0}
BOTTOM = LevelOptions("frames", 1, 8, 2, hidden=16, rollout=3, **TERMS)
UPPER = LevelOptions("mlp", 2, 6, 3, hidden=16, rollout=2, **TERMS)
TOP = LevelOptions("identity", 2, 6, 2, predictor="mlp", hidden=8, rollout=1)
PIXELS = PixelOptions((0.1,), (0.3,))
OPTIONS = LatentDynamicsOptions((BOTTOM, UPPER, TOP), CNNOptions((4,), 0), DecoderOptions((4,)), pixels=PIXELS)


def build(options=OPTIONS):
    return nnx.jit(lambda: MultiLevelDynamics(options, (SIZE, SIZE, 1), SPEC, rngs=nnx.Rngs(0)))()


def dots(batch, time, seed=0):
    """A dot that moves by its action between walls."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-2, 2, (batch, time, 2)).astype(np.float32)
    positions = [rng.uniform(0, SIZE - 1, (batch, 2))]
    for t in range(time - 1):
        positions.append(np.clip(positions[-1] + actions[:, t], 0, SIZE - 1))
    away = np.stack(np.mgrid[:SIZE, :SIZE], axis=-1) - np.stack(positions, axis=1)[:, :, None, None]
    frames = (255 * np.exp(-(away**2).sum(axis=-1, keepdims=True) / 2)).astype(np.uint8)
    nothing = np.zeros((batch, time), np.float32)
    return Clip(frames, actions, nothing, nothing, nothing, nothing)


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


@pytest.fixture(scope="module")
def model():
    return build()


climb = nnx.jit(lambda model, frames, actions: model.climb(model.encode(frames), actions))


@nnx.jit
def stream(model, frames, actions, is_first):
    """States of the streaming filter at all frames, time first."""

    def body(state, inputs):
        state = model.filter_step(state, *inputs)
        return state, state

    inputs = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), (frames, actions, is_first))
    return jax.lax.scan(body, model.start(len(frames)), inputs)[1]


def test_the_filter_equals_whole_episodes(model):
    """Two sequences of two episodes each, of odd lengths, that begin at different frames."""
    first, second = 7, 5
    clips = {length: dots(2, length, seed=length) for length in (first, second)}
    joined = lambda name: np.stack(
        [
            np.concatenate([getattr(clips[first], name)[0], getattr(clips[second], name)[0]]),
            np.concatenate([getattr(clips[second], name)[1], getattr(clips[first], name)[1]]),
        ]
    )
    led = np.concatenate([np.full((2, 1, 2), 9.0, np.float32), joined("actions")[:, :-1]], axis=1)
    is_first = np.zeros((2, first + second), bool)
    is_first[:, 0] = is_first[0, first] = is_first[1, second] = True
    states = stream(model, joined("frames"), led, is_first)
    begins = {first: (0, second), second: (first, 0)}
    for length, clip in clips.items():
        levels = climb(model, clip.frames, clip.actions[:, :-1])
        for (z, actions), period, held, acted in zip(levels, (1, 2, 4), states.latents, states.actions):
            assert z.shape[1] == -(-length // period)
            for row, begin in enumerate(begins[length]):
                for t in range(length):
                    np.testing.assert_allclose(held[begin + t, row], z[row, t // period], atol=1e-5)
                    last = actions[row, t // period - 1] if t >= period else np.zeros(actions.shape[-1])
                    np.testing.assert_allclose(acted[begin + t, row], last, atol=1e-5)


def test_a_level_without_weight_is_not_trained():
    bottom, encoder = dataclasses.replace(BOTTOM, weight=0.0), dataclasses.replace(OPTIONS.encoder, frozen=True)
    model, clip = build(dataclasses.replace(OPTIONS, levels=(bottom, UPPER), encoder=encoder)), dots(3, 8)
    _, params, rest = nnx.split(model, nnx.Param, ...)
    flat = [path for path, _ in nnx.to_flat_state(nnx.as_pure(params))]
    assert {path[:2] for path in flat} == {("decoders", 0), ("decoders", 1), ("levels", 1)}
    frozen = [path for path, _ in nnx.to_flat_state(nnx.as_pure(rest)) if path[:2] == ("levels", 0)]
    names = [path for path, _ in nnx.to_flat_state(nnx.as_pure(nnx.state(build().levels[0])))]
    assert sorted(path[2:] for path in frozen) == sorted(names)  # a checkpoint of a trained one fits

    metrics = nnx.jit(lambda model, clip: model.loss(clip, keys(3))[1])(model, clip)
    assert {name for name in metrics if name.startswith("level_1")} == {"level_1_decoder"}
    assert metrics["level_2_prediction"] > 0


def test_the_distance_embedding_is_trained_on_latents_and_predictions(model):
    level = Level(dataclasses.replace(UPPER, distance=1.0, max_distance=4.0), 8, 2, rngs=nnx.Rngs(0))
    z, actions = jax.random.normal(jax.random.key(0), (3, 5, 6)), jax.random.uniform(jax.random.key(1), (3, 4, 3))

    @nnx.jit
    def look(level):
        parts = level.loss(z, actions, jax.random.key(2))[1]
        predicted, true, _ = level.rollouts(z, actions)
        embeddings = [level.distance_head(x) for x in (z, predicted, true)]
        of_predictor = nnx.grad(lambda level: level.loss(z, actions, jax.random.key(2))[1]["distance"])(level)["cell"]
        return parts["distance"], embeddings, level.distance_embedding(z), of_predictor

    found, (own, predicted, true), embedded, of_predictor = look(level)
    error = np.mean(np.asarray(predicted - true) ** 2)
    np.testing.assert_allclose(found, regularizers.temporal_distance(own, 4.0) + error / 4, rtol=1e-5)
    np.testing.assert_array_equal(embedded, own)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(of_predictor)) > 0
    np.testing.assert_array_equal(model.distance_embedding(2, z), z)  # without that term there is none


def with_nan(model, keep):
    """The model's parameters, NaN but for those below `keep`, a prefix of paths."""
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    flat = [
        (path, x if path[: len(keep)] == keep else np.nan * x) for path, x in nnx.to_flat_state(nnx.as_pure(params))
    ]
    return nnx.merge(graphdef, nnx.from_flat_state(flat), rest)


def test_a_rollout_depends_on_its_own_level_alone(model):
    z, actions = jax.random.normal(jax.random.key(0), (3, 6)), jax.random.uniform(jax.random.key(1), (3, 4, 3))
    roll = nnx.jit(lambda model: model.rollout(2, z, actions))
    found = roll(model)
    np.testing.assert_array_equal(roll(with_nan(model, ("levels", 1))), found)
    assert np.isnan(roll(with_nan(model, ("levels", 0)))).all()
    state = z
    for t in range(4):
        state = model.step_level(2, state, actions[:, t])
        np.testing.assert_allclose(found[:, t], state, atol=1e-5)


def split_two_levels(model, **changes):
    """(function that puts the two lower levels together again, parameters, the rest)."""
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    options = dataclasses.replace(OPTIONS, levels=(BOTTOM, UPPER), **changes)

    def merge(params, rest):
        made = nnx.merge(graphdef, params, rest)
        made.options, made.levels = options, nnx.List(list(made.levels)[:2])
        return made

    return merge, nnx.as_pure(params), nnx.as_pure(rest)


REACHED = {
    (True, "level_1_prediction"): {"encoder", "1"},
    (True, "level_2_prediction"): {"2"},
    (True, "level_1_decoder"): {"shown"},
    (True, "level_2_decoder"): {"shown"},
    (False, "level_1_prediction"): {"encoder", "1"},
    (False, "level_2_prediction"): {"encoder", "1", "2"},
    (False, "level_1_decoder"): {"encoder", "1", "shown"},
    (False, "level_2_decoder"): {"encoder", "1", "2", "shown"},
}


@pytest.mark.parametrize("detach", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_gradients_stop_at_the_level_below_and_at_the_decoder(model, detach):
    clip, decoder = dots(4, 8), dataclasses.replace(OPTIONS.decoder, detach=detach)
    merge, params, rest = split_two_levels(model, detach_lower=detach, decoder=decoder)
    names = [name for own, name in REACHED if own == detach]

    @jax.jit
    @jax.grad
    def gradient(params, weights):
        metrics = merge(params, rest).loss(clip, keys(4))[1]
        return weights @ jnp.stack([metrics[name] for name in names])

    for name, weights in zip(names, np.eye(len(names), dtype=np.float32)):
        of = gradient(params, weights)
        parts = {"encoder": of["encoder"], "1": of["levels"][0], "2": of["levels"][1], "shown": of["decoders"]}
        found = {own for own, tree in parts.items() if any(x.any() for x in jax.tree.leaves(tree))}
        assert found == REACHED[detach, name], name


def test_a_moving_dot_is_learned_without_collapse(model):
    merge, params, rest = split_two_levels(model)
    optimizer = optax.chain(optax.clip_by_global_norm(2.0), optax.adam(5e-3))

    @jax.jit
    def step(params, rest, state, clip, keys):
        def loss(params):
            own = merge(params, rest)
            total, metrics = own.loss(clip, keys)
            return total, (metrics, [(level.mean[...], level.square[...], level.seen[...]) for level in own.levels])

        (_, (metrics, seen)), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        updates, state = optimizer.update(gradient, state)
        rest["levels"] |= {i: dict(zip(("mean", "square", "seen"), own)) for i, own in enumerate(seen)}
        return optax.apply_updates(params, updates), rest, state, metrics

    state, history = optimizer.init(params), []
    for i in range(180):
        params, rest, state, metrics = step(params, rest, state, dots(32, 8, seed=i), keys(32, i))
        history.append(metrics)
    last = {name: np.mean([float(m[name]) for m in history[-10:]]) for name in history[0]}
    terms = ("prediction", "std", "cov", "time", "inverse", "decoder")
    assert {f"level_{level}_{name}" for level in (1, 2) for name in terms} <= set(last)
    for level in (1, 2):
        assert last[f"level_{level}_variance"] > 0.5, last
        assert last[f"level_{level}_prediction"] < 0.8 * last[f"level_{level}_copy"], last
    assert last["level_1_decoder"] < 0.8 * float(history[0]["level_1_decoder"])
    assert last["loss"] < float(history[0]["loss"])
    trained = merge(params, rest)
    mean, std = trained.prior(1)  # of actions from U(−2, 2)
    np.testing.assert_allclose(mean, 0, atol=0.1)
    np.testing.assert_allclose(std, 2 / np.sqrt(3), atol=0.1)
    spread = np.asarray(trained.prior(2)[1])
    assert spread.min() > 0.01
    assert spread.max() <= 1


def test_it_is_a_world_model(model):
    clip = dots(2, 7)
    made = nnx.jit(lambda model, *inputs: imagine(model, *inputs, jax.random.key(0)))(
        model, clip.frames[:, :4], clip.actions[:, :3], clip.actions[:, 3:6]
    )
    assert made.shape == (2, 3, SIZE, SIZE, 1)
    assert made.dtype == np.uint8

    @nnx.jit
    def step_by_step(model, frame, actions):
        z, expected = model.encode(frame)[:, 0], []
        for action in jnp.unstack(actions, axis=1):
            z = model.step_level(1, z, action)
            expected.append(model.decode_level(1, z))
        return jnp.stack(expected, axis=1)

    expected = step_by_step(model, clip.frames[:, 3:4], clip.actions[:, 3:6])
    difference = np.asarray(expected, int) - np.asarray(made, int)
    assert np.abs(difference).max() <= 1


@pytest.fixture(scope="module")
def with_history():
    """One level whose predictor sees three latents and, its last layers not zero any more, makes something of them."""
    options = dataclasses.replace(
        BOTTOM, predictor="transformer", history=3, depth=2, heads=2, rollout=2, std=0.0, cov=0.0, time=0.0, inverse=0.0
    )
    model = build(dataclasses.replace(OPTIONS, levels=(options,)))
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    leaves, tree = jax.tree.flatten(params)
    drawn = [x + 0.1 * jax.random.normal(jax.random.key(i), x.shape) for i, x in enumerate(leaves)]
    return nnx.merge(graphdef, jax.tree.unflatten(tree, drawn), rest)


def window_by_window(model, z, actions, count):
    """Reference: one latent after another from a list of the last three; `z` [batch, known, width] are given."""
    level, known = model.levels[0], [z[:, i] for i in range(z.shape[1])]
    for _ in range(count):
        at = slice(max(len(known) - 3, 0), len(known))
        tokens = jnp.stack(known[at], axis=1)
        known.append(level.norm(level.cell(tokens, model._scaled(1, actions[:, at])))[:, -1])
    return jnp.stack(known[z.shape[1] :], axis=1)


def test_a_transformer_attends_to_observed_then_to_predicted_latents(with_history):
    model, clip, rng = with_history, dots(2, 9), jax.random.key(0)

    @nnx.jit
    def both(model, frames, actions):
        state, latents = model.observe(frames[:, :5], actions[:, :4], rng), []
        for t in range(4, 8):
            state = model.step(state, actions[:, t], rng)[0]
            latents.append(state.latents[0])
        z = model.encode(frames)
        return jnp.stack(latents, axis=1), window_by_window(model, z[:, :5], actions, 4), z

    found, expected, z = both(model, clip.frames, clip.actions)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    alone = nnx.jit(
        lambda model, z, actions: (model.rollout(1, z, actions), window_by_window(model, z[:, None], actions, 4))
    )
    fresh, reference = alone(model, z[:, 4], clip.actions[:, 4:8])
    np.testing.assert_allclose(fresh, reference, atol=1e-5)
    assert np.abs(fresh - found).max() > 1e-3, "earlier latents make no difference"


def test_an_episode_begins_with_an_empty_history(with_history):
    clip, is_first = dots(2, 9), np.zeros((2, 9), bool)
    is_first[:, 0] = is_first[:, 4] = True
    led = np.concatenate([np.full((2, 1, 2), 9.0, np.float32), clip.actions[:, :-1]], axis=1)
    carry = jax.tree.map(lambda x: x[5], stream(with_history, clip.frames, led, is_first).carry)
    fresh = with_history.observe(clip.frames[:, 4:6], clip.actions[:, 4:5], jax.random.key(0)).carry
    np.testing.assert_array_equal(carry.count, [2, 2])
    for name, count in (("latents", 2), ("actions", 1)):
        np.testing.assert_allclose(getattr(carry, name)[:, :count], getattr(fresh, name)[:, :count], atol=1e-5)


def test_training_predicts_from_true_latents_until_the_history_is_full(with_history):
    model, clip = with_history, dots(2, 7)

    @nnx.jit
    def both(model, frames, actions):
        z, between = model.encode(frames), actions[:, :-1]
        expected = []
        for begin in range(3):  # 7 ticks, of which 3 are given and 2 predicted
            own, done = z[:, begin:], between[:, begin:]
            grown = [window_by_window(model, own[:, :count], done, 1) for count in (1, 2)]
            expected.append(jnp.concatenate([*grown, window_by_window(model, own[:, :3], done, 2)], axis=1))
        return model.levels[0].rollouts(z, model._scaled(1, between), 3), jnp.stack(expected, axis=1), z

    (predicted, true, held), expected, z = both(model, clip.frames, clip.actions)
    np.testing.assert_allclose(predicted, expected, atol=1e-5)
    np.testing.assert_array_equal(true[:, 2], z[:, 3:7])
    np.testing.assert_array_equal(held[:, 2], z[:, [2, 3, 4, 4]])


def test_decoding_without_a_decoder_raises():
    options = dataclasses.replace(OPTIONS, levels=(BOTTOM,), decoder=DecoderOptions(()))
    model = nnx.eval_shape(lambda: MultiLevelDynamics(options, (SIZE, SIZE, 1), SPEC, rngs=nnx.Rngs(0)))
    with pytest.raises(UserError, match=r"config\.model\.decoder\.channels"):
        model.decode(model.start(1))


def test_a_vision_transformer_keeps_positions_and_a_frozen_one_has_no_parameters():
    vit = ViTOptions(8, 1, 2, patch=4, frozen=True)
    model = build(LatentDynamicsOptions((BOTTOM,), vit, DecoderOptions(())))
    frames = np.zeros((1, 2, SIZE, SIZE, 1), np.uint8)
    frames[0, 0, :4, :4], frames[0, 1, 4:, 4:] = 255, 255
    z = np.asarray(nnx.jit(lambda model, frames: model.encode(frames))(model, frames))
    assert np.abs(z[0, 0] - z[0, 1]).max() > 0.1
    assert set(nnx.as_pure(nnx.state(model, nnx.Param))) == {"levels"}


DEVICES = """
import dataclasses, jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from tests.world_models.models.test_latent_dynamics import BOTTOM, OPTIONS, DecoderOptions, build, dots, keys
bottom = dataclasses.replace(BOTTOM, sigreg=0.1)
model = build(dataclasses.replace(OPTIONS, levels=(bottom,), decoder=DecoderOptions(())))
inputs = dots(8, 8), keys(8)
for count in (1, 4):
    mesh = jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:count])
    rows = NamedSharding(mesh, PartitionSpec("data"))
    clip, own = jax.device_put(inputs, rows)
    assert len(clip.frames.sharding.device_set) == count
    everywhere = jax.device_put(model, NamedSharding(rows.mesh, PartitionSpec()))
    print(float(jax.jit(lambda model, clip, keys: model.loss(clip, keys)[0])(everywhere, clip, own)))
"""


def test_the_loss_is_the_same_on_one_and_on_four_devices():
    environment = cpu_devices(4) | {"PYTHONPATH": f".{os.pathsep}tests"}
    done = subprocess.run([sys.executable, "-c", DEVICES], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    one, four = map(float, done.stdout.split())
    np.testing.assert_allclose(four, one, rtol=1e-5)
