"""Labels that are copied through a video, against plain loops; baselines where they are right and where not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from world_models.core.errors import UserError
from world_models.metrics.segmentation import segmentation
from world_models.nn.pointer import point
from world_models.probes.options import PropagationOptions
from world_models.probes.propagation import follow, propagate
from world_models.probes.propagation_baselines import BASELINES, identity, nearest_color, optical_flow


def slow_propagate(features, first, options):
    """Frame by frame, place by place."""
    time, height, width, _ = features.shape
    grid = [(y, x) for y in range(height) for x in range(width)]
    labels = [np.asarray(first, float)]
    for t in range(1, time):
        now = np.zeros_like(labels[0])
        for y, x in grid:
            pairs = [(features[0][p], labels[0][p]) for p in grid]
            for s in range(max(1, t - options.context), t):
                far = options.radius or 99
                pairs += [(features[s][q], labels[s][q]) for q in grid if np.hypot(q[0] - y, q[1] - x) <= far]
            scores = np.array([features[t][y, x] @ key for key, _ in pairs]) / options.temperature
            best = np.argsort(-scores)[: options.top_k or None]
            weights = np.exp(scores[best] - scores[best].max())
            now[y, x] = sum(w * pairs[i][1] for w, i in zip(weights / weights.sum(), best))
        labels.append(now)
    return np.stack(labels)


@pytest.mark.parametrize("options", [(2, 0.5, 0, 0), (2, 0.1, 3, 0), (3, 0.3, 4, 1), (0, 0.2, 2, 0)])
def test_propagation_is_what_plain_loops_find(options):
    rng = np.random.default_rng(0)
    features, first = rng.normal(size=(5, 3, 4, 6)).astype(np.float32), rng.dirichlet([1, 1, 1], (3, 4))
    options = PropagationOptions(*options)
    np.testing.assert_allclose(
        propagate(features, first, options), slow_propagate(features, first, options), rtol=2e-4, atol=1e-5
    )


def test_a_pointer_looks_only_where_it_may():
    values = jnp.eye(3)
    keys = jnp.array([[5.0], [1.0], [0.0]])
    allowed = jnp.array([[False, True, True]])
    for top_k in (0, 1):
        found = point(jnp.ones((1, 1)), keys, values, temperature=0.05, top_k=top_k, allowed=allowed)
        np.testing.assert_allclose(found, [[0, 1, 0]], atol=1e-6)


def moving_squares(time=6, size=32):
    """(colour frames, masks) of a red and a green textured square that move on a dark ground."""
    rng = np.random.default_rng(0)
    texture = rng.integers(100, 255, (2, 10, 10)).astype(np.uint8)
    frames, masks = np.zeros((time, size, size, 3), np.uint8), np.zeros((time, size, size), np.uint8)
    for t in range(time):
        for number, (y, x) in enumerate([(2 + 2 * t, 3), (18, 20 - 2 * t)]):
            frames[t, y : y + 10, x : x + 10, number] = texture[number]
            masks[t, y : y + 10, x : x + 10] = number + 1
    return frames, masks


def test_features_that_name_the_object_carry_its_mask_along():
    _, masks = moving_squares()
    carried = jax.jit(follow, static_argnums=(2, 3))
    features = np.eye(3, dtype=np.float32)[masks[:, ::2, ::2]]
    with pytest.raises(UserError, match="do not divide"):
        carried(features, masks[0, :30], 2, PropagationOptions())
    found = carried(features, masks[0, ::2, ::2], 2, PropagationOptions(top_k=1))
    np.testing.assert_array_equal(found, masks[:, ::2, ::2])
    assert segmentation(carried(features, masks[0], 2, PropagationOptions()), masks).j > 0.9  # a map of half the size


def test_baselines_know_what_they_should():
    frames, masks = moving_squares()
    scores = {name: segmentation(baseline(frames, masks[0]), masks).j for name, baseline in BASELINES.items()}
    assert scores["identity"] < 0.5
    assert scores["optical_flow"] > scores["identity"] + 0.2
    assert scores["nearest_color"] > 0.95  # colours tell everything here
    still = np.repeat(frames[:1], 6, axis=0)
    for baseline in (identity, optical_flow, nearest_color):
        np.testing.assert_array_equal(baseline(still, masks[0]), np.repeat(masks[:1], 6, axis=0))
    grey = frames.max(axis=-1, keepdims=True)
    assert optical_flow(grey, masks[0]).shape == nearest_color(grey, masks[0]).shape == masks.shape
