"""Arms and mazes of MuJoCo as worlds to plan in: goals, policies, and that they repeat themselves under one seed."""

import gymnasium
import numpy as np
import pytest

from configs import reacher
from world_models.environments import robotics
from world_models.environments.gymnasium import GymnasiumSource
from world_models.environments.replay import ReplayedTask, draw

# OGBench first: its renderer cannot begin where one of Gymnasium's has been closed in the same process.
WORLDS = {
    "pointmaze-medium-v0": (
        "ogbench",
        {"width": 32, "height": 32, "terminate_at_goal": False},
        "wander",
        robotics.ogbench_maze,
    ),
    "Reacher-v5": ("mujoco", reacher.get_config().record.environment_kwargs.to_dict(), "swing", robotics.reacher),
    "PointMaze_UMaze-v3": ("gymnasium_robotics", {"width": 32, "height": 32}, "wander", robotics.point_maze),
}


def test_reacher_compares_the_angles_of_both_joints_around_the_circle():
    pose = lambda *angles: np.concatenate([np.cos(angles), np.sin(angles), np.zeros(6)])
    assert robotics.reacher(pose(3.1, 0.5), pose(-3.1, 0.6))
    assert not robotics.reacher(pose(3.1, 0.5), pose(-2.9, 0.5))
    assert not robotics.reacher(pose(0.0, 0.5), pose(0.0, 0.75))


def test_mazes_compare_places_alone():
    place = lambda x, y, speed: {"achieved_goal": np.array([x, y]), "observation": np.array([x, y, speed, 0.0])}
    assert robotics.point_maze(place(0.0, 0.0, 5.0), place(0.3, 0.3, 0.0))
    assert not robotics.point_maze(place(0.0, 0.0, 0.0), place(0.4, 0.4, 0.0))
    assert robotics.ogbench_maze(np.array([4.0, 4.0, 9.0]), np.array([4.6, 4.6, 0.0]))
    assert not robotics.ogbench_maze(np.array([4.0, 4.0]), np.array([4.8, 4.8]))


def test_wandering_keeps_a_direction_for_a_while_and_stays_in_the_action_space():
    act = robotics.wander(None, np.random.default_rng(0))
    actions = np.stack([act(None) for _ in range(400)])
    assert gymnasium.spaces.Box(-1.0, 1.0, (2,)).contains(actions.max(0))
    cosine = lambda lag: np.mean(np.sum(actions[lag:] * actions[:-lag], -1))
    assert cosine(1) > 0.7  # mean squared length is about 1
    assert abs(cosine(40)) < 0.25


@pytest.mark.parametrize("name", WORLDS)
def test_goals_can_be_drawn_and_gone_back_to(name):
    module, kwargs, policy, reached = WORLDS[name]
    pytest.importorskip(module, reason="pip install -e '.[robotics,ogbench]' to test MuJoCo's worlds")
    source = GymnasiumSource(
        environment=name,
        kwargs=kwargs,
        modules=(),
        observation="render",
        image_size=(16, 16),
        action_repeat=2,
        policy=f"world_models.environments.robotics:{policy}",
        repeat_probability=0.0,
        num_units=2,
        max_episode_steps=20,
        skip_steps=0,
        base_seed=0,
    )
    tasks, _ = draw(source, reached, 2, 12, 3, seed=0)
    environment = source.make()
    for task in reversed(tasks):
        world = ReplayedTask(source, environment, task, reached)
        world.reset()  # refuses a world that does not repeat itself
    first, again = (next(iter(source.episodes(5))) for _ in range(2))
    assert first.images == again.images
    np.testing.assert_array_equal(first.actions, again.actions)
    assert len(set(first.images)) > 5  # it moves


def test_swinging_turns_both_joints_of_reacher_far_and_never_wildly():
    pytest.importorskip("mujoco", reason="pip install -e '.[robotics]' to test Reacher")
    environment, ranges = gymnasium.make("Reacher-v5", max_episode_steps=500), []
    for seed in range(4):
        observed, _ = environment.reset(seed=seed)
        act, angles = robotics.swing(environment, np.random.default_rng(seed)), []
        for _ in range(200):
            action = act(observed)
            assert environment.action_space.contains(action)
            observed, *_ = environment.step(action)
            angles.append(np.arctan2(observed[2:4], observed[:2]))
            assert np.abs(observed[6:8]).max() < 20  # radians a second; actions at random reach more
        ranges.append(np.ptp(np.unwrap(angles, axis=0), axis=0))
    assert np.mean(ranges, axis=0).min() > 1.5
