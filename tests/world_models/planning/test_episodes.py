"""Whole planned episodes of a tiny world: successes, goals, what is kept, one program."""

from typing import NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from world_models.core.types import ActionSpec
from world_models.planning import episodes, host
from world_models.planning.host import Player
from world_models.planning.model import LatentLevel
from world_models.planning.options import PlannerLevel
from world_models.planning.planner import make_planner


class Task(NamedTuple):
    """Start and goal in the square [0, 8)²."""

    start: jax.Array
    goal: jax.Array


class Place(NamedTuple):
    """State of the world."""

    xy: jax.Array


class Square:
    """A point that moves by at most 1 along each axis, drawn as one pixel."""

    spec = ActionSpec("continuous", 2, (-1.0, -1.0), (1.0, 1.0))
    num_steps = 9

    def reset(self, task):
        """The point at the start."""
        return Place(task.start)

    def step(self, state, action, key):
        """One step."""
        return Place(jnp.clip(state.xy + jnp.clip(action, -1, 1), 0, 7))

    def render(self, state):
        """One white pixel."""
        column, row = jnp.round(state.xy).astype(jnp.int32)
        return jnp.zeros((8, 8, 1), jnp.uint8).at[row, column].set(255)

    def position(self, state):
        """Where the point is."""
        return state.xy

    def reached(self, state, goal):
        """Within half a step."""
        return jnp.linalg.norm(state.xy - goal) < 0.5


def seen(frame, state):
    """Where the white pixel is: a model that knows the world, but sees only frames."""
    row, column = jnp.divmod(jnp.argmax(frame), 8)
    return jnp.stack([column, row]).astype(jnp.float32)


class SquareModel(nnx.Module):
    """A model that knows the square; its latents are places."""

    actions = Square.spec
    planning_levels = (LatentLevel(action_size=2),)
    can_decode = False

    def encode(self, frames):
        return jax.vmap(jax.vmap(lambda frame: seen(frame, None)))(frames)

    def lift(self, level, below):
        return below

    def distance_embedding(self, level, z):
        return z

    def init_carry(self, level, z):
        return z

    def step_level(self, level, carry, action, rng=None):
        return jnp.clip(carry + action, 0, 7)

    def observe_latent(self, level, carry, action, z):
        return z

    def latent(self, level, carry):
        return carry


WORLD = Square()
SETTINGS = (PlannerLevel(2, horizon=4, samples=48, iterations=4, elites=6, low=-1.0, high=1.0, cost="sum"),)
PLANNER = make_planner(SquareModel(), SETTINGS)
TASKS = Task(
    jnp.array([[0.0, 0.0], [7.0, 1.0], [3.0, 3.0], [0.0, 7.0]]),
    jnp.array([[6.0, 5.0], [1.0, 4.0], [3.0, 3.0], [60.0, 7.0]]),  # the last one is out of the world
)


@pytest.fixture(scope="module")
def played():
    """The jitted function, and what it gave."""
    keep = lambda plan_info: plan_info.plans[0].states
    one = lambda task, key: episodes.run(WORLD, seen, PLANNER, task, *jax.random.split(key), keep, True)
    function = jax.jit(jax.vmap(one))
    return function, function(TASKS, jax.random.split(jax.random.key(0), 4))


def test_episodes_reach_their_goals_from_frames_alone(played):
    _, found = played
    np.testing.assert_array_equal(found.success_any, [True, True, True, False])
    np.testing.assert_array_equal(found.success_last, [True, True, True, False])
    np.testing.assert_array_equal(found.positions[:, 0], TASKS.start)
    # What was kept belongs together: positions follow from actions, frames from positions.
    moved = np.clip(found.positions[:, :-1] + np.clip(found.actions, -1, 1), 0, 7)
    np.testing.assert_allclose(found.positions[:, 1:], moved, atol=1e-6)
    looks = jax.vmap(jax.vmap(seen, (0, None)), (0, None))(found.frames, None)
    np.testing.assert_array_equal(looks, np.round(found.positions))
    near = np.linalg.norm(found.positions - np.asarray(TASKS.goal)[:, None], axis=-1) < 0.5
    np.testing.assert_array_equal(found.reached, near)
    assert found.plan_infos.shape == (4, 9, 4, 2)


def test_one_program_plays_all_tasks_and_a_key_fixes_the_episode(played):
    function, found = played
    again = function(TASKS, jax.random.split(jax.random.key(0), 4))
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(again)):
        np.testing.assert_array_equal(x, y)
    other = function(Task(TASKS.goal.at[3].set(1.0), TASKS.start), jax.random.split(jax.random.key(1), 4))
    assert other.success_last[:3].all()
    assert function._cache_size() == 1


def test_passing_the_goal_is_no_terminal_success():
    # A planner that always goes right passes the goal.
    class Right:
        def init(self, state):
            return ()

        def act(self, carry, state, goal, clock, steps_left, key):
            assert goal.shape == (2,)
            return jnp.array([1.0, 0.0]), carry, steps_left

    task = Task(jnp.array([0.0, 2.0]), jnp.array([3.0, 2.0]))
    key = jax.random.key(0)
    found = jax.jit(lambda: episodes.run(WORLD, seen, Right(), task, key, key, watch=lambda left: left))()
    assert found.success_any
    assert not found.success_last
    np.testing.assert_array_equal(found.plan_infos, np.arange(9, 0, -1))
    assert found.frames is None


def test_the_keys_of_world_and_planner_are_two():
    class Windy(Square):
        def step(self, state, action, key):
            return Place(state.xy + action + 0.3 * jax.random.normal(key, (2,)))

    keys = jax.random.split(jax.random.key(0))
    task = Task(jnp.array([3.0, 3.0]), jnp.array([4.0, 5.0]))
    play = jax.jit(lambda *keys: episodes.run(Windy(), seen, PLANNER, task, *keys))
    first, other, windier = play(keys[0], keys[0]), play(keys[0], keys[1]), play(keys[1], keys[0])
    # The first action is the planner's alone, what is added to it the world's.
    np.testing.assert_array_equal(first.actions[0], windier.actions[0])
    assert not np.array_equal(first.actions[0], other.actions[0])
    wind = lambda played: played.positions[1] - task.start - played.actions[0]
    np.testing.assert_allclose(wind(first), wind(other), atol=1e-6)
    assert not np.allclose(wind(first), wind(windier))


class GymSquare(gymnasium.Env):
    """The square as a Gymnasium environment, which ends one step after the goal is reached if it is told to."""

    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float64)

    def __init__(self, task, ends):
        self._task, self._ends = task, ends

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._state = WORLD.reset(self._task)
        return None, {}

    def step(self, action):
        assert action.dtype == np.float64
        self._state = WORLD.step(self._state, action, None)
        reached = bool(WORLD.reached(self._state, self._task.goal))
        return None, float(reached), reached and self._ends, False, {"success": reached}

    def render(self):
        return WORLD.render(self._state)


def test_a_gymnasium_environment_is_played_as_the_compiled_world_is(played):
    _, compiled = played
    host._act.clear_cache()
    player = Player(SquareModel(), SETTINGS)
    keys = jax.random.split(jax.random.key(0), 4)
    for i in (0, 1):
        task = jax.tree.map(lambda x, i=i: x[i], TASKS)
        goal = np.asarray(WORLD.render(Place(task.goal)))
        found = player.play(GymSquare(task, ends=False), goal, keys[i], WORLD.num_steps)
        np.testing.assert_allclose(found.actions, compiled.actions[i], atol=1e-5)
        np.testing.assert_array_equal(found.frames, compiled.frames[i])
        np.testing.assert_array_equal(found.rewards, compiled.reached[i, 1:])
        assert found.infos[-1] == {"success": True}
        assert not found.terminated
    first = int(np.argmax(found.rewards)) + 1
    short = Player(SquareModel(), SETTINGS).play(GymSquare(task, ends=True), goal, keys[1], WORLD.num_steps)
    assert short.terminated
    np.testing.assert_array_equal(short.actions, found.actions[:first])
    assert (len(short.frames), short.plan_infos[0].shape) == (first + 1, (first, 1))
    assert host._act._cache_size() == 1  # of both players


def test_a_player_is_the_policy_of_a_loop_over_environments_with_their_own_clocks(played):
    """Three environments, of which the second is reset in the middle, against each of them alone."""
    player = Player(SquareModel(), SETTINGS)
    keys = jax.random.split(jax.random.key(7), 3)
    goals = np.stack([WORLD.render(Place(goal)) for goal in TASKS.goal[:3]])
    starts = [np.asarray(start) for start in TASKS.start[:3]]

    def follow(place, state, steps):
        """Actions of one environment alone."""
        found = []
        for _ in range(steps):
            action, state, _ = player.act(state, np.asarray(WORLD.render(place)))
            found.append(action)
            place = WORLD.step(place, action, None)
        return np.stack(found)

    alone = [follow(Place(starts[i]), player.start(goals[i], keys[i], 9), 5) for i in range(3)]
    again = follow(Place(starts[1]), player.start(goals[1], jax.random.fold_in(keys[1], 0), 9), 3)
    places, state, found = [Place(start) for start in starts], player.start(goals, keys, 9), []
    for step in range(5):
        is_first = np.array([False, step == 2, False])
        if step == 2:
            places[1] = Place(starts[1])
        frames = np.stack([WORLD.render(place) for place in places])
        actions, state, (costs, _) = player.act(state, frames, is_first)
        found.append(actions)
        places = [WORLD.step(place, action, None) for place, action in zip(places, actions)]
    found = np.stack(found, axis=1)
    assert costs.shape == (3, 1)
    for i in (0, 2):
        np.testing.assert_allclose(found[i], alone[i], atol=1e-5)
    np.testing.assert_allclose(found[1, :2], alone[1][:2], atol=1e-5)
    np.testing.assert_allclose(found[1, 2:], again, atol=1e-5)
    assert not np.allclose(found[1, 2:4], alone[1][2:4])
    np.testing.assert_array_equal(state.clock, [5, 3, 5])
