"""Masks that are recorded beside frames: which body every pixel shows, and how they get to clips."""

import cv2
import numpy as np
import pytest

from experiments.runs.recording import make_source
from world_models.core.errors import ConfigError
from world_models.data import rlds
from world_models.data.clips import Windows
from world_models.data.episodes import Episode, encode
from world_models.data.stored_episodes import Episodes
from world_models.environments import gymnasium as sources

BLOCK = {
    "source": "gymnasium", "environment": "TumblingObjects-v0", "policy": "random", "image_size": (48, 48),
    "environment_kwargs": {"width": 96, "height": 96}, "num_episodes": 1, "max_episode_steps": 8, "instances": True,
}  # fmt: skip


def decoded(pngs):
    return np.stack([cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED) for png in pngs])


def test_masks_are_where_a_change_of_an_objects_colour_is_seen():
    pytest.importorskip("mujoco", reason="pip install -e '.[robotics]' to test MuJoCo's masks")
    from world_models.environments.instances import instances

    environment = sources.make("TumblingObjects-v0", {"width": 96, "height": 96})
    try:
        environment.reset(seed=1)
        for _ in range(15):
            environment.step(np.zeros(2, np.float32))
        before, masks, after = environment.render(), instances(environment), environment.render()
        np.testing.assert_array_equal(before, after)  # looking changes nothing
        model, seen = environment.unwrapped.model, np.unique(masks)
        assert set(seen) <= {0, 1, 2, 3, 4}
        assert len(seen) >= 4
        for body in seen[1:]:
            own = model.geom_bodyid == body
            pictures = []
            for color in ([1, 0, 1], [0, 1, 0]):
                model.geom_rgba[own, :3] = color
                pictures.append(environment.render().astype(int))
            changed = np.abs(pictures[0] - pictures[1]).max(axis=-1) > 60
            both = np.count_nonzero(changed & (masks == body))
            assert both / np.count_nonzero(changed | (masks == body)) > 0.8  # but for antialiased edges
    finally:
        environment.close()


def test_a_recording_has_a_mask_for_every_frame():
    pytest.importorskip("mujoco", reason="pip install -e '.[robotics]' to test MuJoCo's masks")
    (episode,) = make_source(BLOCK).episodes(0)
    frames, masks = decoded(episode.images), decoded(episode.instances)
    assert frames.shape == (8, 48, 48, 3)
    assert masks.shape == (8, 48, 48)
    assert np.ptp(episode.actions, axis=0).min() > 0
    (again,) = make_source(BLOCK).episodes(0)
    assert episode.instances == again.instances


def test_environments_without_mujoco_cannot_have_masks():
    block = BLOCK | {"environment": "Careless-v0", "modules": ("odd_environments",), "environment_kwargs": {}}
    for observation in ("render", "observation"):
        with pytest.raises(ConfigError) as caught:
            make_source(block | {"observation": observation})
        assert caught.value.field == "config.record.instances"


def test_masks_go_through_the_data_set_to_clips(tmp_path):
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 5, (6, 16, 16, 1)).astype(np.uint8)
    frames = rng.integers(0, 256, (6, 16, 16, 3)).astype(np.uint8)
    png = lambda images, **how: [encode(image, (8, 8), **how) for image in images]
    episode = Episode(png(frames), np.zeros((6, 2), np.float32), np.zeros(6), False, png(masks, nearest=True))
    episode.save(tmp_path / "one")
    assert Episode.load(tmp_path / "one").instances == episode.instances
    action = {"kind": "continuous", "size": 2, "low": [-1, -1], "high": [1, 1]}
    about = rlds.Description((8, 8), action, "Masks.", {}, {}, instances=True)
    rlds.write(tmp_path / "data", tmp_path / "s", about, {"train": [rlds.Stored(0, tmp_path / "one", {"seed": 0})]})
    key = "observation/instances"
    clip = Windows(Episodes(str(tmp_path / "data"), "train", observation_keys=(key,)), 4).load(np.array([1]))
    stored = decoded(episode.instances)[None, 1:5]
    np.testing.assert_array_equal(clip.observations[key][..., 0], stored)
    assert {*np.unique(stored)} <= set(range(5))  # resizing makes no new numbers
    assert all(stored[0, 0, y, x] in masks[1, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2] for y in range(8) for x in range(8))
