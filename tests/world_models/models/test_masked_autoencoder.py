"""The masked autoencoder: patches, masks, targets, and that removed patches do not reach the encoder."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from world_models.core.errors import UserError
from world_models.core.types import Clip
from world_models.models.masked_autoencoder import masking, targets
from world_models.models.masked_autoencoder.classifier import Classifier, learning_rate_factors
from world_models.models.masked_autoencoder.model import MaskedAutoencoder
from world_models.models.masked_autoencoder.options import MaskedAutoencoderOptions
from world_models.nn.options import PixelOptions, TransformerOptions
from world_models.nn.patches import line_positions, patchify, unpatchify
from world_models.nn.transformer import drop_path

SMALL = TransformerOptions(width=16, depth=2, heads=2)
IMAGE = MaskedAutoencoderOptions(SMALL, SMALL, patch=4, pixels=PixelOptions((0.3, 0.4, 0.5), (0.2, 0.3, 0.25)))
VIDEO = dataclasses.replace(IMAGE, tubelet=2, masking="tube", class_token=False, positions="line", mask_ratio=0.5)


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def frames_of(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def build(options=IMAGE, shape=(1, 16, 16, 3)):
    return nnx.jit(lambda: MaskedAutoencoder(options, shape, rngs=nnx.Rngs(0)))()


predict = nnx.jit(lambda model, frames, indices: model.predict(frames, indices))


def test_patches_hold_time_row_column_channel_in_this_order_and_unpatchify_inverts():
    frames = frames_of((2, 4, 6, 9, 3))
    patches = patchify(frames, 3, 2)
    assert patches.shape == (2, 2 * 2 * 3, 2 * 3 * 3 * 3)
    expected = frames[1, 2:4, 3:6, 6:9].reshape(-1)  # the second slice of time, second row, third column
    np.testing.assert_array_equal(patches[1, 1 * 6 + 1 * 3 + 2], expected)
    np.testing.assert_array_equal(unpatchify(patches, (2, 2, 3), 3, 2), frames)


def test_line_positions_are_interleaved_sines_and_cosines():
    table = line_positions(5, 6)
    for position in range(5):
        for pair in range(3):
            angle = position / 10_000 ** (2 * pair / 6)
            np.testing.assert_allclose(
                table[position, 2 * pair : 2 * pair + 2], [np.sin(angle), np.cos(angle)], atol=1e-6
            )


@pytest.mark.parametrize(
    ("kind", "ratio", "grid", "visible"),
    [
        ("random", 0.75, (1, 14, 14), 49),
        ("random", 0.9, (8, 14, 14), 156),  # MAE-ST: the whole part of 156.8
        ("tube", 0.9, (8, 14, 14), 8 * 20),  # VideoMAE: 176 of 196 are removed
        ("frame", 0.875, (8, 14, 14), 196),
        ("grid", 0.75, (1, 14, 14), 49),
    ],
)
def test_counts_are_those_of_the_papers(kind, ratio, grid, visible):
    assert masking.num_visible(kind, ratio, grid) == visible


@pytest.mark.parametrize(
    ("kind", "ratio", "grid"), [("random", 0.999, (1, 4, 4)), ("random", 0.0, (1, 4, 4)), ("tube", 0.01, (2, 4, 4))]
)
def test_ratios_without_visible_or_removed_patches_raise(kind, ratio, grid):
    with pytest.raises(UserError, match=r"config\.model\.mask_ratio"):
        masking.num_visible(kind, ratio, grid)
    with pytest.raises(UserError, match=r"config\.model\.masking"):
        masking.num_visible("squares", 0.5, (1, 4, 4))


def removed(kind, ratio, grid, count=64, seed=0):
    """Bool [count, *grid], true where patches are removed."""
    indices = np.asarray(masking.order(kind, keys(count, seed), grid))
    np.testing.assert_array_equal(np.sort(indices, axis=1), np.tile(np.arange(np.prod(grid)), (count, 1)))
    gone = np.zeros(indices.shape, bool)
    np.put_along_axis(gone, indices[:, masking.num_visible(kind, ratio, grid) :], True, axis=1)
    return gone.reshape(count, *grid)


@pytest.mark.parametrize("kind", masking.KINDS)
def test_masks_differ_between_examples_and_depend_on_their_own_key_alone(kind):
    grid = (4, 6, 6)
    indices = masking.order(kind, keys(8), grid)
    assert len({tuple(row) for row in np.asarray(indices).tolist()}) > 2  # of whole frames there are only 4! orders
    for i in (0, 5):
        np.testing.assert_array_equal(masking.order(kind, keys(8)[i : i + 1], grid)[0], indices[i])


def test_random_masking_removes_every_patch_equally_often():
    share = removed("random", 0.75, (1, 6, 6), count=2000).mean(axis=(0, 1))
    np.testing.assert_allclose(share, 0.75, atol=5 * np.sqrt(0.75 * 0.25 / 2000))


def test_tubes_are_the_same_at_all_times_and_frames_are_removed_whole():
    tubes = removed("tube", 0.75, (4, 6, 6))
    np.testing.assert_array_equal(tubes, np.broadcast_to(tubes[:, :1], tubes.shape))
    assert (tubes[:, 0].sum(axis=(1, 2)) == 27).all()
    frames = removed("frame", 0.5, (4, 6, 6)).reshape(64, 4, 36).mean(axis=-1)
    assert set(np.unique(frames)) == {0.0, 1.0}
    assert (frames.sum(axis=1) == 2).all()


def test_the_grid_keeps_one_patch_of_every_four():
    gone = removed("grid", 0.75, (1, 6, 6))
    assert not gone[:, 0, ::2, ::2].any()
    assert gone.sum() == 64 * 27


def test_blocks_are_more_connected_than_chance():
    def neighbours(gone):
        gone = gone[:, 0]
        pairs = (gone[:, 1:] & gone[:, :-1]).sum() + (gone[:, :, 1:] & gone[:, :, :-1]).sum()
        return pairs / gone.sum()

    assert neighbours(removed("block", 0.5, (1, 14, 14))) > 1.5 * neighbours(removed("random", 0.5, (1, 14, 14)))
    assert (removed("block", 0.5, (1, 14, 14)).sum(axis=(1, 2, 3)) == 98).all()


def test_normalized_targets_are_those_of_the_papers():
    patches = np.random.default_rng(0).normal(0.4, 0.2, (2, 5, 12)).astype(np.float32)
    x = patches.astype(np.float64)
    whole = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, ddof=1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(targets.target("patch_normalized", patches, 3), whole, atol=1e-5)
    channels = x.reshape(2, 5, 4, 3)
    each = (channels - channels.mean(2, keepdims=True)) / (channels.std(2, ddof=1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(targets.target("channel_normalized", patches, 3), each.reshape(x.shape), atol=1e-5)
    np.testing.assert_array_equal(targets.target("pixels", patches, 3), patches)
    for kind in targets.KINDS:
        back = targets.to_pixels(kind, targets.target(kind, patches, 3), patches, 3)
        np.testing.assert_allclose(back, patches, atol=1e-5)


def test_the_principal_subspace_is_that_of_an_exact_decomposition():
    rng = np.random.default_rng(0)
    patches = (rng.normal(size=(4, 50, 3)) @ rng.normal(size=(3, 8)) + 0.01 * rng.normal(size=(4, 50, 8))).astype("f4")
    basis = np.asarray(targets.principal_subspace(patches, 3))
    flat = patches.reshape(-1, 8).astype(np.float64)
    _, _, rows = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
    np.testing.assert_allclose(basis @ basis.T, rows[:3].T @ rows[:3], atol=1e-4)


def test_all_principal_components_are_as_good_as_pixels():
    frames, indices = frames_of((3, 1, 16, 16, 3)), masking.order("random", keys(3), (1, 4, 4))
    loss = lambda **change: build(dataclasses.replace(IMAGE, **change)).loss_of(frames, indices)
    assert float(loss(target="pca", pca_components=48)) == pytest.approx(float(loss(target="pixels")), rel=1e-4)
    assert float(loss(target="pca", pca_components=4)) != pytest.approx(float(loss(target="pixels")), rel=1e-2)


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        (IMAGE, (1, 16, 16, 3)),
        (dataclasses.replace(IMAGE, encode_mask_tokens=True), (1, 16, 16, 3)),
        (VIDEO, (4, 16, 16, 3)),
        (dataclasses.replace(VIDEO, positions="separable", masking="random", class_token=True), (4, 16, 16, 3)),
    ],
    ids=["image", "mask tokens in the encoder", "video", "separable positions"],
)
def test_predictions_depend_on_what_is_visible_alone(options, shape):
    model = build(options, shape)
    frames = frames_of((2, *shape))
    indices = model.mask(keys(2))
    gone, filled = nnx.jit(lambda model, *inputs: model.reconstruct(*inputs))(model, frames, indices)
    gone, filled = np.asarray(gone), np.asarray(filled)
    assert gone.mean() == pytest.approx(1 - model.num_visible / model.num_patches)
    np.testing.assert_array_equal(filled[~gone], frames[~gone])
    predictions, patches = predict(model, frames, indices)
    assert predictions.shape == patches.shape == (2, model.num_patches - model.num_visible, patches.shape[-1])
    hidden = np.where(gone, frames_of(frames.shape, 1), frames)
    np.testing.assert_array_equal(predict(model, hidden, indices)[0], predictions)
    assert np.abs(np.asarray(predict(model, 255 - frames, indices)[0]) - np.asarray(predictions)).max() > 1e-3
    # The targets are the removed patches, normalized by the data's mean and deviation, in the order of `indices`.
    normalized = (frames / 255 - np.array(options.pixels.mean)) / np.array(options.pixels.std)
    expected = np.take_along_axis(
        patchify(normalized, options.patch, options.tubelet), np.asarray(indices)[..., None], axis=1
    )[:, model.num_visible :]
    np.testing.assert_allclose(patches, expected, atol=1e-5)


def test_predictions_depend_on_positions_of_patches_not_on_their_order():
    """Moving two visible patches changes predictions, reordering how visible ones are listed does not."""
    model, frames = build(), frames_of((1, 1, 16, 16, 3))
    indices = np.asarray(model.mask(keys(1)))
    first = np.asarray(predict(model, frames, indices)[0])
    swapped = indices.copy()
    swapped[:, [0, 1]] = indices[:, [1, 0]]
    np.testing.assert_allclose(predict(model, frames, swapped)[0], first, atol=1e-5)
    patches = patchify(frames, 4).copy()
    patches[:, indices[0, [0, 1]]] = patches[:, indices[0, [1, 0]]]
    moved = unpatchify(patches, model.grid, 4)
    assert np.abs(np.asarray(predict(model, moved, indices)[0]) - first).max() > 1e-3


def test_features_are_the_mean_patch_token_or_the_class_token():
    model, frames = build(), frames_of((2, 1, 16, 16, 3))
    tokens = np.asarray(model.tokens(frames))
    assert tokens.shape == (2, 17, 16)
    np.testing.assert_allclose(model.features(frames), tokens[:, 1:].mean(axis=1), atol=1e-6)
    np.testing.assert_array_equal(model.features(frames, "class"), tokens[:, 0])


def test_every_parameter_learns():
    model = build(dataclasses.replace(VIDEO, positions="separable", class_token=True), (4, 16, 16, 3))
    frames = frames_of((4, 4, 16, 16, 3))
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    clip = Clip(frames, None, None, None, None, None)
    grads = jax.grad(lambda p: nnx.merge(graphdef, p, rest).loss(clip, keys(4))[0])(params)
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        assert float(jnp.abs(grad).max()) > 0, path


def test_drop_path_keeps_the_mean_and_leaves_the_first_block_alone():
    gates = np.asarray(drop_path(keys(4000), 0.5, 3))
    assert gates.shape == (3, 2, 4000)
    np.testing.assert_array_equal(gates[0], 1)
    np.testing.assert_allclose(np.unique(gates[2]), [0, 2])
    np.testing.assert_allclose(gates.mean(axis=-1), 1, atol=0.07)


def test_layers_learn_at_the_rates_of_the_paper():
    classifier = Classifier(build(), 5, rngs=nnx.Rngs(0))
    params = nnx.as_pure(nnx.split(classifier, nnx.Param, ...)[1])
    assert nnx.eval_shape(lambda own, frames: own(frames), classifier, frames_of((2, 1, 16, 16, 3))).shape == (2, 5)
    factors = learning_rate_factors(params, 2, 0.5)
    encoder = factors["backbone"]["encoder"]
    assert float(encoder["embed"]["kernel"]) == float(encoder["class_token"]) == 0.125
    np.testing.assert_allclose(np.ravel(encoder["transformer"]["blocks"]["mlp"]["up"]["kernel"]), [0.25, 0.5])
    assert float(factors["head"]["kernel"]) == float(encoder["norm"]["scale"]) == 1.0
    partial = learning_rate_factors(params, 2, 1.0, trained_blocks=1)["backbone"]["encoder"]
    assert float(partial["embed"]["kernel"]) == 0.0
    np.testing.assert_allclose(np.ravel(partial["transformer"]["blocks"]["norm1"]["scale"]), [0.0, 1.0])


def test_dropping_all_branches_leaves_the_embedding():
    model, frames = build(), frames_of((2, 1, 16, 16, 3))
    without = nnx.jit(lambda model, *inputs: model.tokens(*inputs))(model, frames, jnp.zeros((2, 2, 2)))
    embedded = model.encoder.embed(model.normalized(model.patches(frames)))
    expected = model.encoder.norm(embedded + jnp.asarray(model.encoder.positions()))
    np.testing.assert_allclose(without[:, 1:], expected, atol=1e-5)
