"""Tree search against exhaustive search of all action sequences."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from world_models.core.errors import UserError
from world_models.planning.tree_search import TreeSearch, tree_search

MOVES = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
# Cells of a square that cost something to enter, and a goal that pays once and for all: the pit before it is a trap.
PRICE = np.array([[0.1, 0.1, 0.1, 0.1], [0.1, 2.0, 2.0, 0.1], [0.1, 0.1, 2.0, 0.1], [0.1, 0.1, 0.1, 0.1]], np.float32)
GOAL, PAY, DISCOUNT, DEPTH = (2, 1), 3.0, 0.9, 5


def step(cells, actions, key):
    """(next cells [n, 2], rewards [n])."""
    there = jnp.clip(cells + jnp.asarray(MOVES)[actions], 0, 3)
    home = jnp.all(cells == jnp.asarray(GOAL), axis=-1)
    there = jnp.where(home[:, None], cells, there)
    arrived = jnp.all(there == jnp.asarray(GOAL), axis=-1)
    reward = jnp.where(arrived, PAY, -jnp.asarray(PRICE)[there[:, 0], there[:, 1]])
    return there, jnp.where(home, 0.0, reward)


def returns(cell):
    """Best discounted return of each first action, over all sequences of DEPTH actions, in NumPy."""
    best = np.full(4, -np.inf)
    for sequence in itertools.product(range(4), repeat=DEPTH):
        place, total = np.array(cell), 0.0
        for t, action in enumerate(sequence):
            if tuple(place) == GOAL:
                break
            place = np.clip(place + MOVES[action], 0, 3)
            total += DISCOUNT**t * (PAY if tuple(place) == GOAL else -PRICE[tuple(place)])
        best[sequence[0]] = max(best[sequence[0]], total)
    return best


def test_the_first_action_is_the_best_of_all_sequences():
    search = TreeSearch(actions=4, simulations=400, discount=DISCOUNT, depth=DEPTH)
    zero = lambda cells: jnp.zeros(cells.shape[0])
    choose = jax.jit(jax.vmap(lambda cell, key: tree_search(search, step, zero, cell, key)))
    # From (0, 1) the best way goes round the pit, in four steps. (With no value to guide them, trees of this size do
    # not find every detour of that length.)
    cells = np.array([[0, 1], [0, 0], [3, 3], [3, 1]])
    found = choose(jnp.asarray(cells), jax.random.split(jax.random.key(0), len(cells)))
    for cell, action, weights in zip(cells, found.action, found.weights):
        best = returns(cell)
        assert best[action] == pytest.approx(best.max()), (cell, best)
        assert weights.sum() == pytest.approx(1, abs=1e-5)
    again = choose(jnp.asarray(cells), jax.random.split(jax.random.key(0), len(cells)))
    np.testing.assert_array_equal(found.weights, again.weights)


@pytest.mark.parametrize("name", ["actions", "simulations", "considered", "discount"])
def test_zero_budgets_are_refused_by_name(name):
    with pytest.raises(UserError, match=f"^{name}=0 of a tree search must"):
        TreeSearch(**{"actions": 4, "simulations": 8, name: 0})
