"""Two levels with the true world as their model: what then fails is the search, and nothing fails."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from world_models.environments import tasks
from world_models.environments.worlds import registry
from world_models.planning import episodes
from world_models.planning.hierarchy import HierarchicalPlanner, Level
from world_models.planning.options import Search

TICK = 10  # steps of the world in one of the upper level, whose macro-action is one action kept up


def oracle(world, samples, scale):
    """A planner whose levels step the world itself; costs are Euclidean, so that walls must be found by search."""
    high = world.spec.high[0]
    step = lambda states, actions, key: jax.vmap(world.step)(states, actions, jax.random.split(key, len(actions)))

    def tick(states, actions, key):
        body = lambda states, key: (step(states, actions, key), None)
        return jax.lax.scan(body, states, jax.random.split(key, TICK))[0]

    distance = lambda states, goal: jnp.sum(((states.position - goal.position) / scale) ** 2, axis=-1)
    same = {"method": "icem", "elites": 4, "colour": 1.0, "choose": "best", "std": high / 1.5}
    low = Search(2, horizon=TICK, samples=64, iterations=3, min_std=0.05 * high, low=-high, high=high, **same)
    slack = 0.9 * high
    top = Search(2, horizon=7, samples=samples, iterations=4, min_std=0.1 * high, low=-slack, high=slack, **same)
    levels = (
        Level(step, distance, low, replan=2, cost_space="own"),
        Level(tick, distance, top, stride=TICK, replan=TICK),
    )
    return HierarchicalPlanner(levels)


@pytest.mark.parametrize(
    ("name", "kind", "samples", "scale"),
    [("two_rooms", "random_wall", 512, 10.0), ("four_rooms", "cross_2", 256, 40.0)],
)
def test_two_levels_that_know_the_world_solve_every_task(name, kind, samples, scale):
    world = registry.make(name, (8, 8))
    chosen = jax.tree.map(jnp.asarray, tasks.make(world, kind, 0, 8))
    planner = oracle(world, samples, scale)
    one = lambda task, key: episodes.run(world, lambda _, state: state, planner, task, *jax.random.split(key))
    played = jax.jit(jax.vmap(one))(chosen, jax.random.split(jax.random.key(0), 8))
    np.testing.assert_array_equal(played.success_any, True)
