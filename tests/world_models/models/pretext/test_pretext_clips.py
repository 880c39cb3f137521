"""What the pretext tasks of video draw from a clip."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from world_models.models.pretext import clips

KEYS = jax.random.split(jax.random.key(0), 400)


def numbered(time):
    """A clip whose frame t is full of 10·t."""
    return np.zeros((time, 4, 4, 1), np.uint8) + 10 * np.arange(time, dtype=np.uint8)[:, None, None, None]


def test_tuples_share_their_outer_frames_and_the_middle_one_decides():
    draw = jax.jit(jax.vmap(lambda key: clips.order_tuple(key, numbered(12), near=2, far=4, negatives=0.75)))
    frames, ordered = draw(KEYS)
    times = np.asarray(frames[:, :, 0, 0, 0], int) // 10
    first, middle, last = np.where(times[:, :1] < times[:, 2:], times, times[:, ::-1]).T
    np.testing.assert_array_equal(last - first, 4)
    inside = (middle > first) & (middle < last)
    np.testing.assert_array_equal(inside, np.asarray(ordered) == 1)
    np.testing.assert_array_equal(np.unique((middle - first)[~inside]), [-2, 6])
    np.testing.assert_array_equal(np.unique((middle - first)[inside]), [1, 2, 3])
    assert np.mean(ordered) == pytest.approx(0.25, abs=0.07)
    assert np.mean(times[:, 0] < times[:, 2]) == pytest.approx(0.5, abs=0.08)  # half are turned round
    assert set(first) == {2, 3, 4, 5}


def test_tuples_lie_where_most_moves():
    still = np.zeros((20, 4, 4, 1), np.uint8)
    still[12:, 0, 0] = 255  # the only change is from frame 11 to 12
    draw = jax.jit(jax.vmap(lambda key: clips.order_tuple(key, still, near=1, far=3, negatives=0.0)))
    frames, _ = draw(KEYS)
    assert np.mean(np.ptp(np.asarray(frames[:, :, 0, 0, 0]), axis=1) > 0) > 0.95  # of 16 places 3 have any motion


def test_static_clips_say_nothing_of_order_or_direction():
    still = clips.controlled(KEYS[0], numbered(12), "static")
    draw = lambda key: (clips.order_tuple(key, still, near=2, far=4, negatives=0.5)[0], clips.directed(key, still)[0])
    tuples, turned = jax.jit(jax.vmap(draw))(KEYS[:50])
    assert (tuples == tuples[:1]).all()
    assert (turned == turned[:1]).all()


def test_direction_is_the_label_and_a_symmetric_clip_has_none():
    clip = numbered(6)
    turned, backwards = jax.jit(jax.vmap(lambda key: clips.directed(key, clip)))(KEYS)
    np.testing.assert_array_equal(turned[:, 0, 0, 0, 0] > 0, backwards == 1)
    assert np.mean(backwards) == pytest.approx(0.5, abs=0.08)

    def both(key):
        one, other = jax.random.split(key)
        return clips.directed(one, clips.controlled(other, clip, "symmetric"))

    turned, backwards = jax.jit(jax.vmap(both))(KEYS)
    seen = np.asarray(turned[:, 0, 0, 0, 0] > 0)
    for label in (0, 1):  # either way round under either label
        assert np.mean(seen[np.asarray(backwards) == label]) == pytest.approx(0.5, abs=0.1)


def test_borders_are_blank_and_the_inside_is_not():
    frames = np.full((2, 8, 10, 3), 7, np.uint8)
    blank = np.asarray(clips.blank_border(frames, 2))
    assert (blank[:, 2:-2, 2:-2] == 7).all()
    assert blank.sum() == 2 * 4 * 6 * 3 * 7
    np.testing.assert_array_equal(clips.blank_border(frames, 0), frames)


def test_dropped_colours_are_the_mean_of_the_others_in_all_frames():
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 3, 3)).astype(np.uint8)
    dropped = np.asarray(jax.vmap(lambda key: clips.drop_colors(key, frames, 1.0))(KEYS[:60]))
    kept = np.isclose(dropped, frames).all(axis=(1, 2, 3))
    assert set(kept.sum(axis=1)) == {1, 2}
    for row, own in zip(dropped, kept):
        mean = frames[..., own].astype(float).mean(axis=-1, keepdims=True)
        np.testing.assert_allclose(row[..., ~own], np.broadcast_to(mean, row[..., ~own].shape), rtol=1e-5)
    np.testing.assert_array_equal(clips.drop_colors(KEYS[0], frames, 0.0), frames)


def test_k_means_finds_separate_clusters():
    rng = np.random.default_rng(0)
    centres = np.array([[0, 0], [10, 0], [0, 10], [10, 10.0]])
    points = (centres[:, None] + rng.normal(0, 0.5, (4, 30, 2))).reshape(-1, 2).astype(np.float32)
    found = clips.k_means(jnp.asarray(points), 4)
    labels = np.asarray(clips.nearest(points, found)).reshape(4, 30)
    assert (labels == labels[:, :1]).all()
    assert len(set(labels[:, 0])) == 4
    assert np.isfinite(clips.k_means(jnp.zeros((5, 2)), 4)).all()  # fewer colours than clusters
