"""The pretext tasks of images: their inputs and targets, what they learn, and where they must stay at chance."""

import dataclasses
import functools

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from world_models.core.errors import ConfigError
from world_models.core.types import Clip
from world_models.models.latent_dynamics.options import CNNOptions, ViTOptions
from world_models.models.pretext import colorization, exemplar, relative_position
from world_models.models.pretext.classification import CLASS
from world_models.models.pretext.lab import gamut_bins, lab_to_rgb, rgb_to_lab, same_lightness
from world_models.models.pretext.model import TASKS, PretextModel
from world_models.models.pretext.options import (
    ColorizationOptions,
    ExemplarOptions,
    PretextOptions,
    RelativePositionOptions,
)
from world_models.nn.options import PixelOptions

POSITION = RelativePositionOptions(patch=6, gap=1, jitter=0, color="keep", hidden=64)


def options_of(task, channels=(16,)):
    return PretextOptions(task, CNNOptions(channels=channels, blocks=1), pixels=PixelOptions((0.3,), (0.3,)))


def keys_of(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


@functools.partial(jax.jit, static_argnames=("options", "steps", "make", "rows"))
def learned(options, make, steps, rows=48, rate=3e-3):
    """Metrics on new batches, of a model after some steps; `make` gives the `Clip` of a key."""
    frames_shape = jax.eval_shape(make, jax.random.key(0)).frames.shape[1:]
    graph, *state = nnx.split(PretextModel(options, frames_shape, rngs=nnx.Rngs(0)), nnx.Param, ...)
    params, rest = map(nnx.as_pure, state)
    optimizer = optax.adam(rate)

    def measured(params, rest, key):
        model = nnx.merge(graph, params, rest)
        clip_key, task_key = jax.random.split(key)
        loss, metrics = model.loss(make(clip_key), jax.random.split(task_key, rows))
        return loss, (metrics, nnx.as_pure(nnx.split(model, nnx.Param, ...)[2]))

    def step(carry, i):
        params, rest, moments = carry
        key = jax.random.fold_in(jax.random.key(1), i)
        grads, (_, rest) = jax.grad(measured, has_aux=True)(params, rest, key)
        updates, moments = optimizer.update(grads, moments)
        return (optax.apply_updates(params, updates), rest, moments), None

    (params, rest, _), _ = jax.lax.scan(step, (params, rest, optimizer.init(params)), jnp.arange(steps))
    held_out = jax.vmap(lambda key: measured(params, rest, key)[1][0])(keys_of(10, seed=2))
    return jax.tree.map(jnp.mean, held_out)


def clip_of(frames, classes=None):
    observations = {} if classes is None else {CLASS: classes[:, None]}
    return Clip(frames[:, None], None, None, None, None, None, observations=observations)


# Relative patch position.


def test_a_patch_and_its_neighbour_lie_where_the_class_says():
    options = RelativePositionOptions(patch=4, gap=2, jitter=1, color="keep")
    row, column = np.mgrid[:24, :24]
    frames = np.stack([row, column, 0 * row], axis=-1)[None].astype(np.uint8)
    pairs, labels = jax.vmap(lambda key: relative_position.sample(options, frames, key))(keys_of(400))
    corners = np.asarray(pairs)[:, :, 0, 0, :2]
    moved = corners[:, 1] - corners[:, 0]
    expected = 6 * relative_position.NEIGHBOURS[np.asarray(labels)]
    assert np.abs(moved - expected).max() == 2  # each patch by its own jitter of 1
    np.testing.assert_array_equal(pairs[:, :, 3, 2, 0], corners[..., 0] + 3)
    assert corners.min() == 0
    assert corners.max() == 20
    assert np.bincount(labels).min() > 25  # of 400 in eight classes
    centre = corners[:, 0, 1]
    for label in range(8):  # where the patch lies tells nothing
        assert abs(centre[labels == label].mean() - centre.mean()) < 1


def test_dropped_colours_leave_one_channel_and_projected_ones_no_green_from_magenta():
    patch = jnp.asarray(np.random.default_rng(0).uniform(0, 255, (8, 8, 3)), jnp.float32)
    kept = set()
    for key in keys_of(12):
        changed = relative_position.drop_colors(key, patch)
        same = [int(i) for i in range(3) if np.array_equal(changed[..., i], patch[..., i])]
        assert len(same) == 1
        kept |= set(same)
        others = [i for i in range(3) if i not in same]
        assert np.std(changed[..., np.array(others)]) < 2
    assert kept == {0, 1, 2}
    projected = relative_position.project_colors(patch)
    np.testing.assert_allclose(projected @ np.array([-1.0, 2.0, -1.0]), 0, atol=1e-3)
    grey = jnp.ones((2, 2, 3))
    np.testing.assert_allclose(relative_position.project_colors(grey), grey, atol=1e-6)


def test_a_lens_moves_red_further_outwards_than_green():
    frame = np.zeros((33, 33, 3), np.float32)
    frame[16, 26] = 255  # ten pixels to the right of the centre
    place = np.asarray(relative_position.chromatic_aberration(frame, 0.2))[16] @ np.eye(3)
    found = (np.arange(33)[:, None] * place).sum(axis=0) / place.sum(axis=0)
    np.testing.assert_allclose(found - 16, [14, 12, 10], atol=0.3)


def dots(key):
    """Grey noise without texture: white spots at random."""
    spots = 255.0 * jax.random.bernoulli(key, 0.2, (48, 11, 11, 1))
    smooth = jnp.clip(jax.image.resize(spots, (48, 22, 22, 1), "cubic"), 0, 255)
    return clip_of(jnp.broadcast_to(smooth, (48, 22, 22, 3)))


@pytest.mark.parametrize(("color", "aberration", "at_chance"), [("keep", 0.15, False), ("drop", 0.15, True)])
def test_the_offset_of_colours_is_a_shortcut_that_dropping_them_takes_away(color, aberration, at_chance):
    task = dataclasses.replace(POSITION, color=color, aberration=aberration)
    accuracy = float(learned(options_of(task, channels=(8,)), dots, 150, rate=5e-3)["accuracy"])
    if at_chance:
        assert abs(accuracy - 1 / 8) < 0.06  # of 480 pairs
    else:
        assert accuracy > 0.4


# Colorization.


def test_lab_agrees_with_opencv_and_comes_back():
    primaries = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]], np.uint8)
    known = [[53.24, 80.09, 67.20], [87.73, -86.18, 83.18], [32.30, 79.19, -107.86], [100, 0, 0]]
    np.testing.assert_allclose(rgb_to_lab(primaries), known, atol=0.02)
    rgb = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    lab = np.asarray(rgb_to_lab(rgb))
    # OpenCV interpolates in a table of 33 values along every axis.
    np.testing.assert_allclose(lab, cv2.cvtColor(np.float32(rgb) / 255, cv2.COLOR_RGB2Lab), atol=0.5)
    np.testing.assert_allclose(lab_to_rgb(lab), rgb, atol=0.05)
    colorless = np.concatenate([lab[..., :1], np.zeros_like(lab[..., 1:])], axis=-1)
    np.testing.assert_allclose(same_lightness(rgb), lab_to_rgb(colorless), atol=0.05)
    grey = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    np.testing.assert_allclose(rgb_to_lab(grey)[:, 1:], 0, atol=1e-3)


def test_the_gamut_has_the_313_bins_of_the_paper():
    bins = gamut_bins()
    assert bins.shape == (313, 2)
    assert bins[0].tolist() == [-90, 50]  # the first and the last of the authors' released list
    assert bins[-1].tolist() == [100, 0]
    colors = np.asarray(rgb_to_lab(np.random.default_rng(0).integers(0, 256, (500, 3))))[:, 1:]
    distances = ((colors[:, None] - bins) ** 2).sum(axis=-1)
    found = np.asarray(colorization.nearest_bin(colors))
    np.testing.assert_allclose(distances[np.arange(500), found], distances.min(axis=1), atol=1e-3)
    assert np.sqrt(distances.min(axis=1)).max() < 7.1  # every colour lies between bins


def test_soft_encoding_is_a_gaussian_of_the_five_nearest_bins():
    colors = np.array([[3.0, -4.0], [61.0, 44.0]], np.float32)
    near, shares = colorization.soft_encoding(colors, 5, 5.0)
    for color, own, share in zip(colors, np.asarray(near), np.asarray(shares)):
        distances = ((gamut_bins() - color) ** 2).sum(axis=1)
        expected = np.argsort(distances)[:5]
        assert set(own) == set(expected)
        assert own[0] == expected[0]
        weights = np.exp(-distances[own] / 50)
        np.testing.assert_allclose(share, weights / weights.sum(), rtol=1e-4)


def test_rare_colours_weigh_more_and_weights_are_one_on_average():
    prior = jnp.array([0.9, 0.1, 0.0, 0.0])
    weights = np.asarray(colorization.rarity(prior, 0.5))
    unscaled = 1 / (0.5 * np.asarray(prior) + 0.5 / 4)
    np.testing.assert_allclose(weights, unscaled / (0.9 * unscaled[0] + 0.1 * unscaled[1]), rtol=1e-5)
    np.testing.assert_allclose(colorization.rarity(prior, 1.0), 1, rtol=1e-5)


def test_the_annealed_mean_goes_from_the_mean_to_the_mode():
    logits = jnp.zeros(313).at[7].set(1.0).at[200].set(0.5)
    bins = gamut_bins()
    share = np.exp(np.asarray(logits))
    np.testing.assert_allclose(colorization.annealed_mean(logits, 1.0), share @ bins / share.sum(), rtol=1e-3)
    np.testing.assert_allclose(colorization.annealed_mean(logits, 0.01), bins[7], atol=1e-3)


RED, BLUE = (220.0, 60.0, 60.0), (86.0, 106.0, 235.0)
"""Of about the same lightness, which therefore does not tell them apart."""


def stripes(key, colored_by_direction=True):
    """Stripes across are red and stripes down are blue, or at random."""
    direction_key, other_key, shade_key = jax.random.split(key, 3)
    down = jax.random.bernoulli(direction_key, 0.5, (48, 1, 1, 1))
    red = ~down if colored_by_direction else jax.random.bernoulli(other_key, 0.5, (48, 1, 1, 1))
    row, column = (x[None, ..., None] for x in jnp.mgrid[:8, :8])
    bright = jnp.where(down, column, row) % 4 < 2
    shade = jax.random.uniform(shade_key, (48, 8, 8, 1), minval=0.7, maxval=1.0)
    return clip_of(jnp.where(red, jnp.array(RED), jnp.array(BLUE)) * jnp.where(bright, shade, 0.6 * shade))


def test_colours_that_shapes_decide_are_learned_and_others_are_not():
    losses = []
    for by_direction in (True, False):
        made = functools.partial(stripes, colored_by_direction=by_direction)
        losses.append(float(learned(options_of(ColorizationOptions(rebalance=1.0)), made, 100)["loss"]))
    # Of two colours that are equally frequent and equally light; all pixels weigh the same.
    assert losses[1] - losses[0] == pytest.approx(np.log(2), abs=0.1)


def test_training_keeps_the_distribution_of_colours_and_the_encoder_sees_none():
    model = nnx.jit(lambda: PretextModel(options_of(ColorizationOptions()), (1, 8, 8, 3), rngs=nnx.Rngs(0)))()
    clip = stripes(jax.random.key(0))
    np.testing.assert_allclose(model.task.prior(), 1 / 313)

    @nnx.jit
    def loss(model, clip):
        return model.loss(clip, keys_of(48))[0]

    loss(model, clip)
    prior = np.asarray(model.task.prior())
    np.testing.assert_allclose(prior.sum(), 1, rtol=1e-4)
    true = np.asarray(rgb_to_lab(np.asarray(clip.frames)))[..., 1:].reshape(-1, 2).mean(axis=0)
    np.testing.assert_allclose(model.task.mean_color(), true, rtol=0.05, atol=2)
    assert prior[np.asarray(colorization.nearest_bin(true))] < 0.05  # between red and blue there is nothing
    features = model.features(clip.frames[:2])
    grey = same_lightness(clip.frames[:2])
    np.testing.assert_allclose(features, model.features(grey), rtol=1e-3, atol=1e-3)


# Exemplar networks.


def test_the_triplet_loss_takes_the_nearest_negative_that_is_further_than_the_positive():
    rng = np.random.default_rng(0)
    one, other = (np.array(exemplar.unit(jnp.asarray(rng.normal(size=(6, 3)), jnp.float32))) for _ in range(2))
    other[0] = -one[0]  # nothing is further from the first anchor than its own positive
    losses = []
    for i in range(6):
        distances = ((one[i] - other) ** 2).sum(axis=1)
        others = np.delete(distances, i)
        further = others[others > distances[i]]
        negative = further.min() if len(further) else others.max()
        losses.append(max(distances[i] - negative + 0.5, 0))
    loss, _ = exemplar.triplet_loss(one, other, 0.5)
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, rtol=1e-5)  # every embedding, not every axis


def images(key, same=False):
    """Eight images of noise, each a class; or always the same one, whatever the class."""
    whole = jax.random.uniform(jax.random.key(9), (8, 4, 4, 3), maxval=255.0)
    whole = jax.image.resize(whole, (8, 12, 12, 3), "nearest")
    classes = jax.random.randint(key, (48,), 0, 8)
    return clip_of(whole[jnp.zeros_like(classes) if same else classes], classes)


def test_images_are_told_apart_by_their_views_and_copies_are_not():
    task = ExemplarOptions(num_images=8)
    assert float(learned(options_of(task), images, 100)["accuracy"]) > 0.5
    same = learned(options_of(task), functools.partial(images, same=True), 40)
    assert abs(float(same["accuracy"]) - 1 / 8) < 0.06


def test_triplets_bring_views_of_an_image_together():
    whole = jax.image.resize(
        jax.random.uniform(jax.random.key(8), (48, 3, 3, 3), maxval=255.0), (48, 8, 8, 3), "nearest"
    )
    task = ExemplarOptions(form="triplet", embedding=16)
    accuracy = [float(learned(options_of(task), lambda key: clip_of(whole), steps)["accuracy"]) for steps in (0, 80)]
    assert accuracy[1] > accuracy[0] + 0.1  # chance is 1/48


def test_views_differ_from_each_other_and_stay_in_range():
    frames = np.random.default_rng(0).integers(0, 256, (1, 12, 12, 3)).astype(np.uint8)
    views = jax.vmap(lambda key: exemplar.view_of(ExemplarOptions(), key, frames))(keys_of(40))
    assert views.shape == (40, 12, 12, 3)
    assert views.min() >= 0
    assert views.max() <= 255
    grey = np.ptp(np.asarray(views), axis=-1).max(axis=(1, 2)) < 1e-3
    assert 3 < grey.sum() < 25  # 0.3 of 40
    assert len(np.unique(np.asarray(views).reshape(40, -1), axis=0)) == 40


# What all share.


def test_parts_of_frames_are_encoded_with_the_positions_of_the_upper_left():
    encoder = ViTOptions(16, 1, 2, patch=4)
    model = nnx.jit(
        lambda: PretextModel(PretextOptions(RelativePositionOptions(4), encoder), (1, 16, 16, 3), rngs=nnx.Rngs(0))
    )()
    frames = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
    assert model.encode(frames).shape == (2, 4, 4, 16)
    part = model.encode(frames[:, :8, :12])
    assert part.shape == (2, 2, 3, 16)
    patches = frames[:, :8, :12].reshape(2, 2, 4, 3, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 6, -1)
    own = model.encoder
    places = jnp.asarray(own.positions())[jnp.array([0, 1, 2, 4, 5, 6])]
    tokens = own.norm(own.transformer(own.embed(model.pixels.normalize(patches)) + places))
    np.testing.assert_allclose(part.reshape(2, 6, 16), tokens, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("task", "shape", "field"),
    [
        (RelativePositionOptions(patch=8, gap=1, jitter=1), (1, 27, 40, 3), "patch"),
        (RelativePositionOptions(patch=0), (1, 28, 28, 3), "patch"),
        (RelativePositionOptions(jitter=-1), (1, 28, 28, 3), "jitter"),
        (RelativePositionOptions(color="drop"), (1, 28, 28, 1), "color"),
        (RelativePositionOptions(color="grey"), (1, 28, 28, 3), "color"),
        (RelativePositionOptions(color="keep", aberration=0.1), (1, 28, 28, 1), "aberration"),
        (ColorizationOptions(), (1, 28, 28, 1), "kind"),
        (ColorizationOptions(neighbors=400), (1, 28, 28, 3), "neighbors"),
        (ColorizationOptions(sigma=0.0), (1, 28, 28, 3), "sigma"),
        (ColorizationOptions(rebalance=0.0), (1, 28, 28, 3), "rebalance"),
        (ColorizationOptions(temperature=0.0), (1, 28, 28, 3), "temperature"),
        (ExemplarOptions(form="pairs"), (1, 28, 28, 3), "form"),
        (ExemplarOptions(num_images=1), (1, 28, 28, 3), "num_images"),
        (ExemplarOptions(crop_scale=(0.5, 1.5)), (1, 28, 28, 3), "crop_scale"),
        (ExemplarOptions(contrast=0.5), (1, 28, 28, 3), "contrast"),
        (ExemplarOptions(grey=1.5), (1, 28, 28, 3), "grey"),
        (ExemplarOptions(margin=-0.5), (1, 28, 28, 3), "margin"),
    ],
)
def test_a_task_that_cannot_work_names_its_field(task, shape, field):
    with pytest.raises(ConfigError) as caught:
        TASKS[type(task)].check(options_of(task), shape)
    assert caught.value.field == f"config.model.task.{field}"


def test_patches_must_be_whole_ones_of_a_transformer():
    options = PretextOptions(RelativePositionOptions(patch=6), ViTOptions(16, 1, 2, patch=4))
    with pytest.raises(ConfigError) as caught:
        relative_position.RelativePosition.check(options, (1, 28, 28, 3))
    assert caught.value.field == "config.model.task.patch"
