"""FourRooms: walls, doors, the distractor and the expert, against plain geometry."""

import collections
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from world_models.data.sources import worlds
from world_models.environments import tasks
from world_models.environments.worlds import four_rooms
from world_models.environments.worlds.four_rooms import FourRooms, Layout, State

OPTIONS = {"source": "four_rooms", "seed": 0, "num_frames": 401, "image_size": (224, 224), "expert_share": 0.5}
DOORS = {(0, 1): (112, 56), (1, 2): (168, 112), (2, 3): (112, 168), (3, 0): (56, 112)}  # by the rooms they join


@pytest.fixture(scope="module")
def data():
    """256 trajectories as NumPy arrays in double precision."""
    collect = worlds.collector(OPTIONS)
    made = [collect(np.arange(i, i + worlds.BATCH)) for i in range(0, 256, worlds.BATCH)]
    return jax.tree.map(lambda *parts: np.concatenate(parts).astype(float), *made)


def rooms(positions):
    right, below = positions[..., 0] >= 112, positions[..., 1] >= 112
    return np.where(below, np.where(right, 2, 3), np.where(right, 1, 0))


def in_doorway(positions, closed):
    """Whether positions [..., 2] are within reach of an open door's line, by axis of the wall that it is in."""
    x, y = positions[..., 0], positions[..., 1]
    upright = ((np.abs(y - 56) <= 17.75) & (closed != 0)) | ((np.abs(y - 168) <= 17.75) & (closed != 2))
    level = ((np.abs(x - 168) <= 17.75) & (closed != 1)) | ((np.abs(x - 56) <= 17.75) & (closed != 3))
    return upright, level


def test_walls_are_passed_at_open_doors_alone(data):
    closed = data.states.layout.closed
    assert (closed[:, :1] == closed).all()
    for positions in (data.states.position, data.states.layout.distractor):
        assert ((positions >= 14) & (positions <= 209)).all()
        upright, level = in_doorway(positions, closed)
        # It may be in a doorway and let go of the door along the wall; then the wall pushes it back into its room.
        assert not ((np.abs(positions[..., 0] - 112) < 8.5 - 1e-3) & ~upright)[:, 1:].any()
        assert not ((np.abs(positions[..., 1] - 112) < 8.5 - 1e-3) & ~level)[:, 1:].any()
    positions = data.states.position
    before, after = positions[:, :-1], positions[:, 1:]
    upright, level = in_doorway(after, closed[:, 1:])
    crossed = (before >= 112) != (after >= 112)
    assert crossed.any(axis=(0, 1)).all()
    assert not (crossed[..., 0] & ~upright).any()
    assert not (crossed[..., 1] & ~level).any()


def test_agents_move_as_asked_where_no_wall_is_near(data):
    positions, actions = data.states.position, data.actions
    moved = positions[:, 1:] - positions[:, :-1]
    near = (np.abs(positions - 112) < 12).any(axis=-1) | ((positions < 21) | (positions > 203)).any(axis=-1)
    free = ~near[:, :-1]
    assert free.mean() > 0.4
    np.testing.assert_allclose(moved[free], 2.5 * actions[free], atol=1e-4)
    assert (np.abs(actions) <= 1).all()
    expert = data.policy == 1
    assert expert.mean() == pytest.approx(0.5, abs=0.1)
    lengths = np.linalg.norm(actions, axis=-1)
    assert lengths[~expert].mean() == pytest.approx(0.75, abs=0.01)  # the explorer's mean speed
    seen = np.array([len(set(row)) for row in rooms(positions)])
    assert seen[expert].mean() > seen[~expert].mean() + 0.5
    assert (data.states.layout.closed[:, 0] >= 0).mean() == pytest.approx(0.5, abs=0.1)
    assert set(np.unique(data.states.layout.closed)) == {-1, 0, 1, 2, 3}


def test_the_distractor_walks_straight_and_jumps(data):
    heading, place = data.states.layout.heading, data.states.layout.distractor
    jumps = heading[:, 1:] != heading[:, :-1]
    assert jumps.mean() == pytest.approx(1 - np.exp(-1 / 35), abs=0.002)
    moved = place[:, 1:] - place[:, :-1]
    ahead = 2.5 * np.stack([np.cos(heading), np.sin(heading)], axis=-1)[:, :-1]
    free = ~jumps & (np.abs(place[:, :-1] - 112) > 12).all(-1) & ((place > 21) & (place < 203)).all(-1)[:, :-1]
    np.testing.assert_allclose(moved[free], ahead[free], atol=1e-4)
    far = np.linalg.norm(moved, axis=-1)
    assert far[jumps].mean() > 60
    assert far[~jumps].max() < 20  # a wall that is met sets it half a pixel before the wall
    first = place[:, 0]  # nothing starts, and nothing lands, in the middle walls
    assert (np.abs(first - 112) >= 8.5 - 1e-3).all()


def picture(position, distractor, closed):
    """The published picture, straight from its description, with whole levels at every coat of paint."""
    rows, columns = np.mgrid[:224, :224].astype(float)
    wall = np.zeros((224, 224), bool)
    wall[:, 107:118] = wall[107:118] = True
    for door, (x, y) in enumerate(DOORS.values()):
        if door != closed:
            across, along = (slice(107, 118), slice(-16, 17))
            if x == 112:
                wall[y + along.start : y + along.stop, across] = False
            else:
                wall[across, x + along.start : x + along.stop] = False
    wall[10:14] = wall[210:214] = wall[:, 10:14] = wall[:, 210:214] = True
    image = np.where(wall[..., None], 0.0, 255.0) * np.ones(3)
    for (x, y), colour in ((distractor, (0, 114, 178)), (position, (255, 0, 0))):
        dot = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 3.5**2))[..., None]
        dot = dot / dot.max()
        image = np.floor(image * (1 - dot) + np.array(colour) * dot + 1e-3)
    return image


@pytest.mark.parametrize(("size", "closed"), [((224, 224), -1), ((32, 32), 2)])
def test_frames_are_the_published_picture_or_its_average(size, closed):
    place, other = (60.3, 150.2), (66.1, 146.8)
    state = State(jnp.array(place), Layout(jnp.int32(closed), jnp.array(other), jnp.float32(0)))
    frame = np.asarray(jax.jit(FourRooms(size).render)(state))
    wanted = (
        picture(place, other, closed).reshape(size[0], 224 // size[0], size[1], 224 // size[1], 3).mean(axis=(1, 3))
    )
    assert frame.dtype == np.uint8
    assert np.abs(frame - np.floor(wanted + 1e-3)).max() <= 2  # two coats are rounded down, each may differ by one
    assert (frame == np.floor(wanted + 1e-3)).mean() > 0.99


def shortest_paths(start, goal, closed):
    """Doors on the way, by breadth-first search over rooms, and the shortest length over all sequences of doors."""
    joined = {pair: place for i, (pair, place) in enumerate(DOORS.items()) if i != closed}
    near = collections.defaultdict(dict)
    for (a, b), place in joined.items():
        near[a][b] = near[b][a] = place
    here, there = (int(rooms(np.array(p))) for p in (start, goal))
    queue, seen = collections.deque([(here, 0)]), {here: 0}
    while queue:
        room, count = queue.popleft()
        for other in near[room]:
            if other not in seen:
                seen[other] = count + 1
                queue.append((other, count + 1))
    best = np.inf
    for number in range(4):
        for middle in itertools.permutations(range(4), number):
            path = (here, *middle)
            if (
                path[-1] == there
                and len(set(path)) == len(path)
                and all(b in near[a] for a, b in itertools.pairwise(path))
            ):
                points = [start, *(near[a][b] for a, b in itertools.pairwise(path)), goal]
                best = min(best, sum(np.hypot(*np.subtract(b, a)) for a, b in itertools.pairwise(points)))
    return seen[there], best


@pytest.mark.parametrize("name", ["cross_1", "cross_2", "cross_3"])
def test_tasks_cross_as_many_doors_as_they_say(name):
    made = tasks.make(FourRooms(), name, 1, 40)
    for start, goal, closed, steps in zip(made.start, made.goal, made.layout.closed, made.distance):
        doors, length = shortest_paths(start, goal, closed)
        assert doors == int(name[-1])
        assert steps * 2.5 == pytest.approx(length, rel=1e-5)
        assert name == "cross_3" or steps <= 75
    assert (made.layout.closed >= 0).any()
    np.testing.assert_array_equal(FourRooms().path_length(made.start, made.goal, made.layout), made.distance)


def test_the_expert_without_noise_solves_every_task():
    world = FourRooms()
    made = [tasks.make(world, name, 0, 50) for name in world.TASKS]
    every = jax.tree.map(lambda *parts: np.concatenate(parts), *made)

    def solve(task):
        def move(state, key):
            state = world.step(state, four_rooms.expert(state.position, task.goal, task.layout.closed), key)
            return state, world.reached(state, task.goal)

        return jax.lax.scan(move, world.reset(task), jax.random.split(jax.random.key(0), world.num_steps))[1]

    reached = np.asarray(jax.jit(jax.vmap(solve))(every))
    assert reached.any(axis=1).all()
    assert (reached.argmax(axis=1) <= every.distance + 25).all()  # it walks by door centres and rubs along walls
