"""TwoRooms: what the data and the evaluation do at walls, against geometry in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from world_models.data.sources import worlds
from world_models.environments import tasks
from world_models.environments.worlds import two_rooms
from world_models.environments.worlds.two_rooms import Layout, State, TwoRooms

OPTIONS = {"source": "two_rooms", "seed": 3, "num_frames": 91, "image_size": (65, 65), "wall": "random"}


@pytest.fixture(scope="module")
def collect():
    return worlds.collector({**OPTIONS, "cross_rate": 0.35})


@pytest.fixture(scope="module")
def data(collect):
    """8192 trajectories as NumPy arrays in double precision: positions, actions, wall, door, whether built to cross."""
    made = [collect(np.arange(i, i + worlds.BATCH)) for i in range(0, 8192, worlds.BATCH)]
    states, actions, built = jax.tree.map(lambda *parts: np.concatenate(parts).astype(float), *made)
    return states.position, actions, states.layout.wall_x[:, 0], states.layout.door_y[:, 0], built


def touches(p, q, wall, door, slack=0.0):
    """Whether segments p to q, [n, 2], meet a border or the wall's two rectangles grown by `slack`: clipping."""
    low, high = 4 - slack, 60 + slack
    out = ((q < low + 2 * slack) | (q > high - 2 * slack)).any(axis=-1) if slack > 0 else ((q <= 4) | (q >= 60)).any(-1)
    hit = np.zeros(len(p), bool)
    for bottom, top in ((np.full(len(p), -1e3), door - 4), (door + 4, np.full(len(p), 1e3))):
        enter, leave = np.zeros(len(p)), np.ones(len(p))
        for axis, (a, b) in enumerate(((wall - 1 - slack, wall + 1 + slack), (bottom - slack, top + slack))):
            step = q[:, axis] - p[:, axis]
            step = np.where(step == 0, 1e-12, step)
            one, two = (a - p[:, axis]) / step, (b - p[:, axis]) / step
            enter, leave = np.maximum(enter, np.minimum(one, two)), np.minimum(leave, np.maximum(one, two))
        hit |= enter < leave
    return out | hit


def test_steps_have_the_published_lengths_and_directions(data):
    _, actions, _, _, built = data
    lengths = np.linalg.norm(actions, axis=-1)
    assert lengths.min() > 0.2 - 1e-5
    assert lengths.max() < 1.8 + 1e-5
    assert lengths.mean() == pytest.approx(1, abs=0.002)
    assert lengths.std() == pytest.approx(0.4 * 0.8796, abs=0.002)  # of a normal distribution cut at 2 sigma
    angles = np.arctan2(actions[..., 1], actions[..., 0])[built == 0]
    # The mean resultant length of a von Mises distribution is a ratio of Bessel functions: 0.8934 for concentration 5.
    assert np.exp(1j * np.diff(angles)).mean() == pytest.approx(0.8934, abs=0.002)
    assert abs(np.exp(1j * angles[:, 0]).mean()) < 0.04


def test_the_requested_share_is_built_and_fewer_trajectories_cross(data):
    positions, _, wall, _, built = data
    assert built.mean() == pytest.approx(0.35, abs=0.02)
    side = positions[..., 0] - wall[:, None]
    crossed = (side.min(axis=1) < -1) & (side.max(axis=1) > 1)
    assert 0.5 < crossed[built == 1].mean() < 0.62
    assert crossed[built == 0].mean() < 0.12
    assert crossed.mean() == pytest.approx(0.26, abs=0.02)


def test_a_step_is_made_unless_it_would_meet_a_wall(data):
    positions, actions, wall, door, _ = data
    p, q = positions[:, :-1].reshape(-1, 2), positions[:, 1:].reshape(-1, 2)
    asked = p + actions.reshape(-1, 2)
    wall, door = np.repeat(wall, 90), np.repeat(door, 90)
    stays, moves = (q == p).all(axis=-1), np.abs(q - asked).max(axis=-1) < 1e-4
    assert (stays | moves).all()
    inside = (np.abs(p[:, 0] - wall) < 1) & (np.abs(p[:, 1] - door) > 4)  # a start moved into the wall
    assert inside.mean() < 0.02
    ok = ~inside
    assert not touches(p[ok], q[ok], wall[ok], door[ok], slack=-1e-4)[moves[ok]].any()
    assert touches(p[ok], asked[ok], wall[ok], door[ok], slack=1e-4)[stays[ok]].all()
    assert 0.2 < stays.mean() < 0.4  # and that happens often: walks into walls stay there
    assert ((positions > 4) & (positions < 60)).all()


def test_trajectories_are_a_function_of_seed_and_number(collect):
    first, again = collect(np.arange(64)), collect(np.arange(63, -1, -1))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[::-1]), first, again)
    assert len(np.unique(np.asarray(first.actions[:, 0, 0]))) == 64
    walls, doors = np.asarray(first.states.layout.wall_x), np.asarray(first.states.layout.door_y)
    assert (walls == walls[:, :1]).all()
    assert set(np.unique(walls)) <= set(range(20, 45))
    assert set(np.unique(doors)) <= set(range(10, 55))


@pytest.fixture(scope="module")
def steps():
    """40000 steps of the evaluation from free places, up to 3 pixels long."""
    rng, n = np.random.default_rng(0), 40000
    layout = Layout(*(rng.integers(*bounds, n).astype(np.float32) for bounds in ((20, 45), (10, 55))))
    p = rng.uniform(4.01, 59.99, (n, 2))
    p[: n // 2, 0] = layout.wall_x[: n // 2] + rng.uniform(-3, 3, n // 2)
    p[: n // 2, 1] = layout.door_y[: n // 2] + rng.uniform(-6, 6, n // 2)
    free = (
        ((np.abs(p[:, 0] - layout.wall_x) > 1) | (np.abs(p[:, 1] - layout.door_y) < 4)) & (p[:, 1] > 4) & (p[:, 1] < 60)
    )
    p, layout = p[free].astype(np.float32), Layout(*(x[free] for x in layout))
    actions = rng.uniform(-3, 3, p.shape).astype(np.float32)
    world = TwoRooms()
    step = jax.jit(jax.vmap(lambda state, action, key: world.step(state, action, key).position))
    after = np.asarray(step(State(p, layout), actions, jax.random.split(jax.random.key(0), len(p))))
    return p.astype(float), (p + actions).astype(float), after, layout


def test_the_evaluation_stops_at_walls_with_noise(steps):
    p, asked, after, (wall, door) = steps
    moves = np.abs(after - asked).max(axis=-1) < 1e-5
    assert not touches(p, asked, wall, door, slack=-1e-3)[moves].any()
    assert touches(p, asked, wall, door, slack=1e-3)[~moves].all()
    assert 0.1 < (~moves).mean() < 0.6
    assert ((after > 4) & (after < 60)).all()
    side = np.sign(p[:, 0] - wall) * (np.abs(p[:, 0] - wall) > 1)
    at_wall = ~moves & (side != 0) & (np.abs(asked[:, 0] - wall) < np.abs(p[:, 0] - wall))
    stopped = at_wall & ~((asked < 4) | (asked > 60)).any(axis=-1)
    face = wall + side
    crossing = stopped & ((asked[:, 0] - face) * side < 0)
    assert crossing.sum() > 1000
    distance = ((after[:, 0] - face) * side)[crossing & (np.abs(after[:, 1] - door) > 6)]  # not at a post
    assert (distance > 0).all()  # it never gets into the wall
    assert np.median(distance) == pytest.approx(0.5 * 0.6745, abs=0.03)  # half a normal distribution of 0.5


def test_steps_are_as_long_as_asked_unless_limited():
    state = State(jnp.array([12.0, 30.0]), Layout(jnp.float32(40), jnp.float32(30)))
    action, key = jnp.array([6.0, 8.0]), jax.random.key(0)
    free, limited = (jax.jit(TwoRooms(max_norm=norm).step)(state, action, key).position for norm in (0, 2.5))
    np.testing.assert_allclose(free, [18, 38], rtol=1e-6)
    np.testing.assert_allclose(limited, [12 + 1.5, 30 + 2], rtol=1e-6)


def picture(x, y, wall, door):
    """The published picture, float [65, 65, 2], straight from its formula."""
    rows, columns = np.mgrid[:65, :65]
    dot = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 1.3**2))
    walls = (np.abs(columns - wall) <= 1) & ~(np.abs(rows - door) <= 4)
    for line in (4, 60):
        walls[line] = walls[:, line] = True
    return np.stack([dot, 255.0 * walls], axis=-1)


@pytest.mark.parametrize("size", [(65, 65), (32, 40)])
def test_frames_are_the_published_picture_or_its_average(size):
    world, (x, y, wall, door) = TwoRooms(size), (21.4, 33.7, 30, 34)
    frame = np.asarray(jax.jit(world.render)(State(jnp.array([x, y]), Layout(jnp.float32(wall), jnp.float32(door)))))
    assert frame.dtype == np.uint8
    fine = picture(x, y, wall, door).repeat(size[0], axis=0).repeat(size[1], axis=1)
    wanted = fine.reshape(size[0], 65, size[1], 65, 2).mean(axis=(1, 3))
    assert np.abs(frame[..., :2] - np.floor(wanted + 1e-3)).max() <= 1
    assert (frame[..., :2] == np.floor(wanted + 1e-3)).mean() > 0.99
    assert not frame[..., 2].any()
    if size == (65, 65):
        assert set(np.unique(frame[..., 1])) == {0, 255}


def test_tasks_lead_through_the_door(data):
    world = TwoRooms()
    made = tasks.make(world, "random_wall", 0, 300)
    wall, door = made.layout
    side = np.sign(made.start[:, 0] - wall)
    assert (side == -np.sign(made.goal[:, 0] - wall)).all()
    assert 0.4 < (side < 0).mean() < 0.6
    for place in (made.start, made.goal):
        assert (np.abs(place[:, 0] - wall) >= 3.6 - 1e-4).all()
        assert ((place >= 6.6 - 1e-4) & (place <= 57.4 + 1e-4)).all()
    y = door[:, None, None] + np.linspace(-4, 4, 81)[:, None]  # every way through a grid of heights at both faces
    z = door[:, None, None] + np.linspace(-4, 4, 81)[None]
    a, b, near = made.start, made.goal, side
    ways = np.hypot(wall + near - a[:, 0], (y.T - a[:, 1]).T[..., 0].T).T[..., None] + np.hypot(2, y - z)
    ways = ways + np.hypot(wall - near - b[:, 0], (z.T - b[:, 1]).T[:, 0].T).T[:, None]
    np.testing.assert_allclose(made.distance, ways.min(axis=(1, 2)), rtol=2e-4)
    np.testing.assert_array_equal(world.path_length(made.start, made.goal, made.layout), made.distance)
    within = np.roll(made.start, 1, axis=0) * [0, 1] + made.start * [1, 0]  # other heights, in the same room
    expected = np.abs(within - made.start)[:, 1]
    np.testing.assert_allclose(world.path_length(made.start, within, made.layout), expected, rtol=1e-5)
    fixed = tasks.make(world, "fixed_wall", 0, 5).layout
    assert set(zip(fixed.wall_x, fixed.door_y)) == {(two_rooms.FIXED)}
