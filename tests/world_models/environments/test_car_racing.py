"""CarRacing with held actions equals Gymnasium's, step for step."""

import gymnasium
import numpy as np
import pytest

from world_models.environments.gymnasium import make


@pytest.mark.parametrize("continuous", [False, True])
def test_it_is_gymnasiums_with_each_action_repeated(continuous):
    held = make("CarRacing-held-v0", {"continuous": continuous, "hold": 3}, observation="observation")
    plain = gymnasium.make("CarRacing-v3", continuous=continuous)
    held.reset(seed=7)
    plain.reset(seed=7)
    plain.action_space.seed(0)
    total = 0.0
    for _ in range(12):
        action = plain.action_space.sample()
        steps = [plain.step(action) for _ in range(3)]
        observed, reward, *ends, _ = held.step(action)
        np.testing.assert_array_equal(observed, steps[-1][0])
        np.testing.assert_array_equal(held.unwrapped.state, observed)
        assert reward == pytest.approx(sum(step[1] for step in steps))
        assert ends == [False, False]
        total += abs(reward)
    assert total > 0


def test_the_frame_of_an_end_is_drawn():
    held, plain = (
        make("CarRacing-held-v0", {"continuous": False, "hold": n}, observation="observation") for n in (3, 1)
    )
    for environment in (held, plain):
        environment.reset(seed=1)
        environment.unwrapped.car.hull.position = (1e4, 0.0)  # far off: the episode ends in the first of the steps
    (observed, _, terminated, *_), (expected, *_) = held.step(3), plain.step(3)
    assert terminated
    np.testing.assert_array_equal(observed, expected)
