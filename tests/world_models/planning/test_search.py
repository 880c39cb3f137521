"""Planners against closed forms: least squares of a linear system, projections of a quadratic's optimum."""

import dataclasses
import json
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from conftest import cpu_devices

from world_models.core.errors import UserError
from world_models.planning import costs, sampling
from world_models.planning.options import Search
from world_models.planning.search import shift, solve

# A point in the plane that spirals inwards, pushed by two numbers. (Of an ill-conditioned system, a double integrator
# say, CEM's diagonal Gaussian misses the optimum by some per cent: so does the same in NumPy.)
A = 0.9 * np.array([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]])
B = np.eye(2)
GOAL = np.array([3.0, -2.0])
HORIZON, PRICE = 6, 1.0

SEARCHES = {
    "cem": Search(2, "cem", HORIZON, samples=256, iterations=20, elites=24),
    "icem": Search(2, "icem", HORIZON, samples=256, iterations=25, elites=32, colour=0.25, momentum=0.1, choose="best"),
    "mppi": Search(
        2, "mppi", HORIZON, samples=256, iterations=25, elites=64, temperature=5.0, min_std=0.05, choose="sample"
    ),
    "gradient": Search(2, "gradient", HORIZON, samples=4, iterations=120, choose="best"),
}
# How far from the best actions they may stay; MPPI's plan is a sample with a deviation of at least 0.05.
TOLERANCE = {"cem": 0.06, "icem": 0.08, "mppi": 0.25, "gradient": 0.02}


def spiral(states, actions, key):
    """The linear system, for a batch of states."""
    return states @ jnp.asarray(A, jnp.float32).T + actions @ jnp.asarray(B, jnp.float32).T


COST = costs.total(
    costs.to_goal(lambda states, goal: jnp.sum((states - goal) ** 2, axis=-1), jnp.asarray(GOAL, jnp.float32), "sum"),
    costs.action_norm(PRICE),
)


@jax.jit
def push(state, key, start, steps_left):
    """Plans of all methods at once, so that they are compiled once."""
    return {name: solve(search, spiral, COST, state, key, start, steps_left) for name, search in SEARCHES.items()}


START = (jnp.zeros((HORIZON, 2)), 2 * jnp.ones((HORIZON, 2)))


def least_squares(state, steps):
    """(best actions [steps, 2], their cost) of the first `steps` steps, in float64."""
    free = np.concatenate([np.linalg.matrix_power(A, t + 1) @ state - GOAL for t in range(steps)])
    forced = np.zeros((2 * steps, 2 * steps))
    for t in range(steps):
        for s in range(t + 1):
            forced[2 * t : 2 * t + 2, 2 * s : 2 * s + 2] = np.linalg.matrix_power(A, t - s) @ B
    rows = np.vstack([forced, np.sqrt(PRICE) * np.eye(2 * steps)])
    actions, (cost,), *_ = np.linalg.lstsq(rows, np.concatenate([-free, np.zeros(2 * steps)]), rcond=None)
    return actions.reshape(steps, 2), cost


@pytest.mark.parametrize("steps", [HORIZON, 4])
def test_planners_reach_the_optimum_of_a_linear_system(steps):
    state = np.array([-1.0, 0.5])
    best, lowest = least_squares(state, steps)
    for name, plan in push(jnp.asarray(state, jnp.float32), jax.random.key(0), START, steps).items():
        np.testing.assert_allclose(plan.cost, lowest, rtol=0.01 if name == "mppi" else 1e-3, err_msg=name)
        np.testing.assert_allclose(plan.actions[:steps], best, atol=TOLERANCE[name], err_msg=name)
        assert plan.history[-1] <= plan.history[0]
        assert np.all(np.diff(plan.history) <= 0)
        # The states are those that the actions lead to, as long as there are steps left.
        x = state
        for i, (action, predicted) in enumerate(zip(plan.actions, plan.states)):
            x = A @ x + B @ np.asarray(action, np.float64) if i < steps else x
            np.testing.assert_allclose(predicted, x, rtol=1e-4, atol=1e-4)


def test_a_key_fixes_the_plan_and_nothing_is_compiled_twice():
    state = jnp.zeros(2)
    first = push(state, jax.random.key(1), START, 6)
    again = push(state, jax.random.key(1), START, 6)
    other = push(state + 1, jax.random.key(2), START, 3)
    for name in SEARCHES:
        for x, y in zip(jax.tree.leaves(first[name]), jax.tree.leaves(again[name])):
            np.testing.assert_array_equal(x, y)
        assert not np.allclose(first[name].actions, other[name].actions)
    assert push._cache_size() == 1


def test_a_warm_start_finds_better_plans_in_the_same_iterations():
    search = dataclasses.replace(SEARCHES["cem"], samples=32, iterations=4, elites=4)
    short = jax.jit(lambda state, key, start: solve(search, spiral, COST, state, key, start))
    cold, warm = [], []
    for seed in range(8):
        state = jnp.asarray(np.random.default_rng(seed).normal(size=2), jnp.float32)
        keys = jax.random.split(jax.random.key(seed))
        before = short(state, keys[0], START)
        mean, std = shift(search, before)
        np.testing.assert_array_equal(mean, np.vstack([before.actions[1:], before.actions[-1:]]))
        cold.append(short(before.states[0], keys[1], START).cost)
        warm.append(short(before.states[0], keys[1], (mean, std)).cost)
    assert np.mean(warm) < 0.8 * np.mean(cold)
    assert np.sum(np.array(warm) < np.array(cold)) >= 7


def quadratic(goal, **options):
    """The plan of one step from 0 towards a goal."""
    dim = len(goal)
    search = Search(dim, **{"horizon": 1, "samples": 128, "iterations": 25, "elites": 16, **options})
    away = lambda states, actions, weights: jnp.sum((states[:, 0] - jnp.asarray(goal)) ** 2, axis=-1)
    return jax.jit(lambda key: solve(search, lambda s, a, key: s + a, away, jnp.zeros(dim), key))(jax.random.key(0))


@pytest.mark.parametrize("method", [{"method": "cem"}, {"method": "gradient", "choose": "best", "iterations": 60}])
def test_bounds_hold_and_the_best_within_them_is_found(method):
    goal = (2.0, -3.0, 0.25)
    plan = quadratic(goal, low=(-1.0, -2.0, -1.0), high=0.5, **method)
    np.testing.assert_allclose(plan.actions[0], [0.5, -2.0, 0.25], atol=0.01)
    plan = quadratic(goal, max_norm=1.5, **method)
    np.testing.assert_allclose(plan.actions[0], 1.5 * np.array(goal) / np.linalg.norm(goal), atol=0.02)
    assert np.linalg.norm(plan.actions[0]) <= 1.5 + 1e-5


@pytest.mark.parametrize("method", ["cem", "icem", "mppi", "gradient"])
def test_boxes_of_any_place_and_size_are_searched(method):
    kind = {"method": method, "choose": "best", "iterations": 60, "learning_rate": 0.05}
    bounds = {"low": (10.0, 0.0, -2e-3, 5.0), "high": (20.0, 512.0, -1e-3, 5.0)}
    goal, extent = np.array([15.5, 300.0, -1.2e-3, 5.0]), np.array([10.0, 512.0, 1e-3, 1.0])
    search = Search(4, horizon=2, samples=256, elites=32, temperature=0.1, **kind, **bounds)
    away = lambda states, actions, weights: jnp.sum(((actions - goal) / extent) ** 2, axis=(1, 2))
    plan = jax.jit(lambda key: solve(search, lambda s, a, key: s + a, away, jnp.zeros(4), key))(jax.random.key(0))
    np.testing.assert_allclose(plan.actions / extent, np.tile(goal / extent, (2, 1)), atol=0.02)
    np.testing.assert_array_equal(plan.actions[:, 3], 5)
    assert plan.not_finite == 0


def test_a_search_that_is_shifted_and_scaled_finds_the_same_plan():
    def found(low, high, method):
        search = Search(2, method, 3, samples=32, iterations=5, elites=8, std=0.7, min_std=0.1, low=low, high=high,
                        choose="best", learning_rate=0.2)  # fmt: skip
        middle, half = (jnp.asarray(x, jnp.float32) for x in ((high + low) / 2, (high - low) / 2))
        away = lambda states, actions, weights: jnp.sum(((actions - middle) / half - 0.3) ** 2, axis=(1, 2))
        plan = jax.jit(lambda key: solve(search, lambda s, a, key: s, away, jnp.zeros(1), key))(jax.random.key(4))
        return (plan.actions - middle) / half, plan.std / half

    for method in ("cem", "mppi", "gradient"):
        for got, expected in zip(found(96.0, 160.0, method), found(-1.0, 1.0, method)):
            np.testing.assert_allclose(got, expected, atol=1e-4, err_msg=method)


def test_bounds_that_mean_nothing_leave_an_action_its_unit():
    search = Search(4, low=(-1e10, -3.4e38, 2.0, -np.inf), high=(1e10, 3.4e38, np.inf, -3.0), std=0.5)
    np.testing.assert_array_equal(search.centre, [0, 0, 2, -3])
    np.testing.assert_array_equal(search.scale, 1)
    np.testing.assert_array_equal(search.absolute(search.max_std), np.inf)
    assert all(np.isfinite(x).all() for x in sampling.first_distribution(search))
    constant = Search(2, low=(0.0, 7.0), high=(1.0, 7.0))
    np.testing.assert_array_equal(constant.absolute(constant.max_std), [np.inf, 0])


def test_actions_that_are_too_long_are_shortened_within_their_box():
    rng = np.random.default_rng(5)
    actions = rng.uniform(-3, 3, (200, 2)).astype(np.float32)
    for low, high in (((-1.0, -1.0), (1.0, 1.0)), ((0.5, -0.2), (1.0, 1.0))):
        search = Search(2, low=low, high=high, max_norm=0.8)
        found = np.asarray(sampling.project(search, actions), np.float64)
        assert np.all(found >= np.array(low) - 1e-6)
        assert np.all(found <= np.array(high) + 1e-6)
        lengths, clipped = np.linalg.norm(found, axis=-1), np.clip(actions, np.float32(low), np.float32(high))
        inside = np.linalg.norm(clipped, axis=-1) <= 0.8
        np.testing.assert_array_equal(found[inside], clipped[inside])
        np.testing.assert_allclose(lengths[~inside], 0.8, atol=1e-5)
        assert 0 < inside.sum() < 200


@pytest.mark.parametrize("method", ["cem", "mppi", "gradient"])
def test_costs_that_are_not_finite_are_counted_and_avoided(method):
    search = Search(1, method, 1, samples=64, iterations=6, elites=16, choose="best", learning_rate=1e-9)
    step = lambda states, actions, key: states + actions

    @jax.jit
    def plan(limit, key):
        beyond = lambda states, actions, weights: jnp.where(
            states[:, 0, 0] < limit, (states[:, 0, 0] - 1) ** 2, jnp.nan
        )
        return solve(search, step, beyond, jnp.zeros(1), key)

    found = plan(0.5, jax.random.key(0))
    assert 0.3 < found.actions[0, 0] < 0.5
    assert np.isfinite(found.cost)
    assert np.all(np.isfinite(found.std))
    if method == "gradient":  # its samples do not move at such a rate: each iteration counts the same ones
        assert found.not_finite % 6 == 0
    assert 0 < found.not_finite < 6 * 64
    nowhere = plan(-100.0, jax.random.key(0))
    assert nowhere.cost == np.inf
    assert nowhere.not_finite == 6 * 64 + 1
    np.testing.assert_array_equal(nowhere.actions, 0)
    np.testing.assert_allclose(nowhere.std, 1)


@pytest.mark.parametrize("name", ["dim", "horizon", "samples", "iterations", "elites", "std", "temperature"])
def test_zero_budgets_are_refused_by_name(name):
    with pytest.raises(UserError, match=f"^{name}=0 of a search must"):
        Search(**{"dim": 2, name: 0})


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("elites", {"samples": 20, "elites": 21}),
        ("elites", {"samples": 20, "elites": 20, "method": "icem"}),
        ("method", {"method": "newton"}),
        ("choose", {"method": "gradient"}),
        ("low", {"low": 1.0, "high": 0.9}),
        ("low", {"low": float("nan")}),
        ("low", {"low": float("inf")}),
        ("max_norm", {"low": (3.0, 4.0), "high": 5.0, "max_norm": 4.9}),
        ("std", {"std": (1.0, 1.0, 1.0)}),
        ("momentum", {"momentum": 1.0}),
    ],
)
def test_searches_that_cannot_work_are_refused(name, options):
    with pytest.raises(UserError, match=f"^{name}="):
        Search(2, **options)


def test_noise_has_unit_variance_and_the_colour_asked_for():
    for horizon, colour in [(16, 0.0), (16, 1.0), (15, 2.0), (1, 2.0)]:
        noise = np.asarray(sampling.coloured_noise(jax.random.key(3), (20_000, horizon, 2), colour), np.float64)
        np.testing.assert_allclose(noise.var(axis=0), 1, atol=0.05)
        power = np.mean(np.abs(np.fft.rfft(noise, axis=1)) ** 2, axis=(0, 2))[1:]
        if horizon > 1:
            slope = np.polyfit(np.log(np.fft.rfftfreq(horizon)[1:]), np.log(power), 1)[0]
            assert slope == pytest.approx(-colour, abs=0.03)


def test_refit_and_weights_equal_numpy():
    rng = np.random.default_rng(0)
    elites, mean, std = rng.normal(size=(5, 3, 2)), rng.normal(size=(3, 2)), rng.uniform(1, 2, (3, 2))
    found = np.array([1.0, 1.5, 4.0, np.inf, np.inf])
    weights = np.exp(-found / 2) / np.exp(-found / 2).sum()
    np.testing.assert_allclose(sampling.softmax_weights(jnp.asarray(found), 2.0), weights, rtol=1e-6)
    np.testing.assert_allclose(sampling.equal_weights(jnp.asarray(found)), [1 / 3, 1 / 3, 1 / 3, 0, 0], rtol=1e-6)
    average = np.average(elites, axis=0, weights=weights)
    spread = np.sqrt(np.average((elites - average) ** 2, axis=0, weights=weights))
    got = sampling.refit(*(jnp.asarray(x, jnp.float32) for x in (elites, weights, mean, std)), 0.25)
    np.testing.assert_allclose(got[0], 0.25 * mean + 0.75 * average, rtol=1e-5)
    np.testing.assert_allclose(got[1], 0.25 * std + 0.75 * spread, rtol=1e-5)


def test_costs_add_up_and_look_no_further_than_the_steps_left():
    rng = np.random.default_rng(1)
    states, actions = rng.normal(size=(4, 5, 3)), rng.normal(size=(4, 5, 2))
    goal, mean, std = rng.normal(size=3), rng.normal(size=2), np.array([0.5, 2.0])
    weights = costs.step_weights(5, 3)
    np.testing.assert_array_equal(weights, [1, 1, 1, 0, 0])
    np.testing.assert_array_equal(costs.step_weights(5, 0), [1, 0, 0, 0, 0])
    away = np.mean((states - goal) ** 2, axis=-1)
    nats = -scipy.stats.norm.logpdf(actions, mean, std).sum(axis=-1)
    cost = costs.total(
        costs.to_goal(costs.squared_error, goal, "last"),
        costs.to_goal(costs.squared_error, goal, "sum"),
        costs.gaussian_prior(mean, std, 0.3),
        costs.action_norm(0.7),
    )
    expected = away[:, 2] + away[:, :3].sum(1) + 0.3 * nats[:, :3].sum(1) + 0.7 * (actions[:, :3] ** 2).sum((1, 2))
    np.testing.assert_allclose(cost(jnp.asarray(states), jnp.asarray(actions), weights), expected, rtol=1e-5)
    with pytest.raises(UserError, match="cost='first'"):
        costs.to_goal(costs.squared_error, goal, "first")


SHARDED = """
    import json, jax, jax.numpy as jnp, numpy as np
    from world_models.core import sharding as parallel
    from world_models.planning import costs
    from world_models.planning.options import Search
    from world_models.planning.search import solve

    step = lambda states, actions, key: jnp.tanh(states + actions @ jnp.array([[0.5, 0.1, 0.0], [0.0, 0.2, 0.4]]))
    cost = costs.to_goal(costs.squared_error, jnp.array([0.5, 0.3, -0.2]), "sum")
    searches = [
        Search(2, "cem", 5, samples=64, iterations=4, elites=8, colour=1.0),
        Search(2, "gradient", 5, samples=8, iterations=4, choose="best"),
    ]
    plan = lambda state, key: [solve(search, step, cost, state, key) for search in searches]
    inputs = jnp.zeros((2, 3)), jax.random.split(jax.random.key(0), 2)
    alone = jax.jit(jax.vmap(plan))(*inputs)
    with jax.set_mesh(parallel.make_mesh((4, 1, 1))):
        compiled = jax.jit(jax.vmap(plan)).lower(*inputs).compile()
        split = compiled(*inputs)
    gaps = jax.tree.map(lambda x, y: float(np.max(np.abs(np.asarray(x) - np.asarray(y)))), alone, split)
    text = compiled.as_text()
    print(json.dumps({"gap": max(jax.tree.leaves(gaps)), "split": [f"f32[2,{n},5,2]" in text for n in (16, 2)]}))
"""


def test_samples_split_over_devices_give_the_same_plan():
    command = [sys.executable, "-c", textwrap.dedent(SHARDED)]
    result = subprocess.run(command, capture_output=True, text=True, env=cpu_devices(4), timeout=280)
    assert result.returncode == 0, result.stderr[-3000:]
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["gap"] < 1e-5
    assert found["split"] == [True, True]  # a device holds 16 of 64 samples, 2 of 8
