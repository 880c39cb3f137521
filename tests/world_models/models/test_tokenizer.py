"""The causal tokenizer: dependencies between frames, masks, the bottleneck, and one frame at a time."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec

from world_models.core import sharding as parallel
from world_models.core.types import Clip
from world_models.models.tokenizer.model import CausalTokenizer
from world_models.models.tokenizer.options import TokenizerOptions
from world_models.nn.options import ComputeOptions, PixelOptions, TransformerOptions, with_compute
from world_models.nn.patches import patchify

SMALL = TransformerOptions(width=16, depth=4, heads=2)
OPTIONS = TokenizerOptions(
    SMALL,
    dataclasses.replace(SMALL, width=12),
    patch=4,
    latents=3,
    latent_channels=5,
    time_every=2,
    window=3,
    pixels=PixelOptions((0.3, 0.4, 0.5), (0.2, 0.3, 0.25)),
)
SHAPE = (8, 12, 3)
TIME, SEEN = 8, 5  # two blocks over time, each two frames back: a frame depends on itself and the four before


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def frames_of(batch=2, time=TIME, seed=0, shape=SHAPE):
    return np.random.default_rng(seed).integers(0, 256, (batch, time, *shape)).astype(np.uint8)


def build(options=OPTIONS, shape=SHAPE):
    return nnx.jit(lambda: CausalTokenizer(options, shape, rngs=nnx.Rngs(0)))()


@pytest.fixture(scope="module")
def model():
    return build()


encode = nnx.jit(lambda model, *inputs: model.encode(*inputs))
predict = nnx.jit(lambda model, latents: model.predict(latents))
decode = nnx.jit(lambda model, latents: model.decode(latents))


def latents_of(batch=2, time=TIME, seed=1):
    return np.random.default_rng(seed).uniform(-1, 1, (batch, time, 3, 5)).astype(np.float32)


def depends(function, inputs, index, other):
    """Bool [time]: which frames of the output change when frame `index` of one example does."""
    changed = np.array(inputs)
    changed[1, index] = other[1, index]
    before, after = np.asarray(function(inputs)), np.asarray(function(changed))
    np.testing.assert_array_equal(before[0], after[0])  # the other example is not touched
    return np.abs(before[1] - after[1]).reshape(len(before[1]), -1).max(axis=1) > 1e-6


@pytest.mark.parametrize("index", [0, 2, 7])
def test_a_frame_affects_itself_and_a_few_later_frames_only(model, index):
    expected = (np.arange(TIME) >= index) & (np.arange(TIME) < index + SEEN)
    found = depends(lambda frames: encode(model, frames), frames_of(), index, frames_of(seed=3))
    np.testing.assert_array_equal(found, expected)
    found = depends(lambda latents: predict(model, latents), latents_of(), index, latents_of(seed=3))
    np.testing.assert_array_equal(found, expected)


def test_a_prefix_is_encoded_and_decoded_as_in_the_whole(model):
    frames, latents = frames_of(), latents_of()
    np.testing.assert_allclose(encode(model, frames[:, :3]), encode(model, frames)[:, :3], atol=1e-5)
    np.testing.assert_allclose(predict(model, latents[:, :3]), predict(model, latents)[:, :3], atol=1e-5)


def test_frames_are_encoded_to_bounded_latents_and_decoded(model):
    frames = frames_of()
    latents = np.asarray(encode(model, frames))
    assert latents.shape == (2, TIME, *model.latent_shape)
    assert latents.dtype == np.float32
    assert 0.05 < np.abs(latents).max() <= 1
    made = np.asarray(decode(model, latents))
    assert made.shape == frames.shape
    assert made.dtype == np.uint8
    # `decode` is `predict`, its patches put back in place and its pixels scaled.
    patches = np.asarray(predict(model, latents)).reshape(2, -1, 48)
    scaled = np.clip(np.round((patches * np.tile([0.2, 0.3, 0.25], 16) + np.tile([0.3, 0.4, 0.5], 16)) * 255), 0, 255)
    assert np.abs(patchify(made, 4).astype(int) - scaled).max() <= 1
    # Outputs of any size are normalized before tanh, which they would saturate.
    large = build()
    large.encoder.head.kernel[...] *= 1e4
    np.testing.assert_allclose(encode(large, frames), encode(build(), frames), atol=1e-2)
    assert np.abs(np.asarray(encode(large, frames))).max() <= np.tanh(np.sqrt(5))


@pytest.mark.parametrize("length", [1, 7])
def test_one_frame_at_a_time_gives_the_same(model, length):
    """Seven frames are more than the caches hold."""
    frames, latents = frames_of(time=length), latents_of(time=length)
    step = nnx.jit(lambda model, cache, frame: model.encode_step(cache, frame))
    cache, found = model.encode_cache(2), []
    shapes = jax.tree.map(jnp.shape, cache)
    for t in range(length):
        cache, own = step(model, cache, frames[:, t])
        found.append(own)
    assert jax.tree.map(jnp.shape, cache) == shapes
    np.testing.assert_allclose(np.stack(found, axis=1), encode(model, frames), atol=1e-5)
    step = nnx.jit(lambda model, cache, latents: model.decode_step(cache, latents))
    cache, found = model.decode_cache(2), []
    for t in range(length):
        cache, own = step(model, cache, latents[:, t])
        found.append(own)
    difference = np.abs(np.stack(found, axis=1).astype(int) - np.asarray(decode(model, latents)))
    assert difference.max() <= 1  # rounding
    assert (difference == 0).mean() > 0.99


def test_every_frame_samples_its_own_mask_ratio_uniformly():
    model = build(shape=(64, 64, 3))  # 256 patches
    masks = np.asarray(model.mask(keys(100), 12))
    assert masks.shape == (100, 12, 256)
    shares = masks.mean(axis=-1)
    expected = 0.9 * (np.arange(shares.size) + 0.5) / shares.size
    assert np.abs(np.sort(shares.reshape(-1)) - expected).max() < 0.05
    assert np.abs(np.corrcoef(shares[:, 0], shares[:, 1])[0, 1]) < 0.3  # neighbours in time know nothing of each other
    assert len(np.unique(masks.reshape(-1, 256), axis=0)) > 1150  # but for those with next to nothing masked
    np.testing.assert_allclose(masks.mean(axis=(0, 1)), 0.45, atol=0.07)  # every patch as often as any other
    np.testing.assert_array_equal(model.mask(keys(100)[7:8], 12)[0], masks[7])  # an example's own key decides
    fixed = np.asarray(model.mask(keys(100), 12, 0.75)).mean(axis=-1)
    assert fixed.mean() == pytest.approx(0.75, abs=0.01)
    assert fixed.std() < 0.05


def test_latents_depend_on_unmasked_pixels_alone(model):
    frames, hidden = frames_of(), np.asarray(model.mask(keys(2), TIME))
    pixels = np.asarray(model.shown(np.zeros_like(frames), hidden)) == 128  # masked pixels are shown in grey
    assert pixels.mean() == pytest.approx(hidden.mean())
    latents = np.asarray(encode(model, frames, hidden))
    other = np.where(pixels, frames_of(seed=5), frames)
    np.testing.assert_array_equal(encode(model, other, hidden), latents)
    np.testing.assert_array_equal(model.shown(other, hidden)[~pixels], frames[~pixels])
    seen = np.where(pixels, frames, frames_of(seed=5))
    changed = np.abs(np.asarray(encode(model, seen, hidden)) - latents).max(axis=(2, 3))
    assert (changed[~hidden.all(axis=-1)] > 1e-6).all()


def test_the_loss_counts_all_normalized_pixels_under_new_masks(model):
    frames = frames_of()
    clip = Clip(frames, None, None, None, None, None)
    loss = nnx.jit(lambda model, clip, keys: model.loss(clip, keys)[0])
    made = np.asarray(predict(model, encode(model, frames, model.mask(keys(2), TIME))), np.float64)
    normalized = (frames / 255 - np.array(OPTIONS.pixels.mean)) / np.array(OPTIONS.pixels.std)
    truth = patchify(normalized, 4).reshape(made.shape)
    assert float(loss(model, clip, keys(2))) == pytest.approx(np.mean((made - truth) ** 2), rel=1e-4)
    assert float(loss(model, clip, keys(2, 1))) != float(loss(model, clip, keys(2)))


def test_motion_weighs_pixels_by_their_distance_from_the_mean_of_their_clip():
    frames = frames_of(batch=3)
    frames[1] = frames[1, :1]  # a clip that stands still
    model = build(dataclasses.replace(OPTIONS, motion_weight=0.75))
    apart = np.abs(frames - frames.astype(np.float64).mean(axis=1, keepdims=True)).mean(axis=-1, keepdims=True)
    apart /= np.maximum(apart.mean(axis=(1, 2, 3), keepdims=True), 1e-9)
    weights = np.asarray(model.motion(frames))
    expected = patchify(np.broadcast_to(apart, frames.shape), 4).reshape(weights.shape)
    np.testing.assert_allclose(weights, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(weights.mean(axis=(1, 2, 3)), [1, 0, 1], rtol=1e-5)

    loss = lambda clips, keys: model.loss(Clip(clips, None, None, None, None, None), keys)[0]
    errors = predict(model, encode(model, frames, model.mask(keys(3), TIME))) - model.patches(frames)
    errors = np.asarray(errors, np.float64) ** 2
    assert float(loss(frames, keys(3))) == pytest.approx(np.mean((0.25 + 0.75 * expected) * errors), rel=1e-4)
    # Every clip is weighted by itself, so that parts of a batch make the gradient of the whole.
    alone = [float(loss(frames[i : i + 1], keys(3)[i : i + 1])) for i in range(3)]
    assert np.mean(alone) == pytest.approx(float(loss(frames, keys(3))), rel=1e-5)


def gradients(options):
    graphdef, params, rest = nnx.split(build(options), nnx.Param, ...)
    clip = Clip(frames_of(), None, None, None, None, None)
    return jax.jit(jax.grad(lambda p: nnx.merge(graphdef, p, rest).loss(clip, keys(2))[0]))(params)


def test_every_parameter_learns_and_remat_and_unrolling_change_no_gradient():
    plain = gradients(OPTIONS)
    for path, grad in jax.tree_util.tree_leaves_with_path(plain):
        assert float(jnp.abs(grad).reshape(len(grad), -1).max(axis=1).min() if grad.ndim > 2 else grad.std()) > 0, path
    other = gradients(with_compute(OPTIONS, ComputeOptions(remat="full", unroll=4)))
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_lower_precision_gives_nearly_the_same_latents_in_float32(model):
    found = encode(build(dataclasses.replace(OPTIONS, dtype="bfloat16")), frames_of())
    assert found.dtype == jnp.float32
    error = np.abs(np.asarray(found) - np.asarray(encode(model, frames_of())))
    assert 0 < error.max() < 0.1


def test_axes_are_named_so_that_every_kernel_can_be_split(model):
    names = parallel.axis_names(nnx.state(model, nnx.Param))["encoder"]["transformer"]["groups"]
    assert names["time"]["attention"]["qkv"]["kernel"] == PartitionSpec("layers", "width", None, "heads", None)
    assert names["space"]["blocks"]["mlp"]["up"]["kernel"] == PartitionSpec("layers", "layers", "width", "mlp")


def test_the_program_does_not_grow_with_depth():
    def size(depth):
        encoder = dataclasses.replace(SMALL, depth=depth)
        make = lambda: CausalTokenizer(dataclasses.replace(OPTIONS, encoder=encoder), SHAPE, rngs=nnx.Rngs(0))
        program = jax.make_jaxpr(lambda model, frames: model.encode(frames))(nnx.eval_shape(make), frames_of())
        return len(str(program).splitlines())

    assert size(12) == size(4)


def test_a_grid_of_latents_streams_causally_and_each_starts_at_its_own_square():
    options = dataclasses.replace(OPTIONS, latents=2, layout="grid")
    model, frames = build(options, (8, 16, 3)), frames_of(shape=(8, 16, 3))
    latents = encode(model, frames)
    assert latents.shape == (2, TIME, 2, 5)
    found = depends(lambda frames: encode(model, frames), frames, 2, frames_of(seed=3, shape=(8, 16, 3)))
    np.testing.assert_array_equal(found, (np.arange(TIME) >= 2) & (np.arange(TIME) < 2 + SEEN))
    encoded, decoded = [], []
    caches = [model.encode_cache(2), model.decode_cache(2)]
    step = nnx.jit(lambda model, caches, frame: _both(model, caches, frame))
    for t in range(TIME):
        caches, latent, frame = step(model, caches, frames[:, t])
        encoded.append(latent)
        decoded.append(frame)
    np.testing.assert_allclose(jnp.stack(encoded, axis=1), latents, atol=1e-5)
    assert np.abs(np.stack(decoded, axis=1).astype(int) - decode(model, latents)).max() <= 1
    # Without blocks between, a latent is its own square of patches, and decodes to it.
    direct = lambda model, x: model._latents(model._patch_tokens(model.patches(x), None))
    other = frames.copy()
    other[:, :, :, 8:] = 255 - other[:, :, :, 8:]
    before, after = direct(model, frames), direct(model, other)
    np.testing.assert_array_equal(before[:, :, 0], after[:, :, 0])
    assert np.abs(np.asarray(before - after)[:, :, 1]).max() > 1e-3
    changed = model._frames(model._pixels(model._latent_tokens(latents.at[:, :, 1].multiply(-1))))
    np.testing.assert_array_equal(
        changed[..., :8, :], model._frames(model._pixels(model._latent_tokens(latents)))[..., :8, :]
    )


def _both(model, caches, frame):
    encoder, latent = model.encode_step(caches[0], frame)
    decoder, made = model.decode_step(caches[1], latent)
    return [encoder, decoder], latent, made
