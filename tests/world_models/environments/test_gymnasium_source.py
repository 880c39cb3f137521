"""Recording from Gymnasium environments that reuse arrays, keep state, end early, or do not work."""

import cv2
import numpy as np
import odd_environments
import pytest

from experiments.runs.recording import make_source
from world_models.core.errors import ConfigError
from world_models.environments.policies import make_policy
from world_models.environments.replay import ReplayedTask, draw


def source(environment="Careless-v0", **fields):
    """A source of `odd_environments` or `toy_environment`."""
    block = {
        "source": "gymnasium", "environment": environment, "modules": ("odd_environments", "toy_environment"),
        "policy": "odd_environments:refill", "observation": "observation", "image_size": (8, 8), "num_episodes": 3,
        "max_episode_steps": 20,
    }  # fmt: skip
    return make_source(block | fields)


def frames(episode):
    """Frames of an episode, uint8 [time, h, w, 3] RGB."""
    return np.stack([cv2.imdecode(np.frombuffer(png, np.uint8), 1)[..., ::-1] for png in episode.images])


def play(source, unit=0):
    """The only episode of a unit."""
    (episode,) = source.episodes(unit)
    return episode


@pytest.mark.parametrize("repeat", [1, 2])
@pytest.mark.parametrize("observation", ["observation", "render"])
def test_what_is_recorded_does_not_change_with_the_arrays_it_came_in(repeat, observation):
    episode = play(source(environment_kwargs={"length": 6}, action_repeat=repeat, observation=observation))
    steps = 6 // repeat
    np.testing.assert_array_equal(episode.actions[:, 0], [*range(1, steps + 1), 0])
    seen = frames(episode)[:, 0, 0]
    np.testing.assert_array_equal(seen[:, 0], repeat * np.arange(steps + 1))
    np.testing.assert_array_equal(seen[:, 1], 10 * np.arange(steps + 1))  # each held step had the action as it was
    np.testing.assert_array_equal(episode.rewards, [*[repeat] * steps, 0])


def test_replayed_actions_and_infos_are_copies():
    recorded = source(environment_kwargs={"length": 9}, max_episode_steps=9)
    tasks, _ = draw(recorded, lambda observed, goal: observed is goal, 1, offset=4, num_steps=2, seed=3)
    np.testing.assert_array_equal(np.ravel(tasks[0].actions), 1.0 + np.arange(len(tasks[0].actions)))
    assert tasks[0].goal.frame[0, 0, 0] == tasks[0].start.frame[0, 0, 0] + 4
    task = ReplayedTask(recorded, recorded.make(), tasks[0]._replace(actions=[], start=None), lambda a, b: False)
    task._environment.reset()
    one, other = (task.step(np.ones(1, np.float32))[4]["t"] for _ in range(2))
    first = task.step(np.ones(1, np.float32))[4]
    task.step(np.ones(1, np.float32))
    assert (one, other, first["t"]) == (1, 2, 3)


def test_a_step_that_a_time_limit_cuts_short_is_left_out():
    limited = {"length": 100, "max_episode_steps": 7}
    episode = play(source(environment_kwargs=limited, action_repeat=3))
    np.testing.assert_array_equal(frames(episode)[:, 0, 0, 0], [0, 3, 6])
    np.testing.assert_array_equal(episode.rewards, [3, 3, 0])
    assert not episode.terminal
    with pytest.raises(ValueError, match=r"config.record.action_repeat=8"):
        play(source(environment_kwargs=limited, action_repeat=8))


def test_a_step_in_which_the_environment_ends_is_kept():
    episode = play(source(environment_kwargs={"length": 7}, action_repeat=3))
    np.testing.assert_array_equal(frames(episode)[:, 0, 0, 0], [0, 3, 6, 7])
    assert episode.terminal


def test_no_episode_depends_on_those_before_it():
    one = source()
    counts = [frames(play(one, unit))[0, 0, 0, 2] for unit in (0, 1, 2)]
    assert counts == [1, 1, 1]
    one = source(reuse_environment=True)
    assert [frames(play(one, unit))[0, 0, 0, 2] for unit in (0, 1, 2)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"environment_kwargs": {"wrong": "init"}}, "environment", "making 'Careless-v0' failed with RuntimeError"),
        ({"environment_kwargs": {"wrong": "reset"}}, "environment", "RuntimeError: no scene"),
        ({"environment": "OldReset-v0"}, "environment", "a reset failed with"),
        ({"environment": "OldReturn-v0"}, "environment", "a reset failed with"),
        ({"policy": "odd_environments:broken"}, "policy", "failed with KeyError"),
        ({"policy": "odd_environments:nan"}, "policy", "must be finite"),
        ({"environment": "Cameras-v0", "policy": "random"}, "observation", r"It is dict"),
        (
            {"environment": "Cameras-v0", "policy": "random", "observation_key": "rbg"},
            "observation_key",
            "'rgb', 'rgba'",
        ),
        ({"environment": "Cameras-v0", "policy": "random", "observation_key": "stack"}, "observation", r"uint8 \[4, 6"),
        (
            {"environment": "Cameras-v0", "policy": "random", "observation_key": "camera/float"},
            "observation",
            "float64",
        ),
        ({"fit": "squash"}, "fit", "'squash'"),
    ],
)
def test_what_does_not_work_is_found_before_anything_is_recorded(fields, field, message):
    with pytest.raises(ConfigError, match=message) as error:
        source(**fields)
    assert error.value.field == f"config.record.{field}"


def test_an_action_out_of_range_is_named_at_its_step():
    with pytest.raises(ConfigError, match=r"at step 3 of episode 0 .*20.5.*inside of the bounds") as error:
        play(source(policy="odd_environments:rising"))
    assert error.value.field == "config.record.policy"


def test_a_step_of_the_old_form_is_named():
    with pytest.raises(Exception, match=r"step\(\) must return|expected 5"):
        play(source("OldStep-v0"))


@pytest.mark.parametrize("key", ["rgb", "rgba", "camera/first"])
def test_images_of_all_forms_are_recorded_alike(key):
    made = source("Cameras-v0", policy="random", observation_key=key, image_size=(6, 10))
    np.testing.assert_array_equal(frames(play(made))[0], odd_environments.picture())


def test_gray_images_become_three_channels():
    made = source("Cameras-v0", policy="random", observation_key="camera/gray", image_size=(6, 10))
    np.testing.assert_array_equal(frames(play(made))[0], odd_environments.picture()[..., :1].repeat(3, axis=-1))


def test_frames_are_fitted_as_asked_and_their_size_is_said():
    whole = odd_environments.picture()
    made = lambda fit: source("Cameras-v0", policy="random", observation_key="rgb", image_size=(6, 6), **fit)
    default = made({})
    np.testing.assert_array_equal(frames(play(default))[0], whole[:, 2:8])
    assert "6x10; cropped and resized to 6x6" in default.summary
    padded = frames(play(made({"fit": "pad"})))[0]
    assert not padded[:1].any()
    assert not padded[5:].any()
    assert padded[1:5].any(axis=(1, 2)).all()
    stretched = frames(play(made({"fit": "stretch"})))[0]
    np.testing.assert_array_equal(stretched, cv2.resize(whole, (6, 6), interpolation=cv2.INTER_AREA))


def test_policies_are_made_for_each_episode():
    act = make_policy("odd_environments:refill", 0.0)(None, None)
    assert act(None) is act(None)  # the test above is of a policy that does so
