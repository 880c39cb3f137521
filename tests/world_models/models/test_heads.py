"""Reward and termination heads of both world models, in a toy world: a square walks on a grid to a corner."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from world_models.core.types import ActionSpec, Clip, Prediction
from world_models.diffusion.edm import EDM
from world_models.models.latent_dynamics.model import MultiLevelDynamics
from world_models.models.latent_dynamics.options import CNNOptions, DecoderOptions, LatentDynamicsOptions, LevelOptions
from world_models.models.video_diffusion.model import VideoDiffusion
from world_models.models.video_diffusion.options import VideoDiffusionOptions
from world_models.nn.heads import step_targets
from world_models.nn.options import HeadOptions, TransformerOptions

GRID, TIME, BATCH = 4, 3, 32
STEPS = {"video_diffusion": 200, "latent_dynamics": 300}
MOVES = np.array([(0, 1), (0, -1), (1, 0), (-1, 0)])
BOTH = HeadOptions(reward=1.0, terminal=1.0, hidden=64)
FAMILIES = pytest.mark.parametrize("family", ["video_diffusion", "latent_dynamics"])


def _clips(count, seed):
    """Reward: minus the distance of the state reached to the corner, where the episode ends and the square stays."""
    rng = np.random.default_rng(seed)
    place = rng.integers(0, GRID, (count, 2))
    place = np.where((place == 0).all(axis=1, keepdims=True), GRID - 1, place)
    frames = np.zeros((count, TIME, 8, 8, 1), np.uint8)
    actions = rng.integers(0, len(MOVES), (count, TIME)).astype(np.int32)
    rewards, over = np.zeros((count, TIME), np.float32), np.zeros((count, TIME), bool)
    for t in range(TIME):
        for i, (y, x) in enumerate(2 * place):
            frames[i, t, y : y + 2, x : x + 2] = 255
        over[:, t] = (place == 0).all(axis=1)
        moved = np.clip(place + MOVES[actions[:, t]], 0, GRID - 1)
        place = np.where(over[:, t, None], place, moved)
        rewards[:, t] = np.where(over[:, t], 1000, -np.hypot(*place.T))  # undefined after the end: must not count
    return Clip(frames, actions, rewards, np.zeros_like(over), over, over)


def _model(family, heads=BOTH):
    spec, frame_shape = ActionSpec("discrete", 4), (8, 8, 1)
    if family == "video_diffusion":
        network = TransformerOptions(32, 2, 2)
        options = VideoDiffusionOptions((1,), network, condition=32, patch=2, target="change", heads=heads)
        make = lambda: VideoDiffusion(options, EDM(), frame_shape, spec, rngs=nnx.Rngs(0))
    else:
        level = LevelOptions("frames", 1, 16, 4, hidden=64, rollout=1, std=4.0, cov=1.0)
        options = LatentDynamicsOptions((level,), CNNOptions((16,), 0), DecoderOptions(()), heads=heads)
        make = lambda: MultiLevelDynamics(options, frame_shape, spec, rngs=nnx.Rngs(0))
    return nnx.jit(make)()


def _train(model, clips, steps):
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, steps))

    @jax.jit
    def step(params, rest, state, clip, key):
        def loss(params):
            model = nnx.merge(graphdef, params, rest, copy=True)
            value, _ = model.loss(clip, jax.random.split(key, BATCH))
            return value, nnx.split(model, nnx.Param, ...)[2]

        gradient, rest = jax.grad(loss, has_aux=True)(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), rest, state

    state, rng = optimizer.init(params), np.random.default_rng(3)
    for i in range(steps):
        rows = rng.integers(0, len(clips.actions), BATCH)
        clip = jax.tree.map(lambda x: x[rows], clips)  # noqa: B023
        params, rest, state = step(params, rest, state, clip, jax.random.key(i))
    return nnx.merge(graphdef, params, rest)


@jax.jit
def _predict(model, clips):
    """What one `step` from each first frame predicts."""
    state = model.observe(clips.frames[:, :1], clips.actions[:, :0], jax.random.key(0))
    return model.step(state, clips.actions[:, 0], jax.random.key(1))[1]


def _scores(model, clips):
    """(correlation and explained variance of rewards, AUC of terminals) of one `step` from each first frame."""
    rewards, terminals, _ = (np.asarray(x)[:, 0] for x in step_targets(clips))
    found = _predict(model, clips)
    ended, others = found.terminals[terminals], found.terminals[~terminals]
    assert float(found.terminals.min()) >= 0
    assert float(found.terminals.max()) <= 1
    explained = 1 - np.mean((found.rewards - rewards) ** 2) / np.var(rewards)
    return np.corrcoef(found.rewards, rewards)[0, 1], explained, np.mean(ended[:, None] > others[None])


@FAMILIES
def test_heads_predict_held_out_rewards_and_termination_unless_rewards_are_shuffled(family):
    clips, held_out = _clips(2000, 0), _clips(400, 1)
    correlation, explained, auc = _scores(_train(_model(family), clips, STEPS[family]), held_out)
    assert correlation > 0.9
    assert explained > 0.7
    assert auc > 0.9
    order = np.random.default_rng(2).permutation(len(clips.actions))
    shuffled = clips._replace(rewards=np.minimum(clips.rewards[order], 0))
    correlation, explained, _ = _scores(_train(_model(family), shuffled, STEPS[family]), held_out)
    assert correlation < 0.9
    assert explained < 0.3


@FAMILIES
def test_without_weights_there_are_no_parameters_and_no_predictions(family):
    model, other = _model(family, HeadOptions()), _model(family)
    assert model.heads is None
    clips = jax.tree.map(jnp.asarray, _clips(4, 0))
    assert _predict(model, clips) == Prediction()
    loss = jax.jit(lambda model, clips: model.loss(clips, jax.random.split(jax.random.key(0), 4)))
    (plain, _), (total, parts) = loss(model, clips), loss(other, clips)
    assert float(total - parts["reward"] - parts["terminal"]) == pytest.approx(float(plain), rel=1e-4)


@FAMILIES
def test_rewards_at_last_steps_do_not_count_even_if_they_are_nan(family):
    model, clips, keys = _model(family), _clips(64, 0), jax.random.split(jax.random.key(0), 64)
    assert np.asarray(clips.is_last)[:, :-1].any()
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    @jax.jit
    def gradients(params, rewards):
        loss = lambda params: nnx.merge(graphdef, params, rest, copy=True).loss(clips._replace(rewards=rewards), keys)[
            0
        ]
        return jax.value_and_grad(loss)(params)

    found, other = gradients(params, clips.rewards), gradients(params, np.where(clips.is_last, np.nan, clips.rewards))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)
