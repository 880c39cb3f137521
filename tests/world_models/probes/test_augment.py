"""Augmentations against Pillow, areas counted by hand, and settings at which they must do nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from world_models.core.errors import UserError
from world_models.probes import augment, rand_augment
from world_models.probes.rand_augment import RandAugment


@pytest.fixture
def frames():
    """Float clips [4, 2, 12, 16, 3] in 0..1, smooth enough to resize."""
    return np.random.default_rng(0).uniform(size=(4, 2, 12, 16, 3)).astype(np.float32)


@pytest.fixture
def pictures():
    """uint8 clips [2, 20, 24, 3] of noise on a ramp."""
    rng = np.random.default_rng(1)
    clip = np.linspace(20, 230, 24)[:, None] + rng.normal(0, 8, (2, 20, 24, 3)) + [0, 10, -15]
    return clip.clip(0, 255).astype(np.uint8)


def test_crop_of_everything_is_the_identity(frames):
    square = frames[:, :, :, :12]
    got = augment.random_resized_crop(jax.random.key(0), square, scale=(1, 1), ratio=(1, 1))
    np.testing.assert_allclose(got, square, atol=1e-5)
    # A ratio that cannot fit falls back to the whole frame.
    got = augment.random_resized_crop(jax.random.key(0), frames, scale=(1, 1), ratio=(1, 1))
    np.testing.assert_allclose(got, frames, atol=1e-5)


@pytest.mark.parametrize("size", [None, (5, 7)])
def test_crop_equals_pillows_bicubic_of_the_same_box(frames, monkeypatch, size):
    monkeypatch.setattr(augment, "_box", lambda *_: (jnp.array([5.0, 7.5]), jnp.array(True)))
    key = jax.random.key(2)
    got = np.asarray(augment.random_resized_crop(key, frames, size=size))
    corners = [jax.random.uniform(jax.random.split(k)[1], (2,)) for k in jax.random.split(key, 4)]
    for clip, result, corner in zip(frames, got, np.array(corners) * (12 - 5, 16 - 7.5)):
        edges = (corner[1], corner[0], corner[1] + 7.5, corner[0] + 5)
        for frame, resized in zip(clip, result):
            for channel in range(3):
                image = Image.fromarray(frame[..., channel])
                expected = image.resize((size or (12, 16))[::-1], Image.Resampling.BICUBIC, edges)
                np.testing.assert_allclose(resized[..., channel], np.asarray(expected), atol=1e-5)


def test_boxes_have_the_asked_area_and_ratio():
    keys = jax.random.split(jax.random.key(0), 2000)
    boxes, fits = jax.vmap(lambda key: augment._box(key, 30, 40, (0.2, 0.9), (0.75, 4 / 3)))(keys)
    assert bool(fits.all())
    area, ratio = np.asarray(boxes[:, 0] * boxes[:, 1]) / 1200, np.asarray(boxes[:, 1] / boxes[:, 0])
    assert 0.2 <= area.min() < 0.22
    assert 0.85 < area.max() <= 0.9001
    assert 0.7499 <= ratio.min() < 0.77
    assert 1.3 < ratio.max() <= 1.3334
    assert (boxes <= np.array([30, 40])).all()


def test_flip_mirrors_whole_clips_and_only_in_width(frames):
    np.testing.assert_array_equal(augment.random_flip(jax.random.key(0), frames, 1.0), frames[:, :, :, ::-1])
    np.testing.assert_array_equal(augment.random_flip(jax.random.key(0), frames, 0.0), frames)
    many = np.tile(frames, (100, 1, 1, 1, 1))
    got = np.asarray(augment.random_flip(jax.random.key(1), many))
    flipped = (got == many[:, :, :, ::-1]).all((1, 2, 3, 4))
    assert (flipped | (got == many).all((1, 2, 3, 4))).all()
    assert 150 < flipped.sum() < 250


def test_erase_leaves_one_box_of_noise_in_a_quarter_of_the_clips():
    clips = jnp.full((400, 2, 16, 16, 1), 100.0)
    got = np.asarray(augment.random_erase(jax.random.key(0), clips, mean=-5.0, deviation=2.0))
    erased = got[(got != 100).any((1, 2, 3, 4))]
    assert 70 < len(erased) < 130
    for clip in erased:
        changed = clip[..., 0] != 100
        np.testing.assert_array_equal(changed[0], changed[1])
        rows, columns = np.flatnonzero(changed[0].any(1)), np.flatnonzero(changed[0].any(0))
        assert changed[0].sum() == len(rows) * len(columns)  # a full box
        assert np.ptp(rows) == len(rows) - 1
        assert np.ptp(columns) == len(columns) - 1
        assert 0 < changed[0].mean() < 0.37
        assert not np.array_equal(clip[0], clip[1])  # noise is fresh
    reached = (erased != 100).any((0, 1, 4))
    assert reached.any(0).all()  # boxes reach every border
    assert reached.any(1).all()
    noise = erased[erased != 100]
    assert noise.mean() == pytest.approx(-5, abs=0.1)
    assert noise.std() == pytest.approx(2, abs=0.1)


def mixed(seed, mixup_alpha, cutmix_alpha, smoothing=0.0):
    """Two clips, one all 0 and one all 1, so that a pixel tells how much of the other is in it."""
    clips = jnp.stack([jnp.zeros((2, 10, 14, 1)), jnp.ones((2, 10, 14, 1))])
    return [
        np.asarray(x)
        for x in augment.mixup_cutmix(jax.random.key(seed), clips, jnp.eye(2, 5), mixup_alpha, cutmix_alpha, smoothing)
    ]


def test_mixup_blends_pixels_and_labels_by_one_lambda():
    shares = []
    for seed in range(20):
        clips, labels = mixed(seed, 0.8, 0.0)
        shares.append(clips[0].mean())
        np.testing.assert_allclose(clips[0], shares[-1], atol=1e-6)
        np.testing.assert_allclose(clips[1], 1 - shares[-1], atol=1e-6)
        np.testing.assert_allclose(
            labels[:, :2], [[1 - shares[-1], shares[-1]], [shares[-1], 1 - shares[-1]]], atol=1e-5
        )
    assert np.std(shares) > 0.2  # Beta(0.8, 0.8) has a deviation of 0.31


def test_cutmix_labels_are_the_area_of_the_box():
    areas = []
    for seed in range(40):
        clips, labels = mixed(seed, 0.0, 1.0)
        inside = clips[0, 0, ..., 0]
        assert set(np.unique(inside)) <= {0.0, 1.0}
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        assert inside.sum() == len(rows) * len(columns)
        np.testing.assert_array_equal(clips[0, 0], clips[0, 1])
        np.testing.assert_array_equal(clips[1], 1 - clips[0])
        areas.append(inside.mean())
        assert labels[0, 1] == pytest.approx(inside.mean(), abs=1e-6)
        assert labels[1, 0] == pytest.approx(inside.mean(), abs=1e-6)
    assert min(areas) < 0.1 < 0.5 < max(areas)


def test_mixing_switches_between_both_and_keeps_the_sum_of_labels():
    boxes = 0
    for seed in range(60):
        clips, labels = mixed(seed, 0.8, 1.0, smoothing=0.1)
        np.testing.assert_allclose(labels.sum(1), 1, atol=1e-6)
        assert labels.min() == pytest.approx(0.02, abs=1e-6)
        boxes += set(np.unique(clips)) <= {0.0, 1.0}
    assert 15 < boxes < 45


def test_no_alphas_leave_only_the_smoothing():
    clips, labels = mixed(0, 0.0, 0.0, smoothing=0.5)
    assert (clips[0] == 0).all()
    np.testing.assert_allclose(labels[0], [0.6, 0.1, 0.1, 0.1, 0.1], atol=1e-6)


def test_device_augmentations_compile_and_repeat(frames):
    def everything(key, frames):
        frames = augment.random_resized_crop(key, frames)
        frames = augment.random_erase(key, augment.random_flip(key, frames))
        return augment.mixup_cutmix(key, frames, jnp.eye(4))

    compiled = jax.jit(everything)
    first, second = compiled(jax.random.key(0), frames), compiled(jax.random.key(0), frames)
    jax.tree.map(np.testing.assert_array_equal, first, second)
    assert first[0].shape == frames.shape
    assert not np.allclose(first[0], compiled(jax.random.key(1), frames)[0])


def test_device_augmentations_refuse_what_cannot_work(frames):
    key = jax.random.key(0)
    for call, word in (
        (lambda: augment.random_flip(key, frames[0]), "frames are float32"),
        (lambda: augment.random_flip(key, frames.astype(np.uint8)), "frames are uint8"),
        (lambda: augment.random_flip(key, frames, 1.5), "probability=1.5"),
        (lambda: augment.random_resized_crop(key, frames, scale=(0.0, 1.0)), "scale="),
        (lambda: augment.random_resized_crop(key, frames, scale=(0.2, 1.1)), "scale=.* <= 1"),
        (lambda: augment.random_resized_crop(key, frames, ratio=(2.0, 1.0)), "ratio="),
        (lambda: augment.random_erase(key, frames, area=(0.5, 2.0)), "area="),
        (lambda: augment.mixup_cutmix(key, frames, jnp.eye(3)), "labels_onehot has shape"),
        (lambda: augment.mixup_cutmix(key, frames, jnp.eye(4), mixup_alpha=-1.0), "mixup_alpha=-1.0"),
        (lambda: augment.mixup_cutmix(key, frames, jnp.eye(4), smoothing=2.0), "smoothing=2.0"),
    ):
        with pytest.raises(UserError, match=word):
            call()


def test_rand_augment_repeats_by_seed_and_changes_a_clip_alike(pictures):
    still = np.stack([pictures[0]] * 2)
    results = [RandAugment()(still, seed) for seed in range(30)]
    for seed, result in enumerate(results):
        np.testing.assert_array_equal(result, RandAugment()(still, seed))
        np.testing.assert_array_equal(result[0], result[1])
        assert result.shape == still.shape
        assert result.dtype == np.uint8
    changed = sum(not np.array_equal(result, still) for result in results)
    assert 15 < changed < 30  # one in four is left alone: two operations, each applied every second time
    np.testing.assert_array_equal(RandAugment(probability=0.0)(still, 0), still)


def test_operations_at_level_zero_do_nothing_and_at_one_all_work(pictures):
    assert len(rand_augment.OPERATIONS) == 15
    one_strength = {"autocontrast", "equalize", "invert", "posterize"}  # posterising starts at four bits
    for name in rand_augment.OPERATIONS:
        for clip in (pictures, pictures[..., :1]):
            if name not in one_strength:
                np.testing.assert_array_equal(rand_augment.apply(name, clip, 0.0, 1), clip, err_msg=name)
            for sign in (-1, 1):
                strong = rand_augment.apply(name, clip, 1.0, sign)
                assert strong.shape == clip.shape
                if (name, clip.shape[-1]) != ("color", 1):
                    assert not np.array_equal(strong, clip), name


def test_geometric_operations_move_pixels_where_they_should():
    clip = np.full((1, 20, 20, 1), 128, np.uint8)
    clip[0, 10, 10] = 255
    where = lambda name, level, sign: np.argwhere(rand_augment.apply(name, clip, level, sign)[0, ..., 0] > 150).tolist()
    assert where("translate_x", 1 / 4.5, 1) == [[10, 8]]  # 0.1 of 20 pixels
    assert where("translate_x", 1 / 4.5, -1) == [[10, 12]]
    assert where("translate_y", 1 / 4.5, 1) == [[8, 10]]
    (row, column), *_ = where("shear_x", 1.0, 1)
    assert row == 10
    assert 6 <= column <= 8  # 0.3 of ten rows
    bright = rand_augment.apply("brightness", np.full((1, 4, 4, 3), 100, np.uint8), 0.5, -1)
    np.testing.assert_allclose(bright, 55, atol=1)  # 1 - 0.9 / 2
    np.testing.assert_array_equal(rand_augment.apply("posterize", clip, 0.75, 1)[0, 10, 10], 128)
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    added = rand_augment.apply("solarize_add", levels, 1.0, 1).ravel()
    np.testing.assert_array_equal(added, [v + 110 if v < 128 else v for v in range(256)])


def test_rand_augment_refuses_what_cannot_work(pictures):
    for options, word in (
        ({"num_ops": -1}, "num_ops=-1"),
        ({"magnitude": 11}, "magnitude=11"),
        ({"magnitude_std": -1}, "magnitude_std=-1"),
        ({"probability": 2}, "probability=2"),
    ):
        with pytest.raises(UserError, match=word):
            RandAugment(**options)
    for wrong in (pictures.astype(np.float32), pictures[0], pictures[..., :2]):
        with pytest.raises(UserError, match="frames are"):
            RandAugment()(wrong, 0)
