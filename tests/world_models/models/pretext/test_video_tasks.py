"""The pretext tasks of video learn what clips tell, and stay at chance where clips tell nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from world_models.core.errors import ConfigError
from world_models.core.types import Clip
from world_models.models.latent_dynamics.options import CNNOptions
from world_models.models.pretext.color_tracking import ColorTracking
from world_models.models.pretext.lab import rgb_to_lab
from world_models.models.pretext.model import TASKS, PretextModel
from world_models.models.pretext.options import (
    ColorTrackingOptions,
    DirectionOptions,
    NextFrameOptions,
    OrderOptions,
    PretextOptions,
)
from world_models.nn.options import PixelOptions

SIDE, TIME = 16, 7


def options_of(task, channels=(8, 16)):
    return PretextOptions(task, CNNOptions(channels=channels, blocks=0), pixels=PixelOptions((0.1,), (0.3,)))


def squares(count, seed, friction=0.0, time=TIME, color=False):
    """uint8 clips of a bright square that crosses the frame; without friction either way round is as likely."""
    rng = np.random.default_rng(seed)
    clips = np.zeros((count, time, SIDE, SIDE, 3 if color else 1), np.uint8)
    travelled = np.cumsum([0.0, *(1 - friction) ** np.arange(time - 1)])
    share = travelled / travelled[-1]
    for clip in clips:
        line = rng.integers(1, SIDE - 6)
        ends = rng.permutation([1, SIDE - 6]) + rng.integers(0, 2, 2)
        for frame, place in zip(clip, np.rint(ends[0] + share * (ends[1] - ends[0])).astype(int)):
            frame[line : line + 4, place : place + 4] = rng.integers(60, 256, 3) if color else 255
        if color:  # one texture a clip, that moves along
            texture = rng.integers(40, 256, (4, 4, 3))
            for frame in clip:
                frame[frame.any(axis=-1)] = texture.reshape(-1, 3)
        if rng.random() < 0.5:
            clip[:] = clip.transpose(0, 2, 1, 3)
    return clips


def clip_of(frames):
    return Clip(frames, None, None, None, None, None)


OPTIMIZER = optax.adam(3e-3)
ROWS = 32


def learned(options, train, test, steps):
    """Held-out metrics of a task after some steps on `train`."""
    model = PretextModel(options, train.shape[1:], rngs=nnx.Rngs(0))
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    moments, rng = OPTIMIZER.init(params), np.random.default_rng(0)
    for i in range(steps):
        batch = train[rng.integers(0, len(train), ROWS)]
        params, moments = _step(graph, params, rest, moments, batch, jax.random.key(i))
    return _measure(graph, params, rest, test, jax.random.key(steps))


@functools.partial(jax.jit, static_argnums=0)
def _measure(graph, params, rest, frames, key):
    return nnx.merge(graph, params, rest).loss(clip_of(frames), jax.random.split(key, len(frames)))[1]


@functools.partial(jax.jit, static_argnums=0)
def _step(graph, params, rest, moments, frames, key):
    loss = lambda params: nnx.merge(graph, params, rest).loss(clip_of(frames), jax.random.split(key, ROWS))[0]
    updates, moments = OPTIMIZER.update(jax.grad(loss)(params), moments)
    return optax.apply_updates(params, updates), moments


def test_the_order_of_frames_is_learned():
    options = options_of(OrderOptions(near=1, far=4, hidden=32))
    assert learned(options, squares(256, 0), squares(256, 1), 120)["balanced_accuracy"] > 0.9


@pytest.mark.parametrize("task", [OrderOptions(control="static"), DirectionOptions(control="static")])
def test_static_clips_stay_at_chance(task):
    frames = squares(64, 0)
    model = PretextModel(options_of(task), frames.shape[1:], rngs=nnx.Rngs(0))
    one = np.repeat(frames[:1], 64, axis=0)  # of one clip, whatever the label: the same answer
    metrics = model.loss(clip_of(one), jax.random.split(jax.random.key(0), 64))[1]
    assert metrics["balanced_accuracy"] == 0.5


def planted(clips):
    """Clips in whose border, as codecs leave something in black bars, a line grows brighter."""
    clips = clips.copy()
    clips[:, :, 0] = (40 * np.arange(1, clips.shape[1] + 1))[:, None, None]
    return clips


def test_the_direction_of_time_is_learned_where_there_is_one():
    task, short = options_of(DirectionOptions(hidden=32), (8,)), functools.partial(squares, time=4)
    slowing = functools.partial(short, friction=0.5)
    assert learned(task, slowing(256, 0), slowing(256, 1), 100)["accuracy"] > 0.9
    found = learned(task, short(256, 0), short(256, 1), 100)["accuracy"]
    assert found == pytest.approx(0.5, abs=0.12)  # as likely the other way round
    train, test = planted(short(256, 0)), planted(short(256, 1))
    assert learned(task, train, test, 60)["accuracy"] > 0.95  # the shortcut
    blank = options_of(DirectionOptions(hidden=32, border=1), (8,))
    assert learned(blank, train, test, 60)["accuracy"] == pytest.approx(0.5, abs=0.12)  # removed


def test_colours_are_copied_from_where_things_were():
    options = options_of(ColorTrackingOptions(references=2, embedding=16, colors=8, temperature=0.1), channels=(16,))
    clips = functools.partial(squares, time=4, color=True)
    metrics = learned(options, clips(256, 0), clips(128, 1), 150)
    assert metrics["accuracy"] > metrics["copy_accuracy"] + 0.03
    assert metrics["accuracy"] > 0.9


def test_places_without_features_have_finite_gradients():
    task = ColorTracking(ColorTrackingOptions(embedding=4), 8, (8, 16, 16, 3), rngs=nnx.Rngs(0))
    gradient = jax.grad(lambda maps: jnp.sum(task.correspondence(maps)[..., 0]))(jnp.zeros((1, 2, 2, 8)))
    assert np.isfinite(gradient).all()


def test_a_frame_that_follows_is_predicted_better_than_by_the_last_one():
    task = NextFrameOptions(context=2, hidden=16)
    metrics = learned(options_of(task, channels=(16,)), squares(256, 0), squares(128, 1), 200)
    assert metrics["moving_gain"] > 0.4
    assert metrics["loss"] < 0.7 * metrics["copy_loss"]
    frames = squares(2, 0)
    model = PretextModel(options_of(task), frames.shape[1:], rngs=nnx.Rngs(0))
    drawn = model.task.pictures(model.encode, clip_of(jnp.asarray(frames)), None)
    np.testing.assert_array_equal(drawn["predicted"], frames[:, 1:2])  # untrained, it copies
    np.testing.assert_array_equal(drawn["next"], frames[:, 2:3])


def test_lab_of_known_colours():
    known = {(0, 0, 0): (0, 0, 0), (255, 255, 255): (100, 0, 0), (255, 0, 0): (53.24, 80.09, 67.20)}
    known[0, 0, 255] = (32.30, 79.19, -107.86)
    np.testing.assert_allclose(rgb_to_lab(np.array(list(known))), list(known.values()), atol=0.05)


@pytest.mark.parametrize(
    ("task", "shape", "field"),
    [
        (OrderOptions(near=2, far=4), (8, 16, 16, 3), "data.clip_length"),
        (OrderOptions(far=1), (8, 16, 16, 3), "model.task.far"),
        (OrderOptions(negatives=1.0), (8, 16, 16, 3), "model.task.negatives"),
        (OrderOptions(control="symmetric"), (8, 16, 16, 3), "model.task.control"),
        (DirectionOptions(), (1, 16, 16, 3), "data.clip_length"),
        (DirectionOptions(border=8), (8, 16, 16, 3), "model.task.border"),
        (DirectionOptions(control="odd"), (8, 16, 16, 3), "model.task.control"),
        (ColorTrackingOptions(), (3, 16, 16, 3), "data.clip_length"),
        (ColorTrackingOptions(), (8, 16, 16, 1), "model.task.kind"),
        (ColorTrackingOptions(inputs="colour"), (8, 16, 16, 3), "model.task.inputs"),
        (NextFrameOptions(), (3, 16, 16, 3), "data.clip_length"),
        (NextFrameOptions(hidden=0), (8, 16, 16, 3), "model.task.hidden"),
    ],
)
def test_what_cannot_work_names_the_field(task, shape, field):
    with pytest.raises(ConfigError) as caught:
        TASKS[type(task)].check(options_of(task), shape)
    assert caught.value.field == f"config.{field}"
