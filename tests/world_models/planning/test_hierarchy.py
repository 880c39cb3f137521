"""Planning from the top down: a wall with a door that short plans miss, subgoals, priors, clocks, the planning cost."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from world_models.core.errors import UserError
from world_models.nn import cpu_ops
from world_models.planning import costs, planning_cost
from world_models.planning.hierarchy import HierarchicalPlanner, Level
from world_models.planning.options import Search
from world_models.planning.search import solve

# A point moves in the square [-10, 10]² by at most 1 a step. A wall at x = 0 has a door around y = 6.
DOOR, HALF = 6.0, 2.0
STRIDE, STEPS = 10, 60


def move(places, actions, key=None):
    """One exact step, for a batch of places [..., 2]: what would go through the wall does not move."""
    length = jnp.sqrt(jnp.maximum(jnp.sum(actions**2, axis=-1, keepdims=True), 1))
    there = jnp.clip(places + actions / length, -10, 10)
    share = places[..., 0] / jnp.where(there[..., 0] == places[..., 0], 1, places[..., 0] - there[..., 0])
    crossing = places[..., 1] + share * (there[..., 1] - places[..., 1])
    blocked = (places[..., 0] * there[..., 0] <= 0) & (jnp.abs(crossing - DOOR) > HALF)
    return jnp.where(blocked[..., None], places, there)


def stride(places, actions, key=None):
    """One exact tick of the level above: the macro-action, a displacement, in equal parts."""
    return jax.lax.fori_loop(0, STRIDE, lambda _, now: move(now, actions / STRIDE), places)


def away(places, goal):
    """Euclidean distance."""
    return jnp.sqrt(jnp.sum((places - goal) ** 2, axis=-1) + 1e-9)


LOW = Search(2, "icem", STRIDE, samples=48, iterations=4, elites=4, std=0.7, max_norm=1.0, choose="best", colour=1.0)
HIGH = Search(2, "icem", 6, 1024, 5, elites=4, std=6.0, max_norm=0.9 * STRIDE, choose="best", colour=1.0)
LEVELS = (Level(move, away, LOW, replan=5), Level(stride, away, HIGH, stride=STRIDE, replan=STRIDE))
TASKS = [
    ((-8, -6), (8, -6)),
    ((-6, -8), (5, -3)),
    ((-3, -4), (3, -4)),
    ((-8, 0), (8, 2)),
    ((-5, 3), (4, -6)),
    ((-2, -9), (2, -2)),
    ((-9, -9), (6, -9)),
    ((-8, -9), (9, -8)),
]
STARTS, GOALS = jnp.array(TASKS, jnp.float32).swapaxes(0, 1)


SEARCH = Search(2, "gradient", 1, samples=1, iterations=200, choose="best", learning_rate=0.05)


def square(states, goal):
    """Squared distance."""
    return jnp.sum((states - goal) ** 2, axis=-1)


def free(states, actions, key):
    """A step where nothing is in the way."""
    return states + actions


# Level 2 sees only the height, doubled.
LIFTED = Level(free, square, dataclasses.replace(SEARCH, dim=1, max_norm=0.5), lift=lambda state: 2 * state[..., 1:])


def play(planner, starts, goals, key):
    """Whole episodes with the true world as model: (places [n, steps, 2], plan_infos), one program."""

    def episode(start, goal, key):
        def step(carry, clock):
            place, planner_state = carry
            now = jax.random.fold_in(key, clock)
            action, planner_state, plan_info = planner.act(planner_state, place, goal, clock, STEPS - clock, now)
            place = move(place, action)
            return (place, planner_state), (place, plan_info)

        return jax.lax.scan(step, (start, planner.init(start)), jnp.arange(STEPS))[1]

    return jax.jit(jax.vmap(episode))(starts, goals, jax.random.split(key, len(starts)))


@pytest.fixture(scope="module")
def solved():
    """What two levels do."""
    return jax.tree.map(np.asarray, play(HierarchicalPlanner(LEVELS), STARTS, GOALS, jax.random.key(0)))


def test_subgoals_lead_the_lower_level_round_a_wall_that_stops_it_alone(solved):
    """No claim against flat search at equal rows: noise of long waves and a long horizon do as well here."""
    near = lambda places: np.linalg.norm(places[:, -1] - GOALS, axis=-1) < 0.5
    alone, _ = play(HierarchicalPlanner(LEVELS[:1]), STARTS, GOALS, jax.random.key(0))
    assert near(solved[0]).sum() >= 6  # of 8; which of them the search misses depends on the key
    assert near(alone).sum() <= 2


def test_subgoals_are_the_upper_levels_predictions_and_stay_until_it_plans_again(solved):
    _, plan_info = solved
    low, high = plan_info.plans
    np.testing.assert_array_equal(plan_info.subgoals[1], np.broadcast_to(GOALS[:, None], plan_info.subgoals[1].shape))
    for clock in range(STEPS):
        begin = clock - clock % STRIDE
        np.testing.assert_array_equal(high.actions[:, clock], high.actions[:, begin])
        if STEPS - clock > STRIDE:
            np.testing.assert_array_equal(plan_info.subgoals[0][:, clock], high.states[:, begin, 0])
        else:  # no whole tick is left: the lower level goes for the goal itself
            np.testing.assert_array_equal(plan_info.subgoals[0][:, clock], GOALS)
        if clock % 5:
            np.testing.assert_array_equal(low.actions[:, clock], low.actions[:, clock - 1])
    assert not np.array_equal(high.actions[:, 0], high.actions[:, STRIDE])
    # The upper plan keeps its slack.
    assert np.linalg.norm(high.actions, axis=-1).max() <= 0.9 * STRIDE + 1e-4


def test_lower_plans_are_measured_where_cost_space_says():
    # "above" leaves x alone, which "own" drives to the subgoal's.
    start, goal = jnp.zeros(2), jnp.array([3.0, 4.0])
    planner = HierarchicalPlanner((Level(free, square, SEARCH), LIFTED))
    action, _, plan_info = jax.jit(planner.act)(planner.init(start), start, goal, 0, 5, jax.random.key(0))
    np.testing.assert_allclose(plan_info.subgoals[1], [8.0])
    np.testing.assert_allclose(plan_info.subgoals[0], [0.5], atol=1e-3)
    np.testing.assert_allclose(action[1], 0.25, atol=1e-2)
    assert abs(action[0]) < 0.01
    shared = dataclasses.replace(LIFTED, search=SEARCH, lift=lambda state: state)
    planner = HierarchicalPlanner((Level(free, square, SEARCH, cost_space="own"), shared))
    goal = jnp.array([0.3, 0.4])
    action, *_ = jax.jit(planner.act)(planner.init(start), start, goal, 0, 5, jax.random.key(0))
    np.testing.assert_allclose(action, goal, atol=1e-2)


@pytest.mark.parametrize(
    ("near", "steps_left", "action"),
    [
        (0.0, 5, (0.0, 0.2)),  # the height is all that level 2 tells level 1 of
        (0.1, 5, (0.3, 0.2)),  # level 2 says it will be there: level 1 goes for what it can tell apart itself
        (0.0, 1, (0.3, 0.2)),  # nothing is left to do for level 2
    ],
)
def test_a_level_leaves_the_goal_to_the_one_below_where_it_will_be_near_or_has_no_time_left(near, steps_left, action):
    planner = HierarchicalPlanner((Level(free, square, SEARCH), dataclasses.replace(LIFTED, near=near)))
    start, goal = jnp.zeros(2), jnp.array([0.3, 0.2])
    found, _, plan_info = jax.jit(planner.act)(planner.init(start), start, goal, 0, steps_left, jax.random.key(0))
    np.testing.assert_allclose(found, action, atol=1e-2)
    np.testing.assert_allclose(plan_info.subgoals[0], [0.4], atol=1e-3)
    far, *_ = jax.jit(planner.act)(planner.init(start), start, goal + 5, 0, 5, jax.random.key(0))
    np.testing.assert_allclose(far, (0, 0.25), atol=1e-2)  # far off, subgoals lead


def test_the_prior_enters_the_cost():
    # One step towards 3 under a Gaussian prior: the minimum of (a − 3)² + w (a + 1)² / (2 · 0.5²) is a weighted mean.
    search = Search(1, "gradient", 1, samples=2, iterations=300, choose="best", learning_rate=0.05)
    square = lambda states, goal: jnp.sum((states - goal) ** 2, axis=-1)
    level = Level(lambda s, a, key: s + a, square, search, prior=(jnp.array([-1.0]), jnp.array([0.5])))
    for weight in (0.0, 0.5):
        planner = HierarchicalPlanner((dataclasses.replace(level, prior_weight=weight),))
        state = jnp.zeros(1)
        planner_state = planner.init(state)
        np.testing.assert_array_equal(planner_state.plans[0].actions, -1)
        action, _, plan_info = jax.jit(planner.act)(planner_state, state, jnp.array([3.0]), 0, 9, jax.random.key(0))
        pull = weight / (2 * 0.5**2)
        best = (3 - pull) / (1 + pull)
        np.testing.assert_allclose(action, [best], atol=5e-3)
        nats = 0.5 * ((best + 1) / 0.5) ** 2 + np.log(0.5 * np.sqrt(2 * np.pi))
        np.testing.assert_allclose(plan_info.costs, [(best - 3) ** 2 + weight * nats], rtol=1e-3, atol=1e-4)


def test_one_level_is_flat_search_and_an_episode_is_compiled_once():
    planner = HierarchicalPlanner((Level(move, away, LOW, warm_start=False),))
    act = jax.jit(planner.act)
    start, goal, planner_state = jnp.array([-3.0, 2.0]), jnp.array([-6.0, 5.0]), planner.init(jnp.zeros(2))
    for clock in range(3):
        key = jax.random.key(clock)
        action, planner_state, plan_info = act(planner_state, start, goal, jnp.int32(clock), jnp.int32(10 - clock), key)
    flat = jax.jit(lambda start, key: solve(LOW, move, costs.to_goal(away, goal), start, key, steps_left=8))
    alone = flat(start, jax.random.fold_in(key, 0))
    np.testing.assert_allclose(action, alone.actions[0], rtol=1e-5)
    np.testing.assert_allclose(plan_info.costs[0], alone.cost, rtol=1e-5)
    assert act._cache_size() == 1


def test_the_ledger_counts_what_the_model_is_asked():
    asked = {1: 0, 2: 0}

    def counting(level, step):
        def counted(states, actions, key):
            def add(rows):
                asked[level] += int(rows)

            jax.debug.callback(add, actions.shape[0])
            return step(states, actions, key)

        return counted

    small = {"samples": 6, "iterations": 2, "elites": 2}
    searches = [dataclasses.replace(search, **small) for search in (LOW, HIGH)]
    levels = tuple(
        dataclasses.replace(level, step=counting(i + 1, level.step), search=search)
        for i, (level, search) in enumerate(zip(LEVELS, searches))
    )
    planner = HierarchicalPlanner(levels)
    act, planner_state = jax.jit(planner.act), planner.init(jnp.zeros(2))
    for clock in range(12):
        _, planner_state, _ = act(
            planner_state, STARTS[0], GOALS[0], jnp.int32(clock), jnp.int32(12 - clock), jax.random.key(0)
        )
    jax.block_until_ready(planner_state)
    jax.effects_barrier()
    found = planning_cost.count(planner, 12)
    assert found.plans == (3, 2)
    assert found.rows == (asked[1], asked[2])
    assert found.depth == (3 * 10 + 2 * 6) * 3  # two iterations and the plan itself
    assert found.flops is None


DIMENSIONS = (((1,), (0,)), ((), ()))  # of a plain matrix product


def test_the_ledger_counts_all_products_of_a_search():
    """Those of the model, of the cost and its lift, and of the fit to the elites."""
    eight, four = jnp.ones((8, 8)), jnp.ones((8, 4))
    low = Search(2, horizon=4, samples=7, iterations=3, elites=2)
    high = dataclasses.replace(low, horizon=2, method="gradient", choose="best")
    levels = (
        Level(lambda z, a, key: z @ eight, away, low, replan=2),
        Level(lambda z, a, key: z + a.sum(), away, high, lift=lambda z: z @ four, stride=4, replan=4, cost="sum"),
    )
    planner = HierarchicalPlanner(levels)
    fits = 3 * 2 * (2 * 2 * 4 * 2)  # iterations, mean and spread, 2 x elites x horizon x numbers of an action
    lifted = 3 * 7 + 1  # only the last state of every sample, and of the plan
    lower = planning_cost.plan_rows(low) * 2 * 64 + lifted * 2 * 32 + fits
    assert planning_cost.plan_flops(planner, jnp.zeros(8)) == (lower, 0)
    assert planning_cost.count(planner, 8, jnp.zeros(8)).flops == 4 * lower
    # Back through a model costs as much again as the model: the gradient of its parameters is not asked for.
    climbing = dataclasses.replace(low, horizon=5, method="gradient", choose="best")
    bent = Level(lambda z, a, key: jnp.tanh(z + a @ jnp.ones((2, 8))) @ eight, away, climbing)
    forward = 2 * 64 + 2 * 16
    (found,) = planning_cost.plan_flops(HierarchicalPlanner((bent,)), jnp.zeros(8))
    assert (2 * 3 * 7 * 4 + 1) * forward < found <= (2 * 3 * 7 * 5 + 1 * 5) * forward
    own = dataclasses.replace(
        bent, step=lambda z, a, key: jnp.tanh(cpu_ops.dot_general(z, eight, DIMENSIONS) + a.sum())
    )
    (found,) = planning_cost.plan_flops(HierarchicalPlanner((own,)), jnp.zeros(8))
    assert found <= (2 * 3 * 7 * 5 + 1 * 5) * 2 * 64


def test_time_is_measured_apart_from_compilation():
    calls = []

    def slow(x):
        jax.debug.callback(lambda: calls.append(1))
        return jnp.sin(x)

    timing = planning_cost.measure(slow, jnp.ones(3), repeats=3)
    jax.effects_barrier()
    assert len(calls) == 4  # once to warm up
    assert timing.compile_seconds > 0
    assert timing.milliseconds < 1e3 * timing.compile_seconds


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("stride", {"stride": 2}),
        ("replan", {"replan": 0}),
        ("replan", {"replan": 11}),
        ("cost", {"cost": "first"}),
        ("cost_space", {"cost_space": "below"}),
        ("near", {"near": -1.0}),
        ("prior_weight", {"prior_weight": 1.0}),
    ],
)
def test_levels_that_cannot_work_are_refused(name, options):
    with pytest.raises(UserError, match=f"^{name}=.* of level 1 must"):
        HierarchicalPlanner((dataclasses.replace(LEVELS[0], **options),))


def test_levels_that_do_not_fit_each_other_are_refused():
    with pytest.raises(UserError, match="at least one"):
        HierarchicalPlanner(())
    with pytest.raises(UserError, match=r"^replan=4 of level 2 must .* multiple of 5"):
        HierarchicalPlanner((LEVELS[0], dataclasses.replace(LEVELS[1], replan=4)))
    faster = dataclasses.replace(LEVELS[1], stride=STRIDE - 2, replan=10)
    with pytest.raises(UserError, match=r"^search.horizon=10 of level 1 must be at most 8, the stride"):
        HierarchicalPlanner((LEVELS[0], faster))
    shorter = dataclasses.replace(LEVELS[0], search=dataclasses.replace(LOW, horizon=8))
    with pytest.raises(UserError, match=r"^replan=5 of level 1 must divide 8, the steps in which"):
        HierarchicalPlanner((shorter, faster))


def test_no_level_looks_further_than_its_subgoal_and_the_episode():
    class Spy(HierarchicalPlanner):
        """Plans nothing and says how many ticks it was told are left."""

        def plan_level(self, i, before, carry, target, goal, alone, ticks_left, key):
            return before._replace(cost=jnp.float32(ticks_left))

    search = dataclasses.replace(LOW, horizon=4, samples=8)
    levels = tuple(
        Level(move, away, search, stride=stride, replan=replan) for stride, replan in ((1, 2), (4, 4), (4, 8))
    )
    planner, left = Spy(levels), {}
    act, planner_state = jax.jit(planner.act), planner.init(jnp.zeros(2))
    for clock in range(42):
        _, planner_state, plan_info = act(
            planner_state, jnp.zeros(2), jnp.ones(2), jnp.int32(clock), jnp.int32(42 - clock), jax.random.key(0)
        )
        left[clock] = tuple(np.asarray(plan_info.costs, int))
    # Ticks of 1, 4 and 16 steps, worked out by hand; a level's number stays between its plans.
    expected = {0: (4, 4, 3), 2: (2, 4, 3), 4: (4, 3, 3), 8: (4, 4, 3), 26: (2, 4, 2), 32: (4, 3, 1), 40: (2, 1, 1)}
    assert {clock: left[clock] for clock in expected} == expected


def test_the_distance_to_the_goal_is_not_that_of_subgoals():
    # Two levels of one space: the goal's distance counts the first number alone, that of subgoals the second.
    along = lambda i: lambda states, goal: (states[..., i] - goal[i]) ** 2
    levels = (Level(free, along(1), SEARCH), Level(free, along(1), dataclasses.replace(SEARCH, max_norm=0.5)))
    planner = HierarchicalPlanner(levels, to_goal=along(0))
    start, goal = jnp.zeros(2), jnp.array([3.0, 4.0])
    _, _, plan_info = jax.jit(planner.act)(planner.init(start), start, goal, 0, 5, jax.random.key(0))
    np.testing.assert_allclose(plan_info.subgoals[0], [0.5, 0], atol=1e-2)  # towards the goal's first number
    np.testing.assert_allclose(plan_info.costs[0], 0, atol=1e-4)  # reached in the second, whatever the first


def coast(carry, actions, key=None):
    """A point that keeps half of its speed: (places, speeds) that it goes on from."""
    place, speed = carry
    speed = 0.5 * speed + actions
    return place + speed, speed


COASTING = Level(
    coast,
    away,
    Search(2, "gradient", 4, samples=2, iterations=150, std=0.3, choose="best"),
    init_carry=lambda place: (place, jnp.zeros(2)),
    latent=lambda carry: carry[0],
    observe=lambda carry, action, place: (place, place - carry[0]),
)


def test_a_plan_goes_on_from_what_the_model_knows_beyond_states():
    planner, start, goal = HierarchicalPlanner((COASTING,)), jnp.zeros(2), jnp.array([5.0, -3.0])
    _, planner_state, _ = jax.jit(lambda key: planner.act(planner.init(start), start, goal, 0, 4, key))(
        jax.random.key(0)
    )
    (plan,), carry, places = planner_state.plans, (np.zeros(2), np.zeros(2)), []
    for action in np.asarray(plan.actions, np.float64):
        carry = coast(carry, action)
        places.append(carry[0])
    np.testing.assert_allclose(plan.states, places, atol=1e-4)
    np.testing.assert_allclose(carry[0], goal, atol=0.05)


def test_plans_go_on_from_what_was_seen_on_the_way():
    """The speed that was reached is no part of a state, and is known from two of them."""
    goal, steps = jnp.array([5.0, -3.0]), 8

    def end(level):
        planner = HierarchicalPlanner((level,))

        def step(carry, clock):
            world, planner_state = carry
            now = jax.random.fold_in(jax.random.key(1), clock)
            action, planner_state, _ = planner.act(planner_state, world[0], goal, clock, steps - clock, now)
            return (coast(world, action), planner_state), (world, planner_state.carry)

        first = (jnp.zeros(2), jnp.zeros(2))
        (world, _), (seen, carry) = jax.jit(
            lambda: jax.lax.scan(step, (first, planner.init(first[0])), jnp.arange(steps))
        )()
        return away(world[0], goal), seen, carry

    missed, seen, carry = end(COASTING)
    np.testing.assert_allclose(carry[1], seen[1], atol=1e-5)
    forgetful = dataclasses.replace(COASTING, observe=lambda carry, action, place: (place, jnp.zeros(2)))
    assert missed < 0.1
    assert missed < end(forgetful)[0] / 4
