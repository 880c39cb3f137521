"""The model of DIAMOND: its size, its interface, and its dependencies."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from world_models.core.imagination import imagine
from world_models.core.types import ActionSpec, Clip
from world_models.diffusion.ddpm import DDPM
from world_models.diffusion.edm import EDM
from world_models.models.video_diffusion.model import VideoDiffusion, fold, unfold
from world_models.models.video_diffusion.options import VideoDiffusionOptions
from world_models.nn.options import TransformerOptions, UNetOptions
from world_models.nn.pixels import Pixels

DISCRETE = ActionSpec("discrete", 3)
CONTINUOUS = ActionSpec("continuous", 2, (-1.0, 0.0), (1.0, 10.0))
SMALL = {"context_offsets": (2, 1), "network": UNetOptions((8, 16), 1), "condition": 16}
TRANSFORMER = {"network": TransformerOptions(width=16, depth=2, heads=2), "patch": 2}


def _model(actions=DISCRETE, trained=True, process=None, **options):
    make = lambda: VideoDiffusion(
        VideoDiffusionOptions(**SMALL | options), process or EDM(), (8, 8, 3), actions, rngs=nnx.Rngs(0)
    )
    model = nnx.jit(make)()
    if trained:  # zero-initialised layers would hide what depends on what
        graphdef, params, rest = nnx.split(model, nnx.Param, ...)
        leaves, tree = jax.tree.flatten(params)
        keys = jax.random.split(jax.random.key(1), len(leaves))
        leaves = [x + 0.1 * jax.random.normal(key, x.shape) for x, key in zip(leaves, keys)]
        model = nnx.merge(graphdef, jax.tree.unflatten(tree, leaves), rest)
    return model


def _actions(spec, shape, seed=0):
    rng = np.random.default_rng(seed)
    if spec.kind == "discrete":
        return rng.integers(0, spec.size, shape).astype(np.int32)
    return rng.uniform(spec.low, spec.high, (*shape, spec.size)).astype(np.float32)


def _clip(spec=DISCRETE, batch=3, time=3):
    frames = np.random.default_rng(1).integers(0, 256, (batch, time, 8, 8, 3)).astype(np.uint8)
    zeros = np.zeros((batch, time))
    return Clip(frames, _actions(spec, (batch, time)), zeros, zeros, zeros, zeros)


def _keys(batch):
    return jax.random.split(jax.random.key(5), batch)


def test_published_size():
    model = nnx.eval_shape(
        lambda: VideoDiffusion(VideoDiffusionOptions(), EDM(), (64, 64, 3), ActionSpec("discrete", 4), rngs=nnx.Rngs(0))
    )
    assert sum(x.size for x in jax.tree.leaves(nnx.as_pure(nnx.state(model, nnx.Param)))) == 4_405_955


def test_context_offsets_choose_the_frames_and_actions_that_matter():
    model = _model(context_offsets=(4, 1))
    clip = jax.tree.map(lambda x: x[:, :5], _clip(time=5))
    loss = jax.jit(lambda frames, actions: model.loss(clip._replace(frames=frames, actions=actions), _keys(3))[0])
    for offset in range(1, 5):
        frames, actions = clip.frames.copy(), clip.actions.copy()
        frames[:, 4 - offset] = 255 - frames[:, 4 - offset]
        actions[:, 4 - offset] = (actions[:, 4 - offset] + 1) % 3
        matters = offset in (4, 1)
        assert bool(loss(frames, clip.actions) != loss(clip.frames, clip.actions)) == matters
        assert bool(loss(clip.frames, actions) != loss(clip.frames, clip.actions)) == matters


@pytest.mark.parametrize("process", [EDM(num_steps=2), DDPM(num_steps=2)], ids=["edm", "ddpm"])
def test_every_process_trains_and_imagines_from_any_context(process):
    model, clip = _model(process=process, context_offsets=(4, 2, 1), condition=12), _clip(time=7)
    loss, _ = jax.jit(model.loss)(jax.tree.map(lambda x: x[:, :5], clip), _keys(3))
    assert np.isfinite(loss)
    inputs = clip.frames[:, :5], clip.actions[:, :4], clip.actions[:, 4:6], jax.random.key(0)
    frames = jax.jit(imagine)(model, *inputs)
    assert frames.shape == (3, 2, 8, 8, 3)
    assert frames.dtype == jnp.uint8


def test_untrained_change_model_copies_the_last_frame_up_to_its_noise():
    model = _model(trained=False, target="change", process=EDM(sigma_data=0.01, sigma_max=0.1, num_steps=10))
    clip = _clip()
    roll = jax.jit(lambda f, past, future: imagine(model, f, past, future, jax.random.key(0)))
    futures = roll(clip.frames[:, :2], clip.actions[:, :1], clip.actions[:, 1:])
    assert futures.shape == (3, 2, 8, 8, 3)
    assert futures.dtype == jnp.uint8
    assert np.abs(np.asarray(futures[:, 0], int) - clip.frames[:, 1]).mean() < 3


@pytest.mark.parametrize(
    ("spec", "options"),
    [(DISCRETE, {}), (CONTINUOUS, {}), (DISCRETE, TRANSFORMER)],
    ids=["discrete", "continuous", "transformer"],
)
def test_next_frame_depends_on_every_context_frame_and_action_and_on_nothing_else(spec, options):
    model = _model(spec, **options)
    frames = _clip(time=5).frames
    actions = _actions(spec, (3, 5))

    @jax.jit
    def following(frames, actions):
        state = model.observe(frames, actions[:, :-1], jax.random.key(0))
        state, _ = model.step(state, actions[:, -1], jax.random.key(1))
        return state.frames[:, -1]

    before = following(frames, actions)

    def changed(frames=frames, actions=actions):
        return np.abs(np.asarray(following(frames, actions) - before)).max(axis=(1, 2, 3)) > 0

    for t in range(5):
        other = frames.copy()
        other[0, t] = 255 - other[0, t]
        assert changed(frames=other).tolist() == [t >= 3, False, False], f"frame {t}"
        other = actions.copy()
        other[0, t] = (other[0, t] + 1) % 3 if spec.kind == "discrete" else other[0, t] + 1
        assert changed(actions=other).tolist() == [t >= 3, False, False], f"action {t}"


def test_continuous_actions_are_scaled_by_their_bounds():
    wide = ActionSpec("continuous", 2, (-10.0, 0.0), (10.0, 100.0))
    clip = _clip(CONTINUOUS)
    loss, _ = jax.jit(_model(CONTINUOUS).loss)(clip, _keys(3))
    scaled, _ = jax.jit(_model(wide).loss)(clip._replace(actions=clip.actions * 10), _keys(3))
    np.testing.assert_allclose(loss, scaled, rtol=1e-5)


def test_loss_of_an_example_depends_on_its_own_key_only():
    model, clip, keys = _model(), _clip(), _keys(3)
    whole, _ = jax.jit(model.loss)(clip, keys)
    rows = [jax.tree.map(lambda x, i=i: x[i : i + 1], clip) for i in range(3)]
    apart = [jax.jit(model.loss)(row, keys[i : i + 1])[0] for i, row in enumerate(rows)]
    np.testing.assert_allclose(whole, np.mean(apart), rtol=1e-5)


@pytest.mark.parametrize(
    ("target", "options"),
    [("frame", {}), ("change", {}), ("frame", TRANSFORMER)],
    ids=["frame", "change", "transformer"],
)
def test_untrained_loss_is_the_variance_of_the_target(target, options):
    """With F = 0 the loss is the mean square of its target, which preconditioning makes one for data of σ_data."""
    rng = np.random.default_rng(0)
    frames = np.asarray(Pixels().restore(0.25 * rng.standard_normal((256, 3, 8, 8, 3))))
    sigma_data = {"frame": 0.25, "change": 0.25 * np.sqrt(2)}[target]
    model = _model(trained=False, target=target, process=EDM(sigma_data=sigma_data), **options)
    clip = _clip(batch=256)._replace(frames=frames)
    loss, _ = jax.jit(model.loss)(clip, _keys(256))
    assert float(loss) == pytest.approx(1, abs=0.03)


def test_longer_clips_use_the_denoised_frame_as_context():
    model, clip = _model(), _clip(time=4)
    loss = jax.jit(lambda frames: model.loss(clip._replace(frames=frames), _keys(3))[0])
    second_alone = model.options.context_frames  # index of the first frame to be predicted
    other = clip.frames.copy()
    other[:, second_alone] = 255 - other[:, second_alone]
    assert float(loss(clip.frames)) != float(loss(other))

    # The second prediction is made from the model's own frame: from the true one it would be another.
    one = jax.jit(model.loss)(jax.tree.map(lambda x: x[:, :3], clip), _keys(3))[0]
    from_own = 2 * loss(clip.frames) - one
    second_keys = jax.vmap(jax.random.fold_in, (0, None))(_keys(3), 1)
    frames = Pixels().normalize(clip.frames)
    from_true, _ = jax.jit(model._denoising_error)(frames[:, 3], frames[:, 1:3], clip.actions[:, 1:3], second_keys)
    assert abs(float(from_own - from_true.mean())) > 1e-3


def test_too_short_a_context_raises():
    model, clip = _model(), _clip()
    with pytest.raises(ValueError, match="observe got 1 frames and 0 actions"):
        model.observe(clip.frames[:, :1], clip.actions[:, :0], jax.random.key(0))
    with pytest.raises(ValueError, match="observe got 3 frames and 3 actions"):
        model.observe(clip.frames, clip.actions, jax.random.key(0))


@pytest.mark.parametrize("options", [{}, TRANSFORMER], ids=["unet", "transformer"])
def test_bfloat16_computes_in_bfloat16_and_keeps_float32_parameters(options):
    model, clip = _model(dtype="bfloat16", **options), _clip()
    assert {x.dtype for x in jax.tree.leaves(nnx.as_pure(nnx.state(model, nnx.Param)))} == {jnp.dtype("float32")}
    loss, _ = jax.jit(model.loss)(clip, _keys(3))
    exact, _ = jax.jit(_model(**options).loss)(clip, _keys(3))
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, exact, rtol=0.05)
    text = str(jax.make_jaxpr(lambda c, k: model.loss(c, k)[0])(clip, _keys(3)))
    products = ("conv_general_dilated[", "dot_general[")
    found = [line for line in text.splitlines() if any(product in line for product in products)]
    scores = re.compile(r"f32\[3,(2|\d+,\d+),\d+,\d+\] = dot_general")  # of attention, before the softmax
    wide = [line for line in found if "bf16[" not in line and not scores.search(line)]
    assert len(found) > 8
    assert not wide


def test_patches_fold_and_unfold():
    x = jnp.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    folded = fold(x, 2)
    assert folded.shape == (2, 2, 3, 12)
    np.testing.assert_array_equal(folded[1, 0, 2].reshape(2, 2, 3), x[1, 0:2, 4:6])
    np.testing.assert_array_equal(unfold(folded, 2), x)
