"""PushT as data are recorded from it: relative actions, a policy that pushes, frames without a mark, success."""

import gymnasium
import numpy as np
import pytest

from world_models.environments import push_t


@pytest.fixture
def environment():
    """A small one."""
    pytest.importorskip("gym_pusht", reason="pip install -e '.[pusht]' to test PushT")
    found = gymnasium.make(
        "PushT-relative-v0", render_mode="rgb_array", visualization_width=96, visualization_height=96
    )
    yield found
    found.close()


def test_actions_are_relative_to_the_agent_and_stay_inside(environment):
    observed, _ = environment.reset(seed=3)
    for _ in range(30):  # away from the block and against the wall
        observed, *_ = environment.step(np.array([1.0, -1.0], np.float32))
    assert observed[0] > 480
    assert observed[1] < 32
    there = observed[:2].copy()
    for _ in range(10):
        observed, *_ = environment.step(np.zeros(2, np.float32))
    np.testing.assert_allclose(observed[:2], there, atol=25)  # it only comes to rest
    plain = gymnasium.make("gym_pusht/PushT-v0")
    for world in (environment, plain):
        world.reset(seed=5)
    target = plain.unwrapped.agent.position + np.array([30.0, -20.0])
    expected, *_ = plain.step(np.float32(target))
    observed, *_ = environment.step(np.array([0.3, -0.2], np.float32))
    np.testing.assert_allclose(observed, expected, atol=1e-3)


def test_the_policy_moves_the_block_in_most_episodes(environment):
    moved = []
    for seed in range(8):
        first, _ = environment.reset(seed=seed)
        act, observed = push_t.push(environment, np.random.default_rng(seed)), first
        for _ in range(100):
            action = act(observed)
            assert environment.action_space.contains(action)
            observed, *_ = environment.step(action)
        moved.append(np.linalg.norm(observed[2:4] - first[2:4]) > 20)
    assert np.mean(moved) > 0.6


def test_frames_do_not_show_where_an_action_pointed(environment):
    frames = []
    for target in (np.float32([256, 256]), np.float32([256.2, 256.2])):  # as good as the same place
        environment.reset(seed=0)
        environment.unwrapped._last_action = target + (200 if frames else 0)
        frames.append(environment.render())
    np.testing.assert_array_equal(*frames)


def test_a_goal_is_reached_when_agent_and_block_are_there_and_the_block_is_turned_alike():
    goal = np.array([100.0, 100.0, 200.0, 200.0, 0.05])
    for change, expected in (
        ((0, 0, 0, 0, 0), True),
        ((0, 0, 0, 0, 2 * np.pi), True),
        ((0, 0, 0, 0, -0.3), True),  # across the full turn
        ((0, 0, 0, 0, 0.4), False),
        ((8, 8, 8, 8, 0), True),
        ((12, 12, 12, 12, 0), False),  # 24 pixels in all
    ):
        assert push_t.reached(goal + change, goal) == expected
