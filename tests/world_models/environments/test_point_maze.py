"""Point mazes: maps, walls, the breadth-first expert and the frames, against plain Python."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from world_models.core.errors import UserError
from world_models.data.sources import worlds
from world_models.environments import tasks
from world_models.environments.worlds import maze_maps, point_maze
from world_models.environments.worlds.point_maze import PointMaze, State

OPTIONS = {"source": "point_maze", "seed": 0, "num_frames": 401, "image_size": (64, 64), "noise": 0.5}
OPTIONS["action_repeat"] = 1


@pytest.fixture(scope="module")
def data():
    """64 "navigate" trajectories in the large maze: positions [64, 401, 2] and actions [64, 400, 2]."""
    collect = worlds.collector({**OPTIONS, "maze": "large", "policy": "navigate"})
    made = jax.tree.map(np.asarray, collect(np.arange(64)))
    return made.states.position.astype(float), made.actions.astype(float)


def distances(name, goal):
    """Cells of the shortest path to `goal` from every free cell, in plain Python."""
    lines = maze_maps.MAPS[name].split()
    far, edge = {goal: 0}, [goal]
    while edge:
        edge = [
            (r + dr, c + dc)
            for r, c in edge
            for dr, dc in ((0, 1), (1, 0), (0, -1), (-1, 0))
            if lines[r + dr][c + dc] == "." and (r + dr, c + dc) not in far and not far.setdefault((r + dr, c + dc), 0)
        ]
        number = max(far.values()) + 1
        far |= dict.fromkeys(edge, number)
    return far


def gaps(name, positions):
    """Distance [...] of positions [..., 2] from the nearest wall."""
    middles = 4.0 * np.argwhere(maze_maps.walls(name))[:, ::-1] - 4
    ways = np.abs(positions[..., None, :] - middles) - 2
    return np.linalg.norm(np.maximum(ways, 0), axis=-1).min(axis=-1)


@pytest.mark.parametrize(("name", "shape"), [("medium", (8, 8)), ("large", (9, 12)), ("giant", (12, 16))])
def test_maps_are_closed_connected_and_their_ways_are_shortest(name, shape):
    wall = maze_maps.walls(name)
    assert wall.shape == shape
    assert wall[[0, -1]].all()
    assert wall[:, [0, -1]].all()
    distance, following = maze_maps.shortest_paths(name)
    for start, goal in maze_maps.TASKS[name]:
        wanted = distances(name, goal)
        assert len(wanted) == (~wall).sum()  # every free cell is reached
        assert {cell: distance[*cell, *goal] for cell in wanted} == wanted
        cell, steps = start, 0
        while cell != goal:
            after = tuple(following[*cell, *goal])
            assert abs(after[0] - cell[0]) + abs(after[1] - cell[1]) == 1
            cell, steps = after, steps + 1
        assert steps == wanted[start]
    assert (distance[wall] == -1).all()


def test_the_ball_keeps_clear_of_walls_and_moves_as_asked_elsewhere(data):
    positions, actions = data
    assert gaps("large", positions).min() > 0.7 - 1e-3
    asked = positions[:, :-1] + 0.2 * actions
    free = gaps("large", asked) > 0.7 + 1e-3
    np.testing.assert_allclose(positions[:, 1:][free], asked[free], atol=1e-4)
    assert 0.7 < free.mean() < 0.999
    pushed = np.linalg.norm(positions[:, 1:] - asked, axis=-1)[~free]
    assert (pushed <= 0.2 * 2**0.5 + 1e-4).all()
    assert (np.abs(actions) <= 1).all()


def test_the_ball_slides_along_a_wall():
    world = PointMaze()
    step = jax.jit(lambda p, a: world.step(State(p), a, jax.random.key(0)).position)
    after = step(jnp.array([0.0, -1.25]), jnp.array([1.0, -1.0]))  # the wall's face is at y = -2
    np.testing.assert_allclose(after, [0.2, -1.3], atol=1e-5)
    corner = np.array([2.0, 6.0])  # of the wall in row 3, column 1, which stands out into free cells
    before = corner + np.array([0.45, -0.6])
    after = np.asarray(step(jnp.array(before, jnp.float32), jnp.array([0.0, 1.0])))
    way = before + np.array([0, 0.2]) - corner
    np.testing.assert_allclose(after, corner + 0.7 * way / np.linalg.norm(way), atol=1e-4)


def test_the_navigator_visits_the_maze_and_the_stitcher_stays_near(data):
    positions, _ = data
    cells = np.floor((positions[..., ::-1] + 6) / 4).astype(int)
    seen = [len({tuple(c) for c in row}) for row in cells]
    assert np.mean(seen) > 10
    collect = worlds.collector({**OPTIONS, "maze": "medium", "policy": "stitch", "num_frames": 201})
    made = np.asarray(collect(np.arange(64)).states.position)
    cells = np.floor((made[..., ::-1] + 6) / 4).astype(int)
    ends = [maze_maps.shortest_paths("medium")[0][*row[0], *row[-1]] for row in cells]
    assert np.mean(np.array(ends) == 4) > 0.8  # four cells away, where there are any
    moves = np.abs(np.diff(cells, axis=1)).sum(axis=-1)
    assert moves.max() <= 2


def test_frames_show_walls_where_they_are_and_the_ball_on_its_place():
    world = PointMaze((36, 48), "large")  # 4 pixels a cell
    render = jax.jit(world.render)
    state = State(jnp.array([8.0, 4.0]))  # row 2, column 3 would be x = 8, y = 4
    frame = np.asarray(render(state)).astype(int)
    wall = maze_maps.walls("large").repeat(4, axis=0).repeat(4, axis=1)
    rows, columns = np.mgrid[:36, :48]
    x, y = columns + 0.5 - 6, rows + 0.5 - 6  # of pixel centres: the map begins at -6
    dot = np.exp(-((x - 8) ** 2 + (y - 4) ** 2) / (2 * 0.75**2))[..., None]
    wanted = 128.0 * wall[..., None] * (1 - dot) + np.array([255, 176, 64]) * dot
    assert np.abs(frame - wanted).max() <= 1


def test_the_ball_has_a_cell_and_mazes_have_names():
    world = PointMaze(maze="medium")
    free = np.argwhere(~maze_maps.walls("medium"))
    states = State(jnp.asarray(maze_maps.centre(free), jnp.float32))
    assert np.asarray(jax.jit(jax.vmap(world.cell))(states)).tolist() == list(range(world.num_cells))
    with pytest.raises(UserError, match="maze='huge' must be one of medium, large, giant"):
        PointMaze(maze="huge")


def test_tasks_are_the_benchmarks_or_as_far_as_they_say():
    made = tasks.make(PointMaze(maze="giant"), "navigate", 0, 10)
    for index in range(10):
        start, goal = maze_maps.TASKS["giant"][index % 5]
        assert made.distance[index] == distances("giant", goal)[start]
        assert np.abs(made.start[index] - maze_maps.centre(start)).max() <= 1
        assert np.abs(made.goal[index] - maze_maps.centre(goal)).max() <= 1
    assert len(np.unique(made.start[:, 0])) == 10
    far = tasks.make(PointMaze(maze="large"), "cells_9_12", 0, 50)
    cells = lambda places: [tuple(c) for c in np.floor((places[:, ::-1] + 6) / 4).astype(int).tolist()]
    wanted = [distances("large", goal)[start] for start, goal in zip(cells(far.start), cells(far.goal))]
    assert far.distance.tolist() == wanted
    np.testing.assert_array_equal(PointMaze(maze="large").path_length(far.goal, far.start, far.layout), wanted)
    assert set(wanted) <= {9, 10, 11, 12}
    assert len(set(wanted)) > 2
    assert point_maze.BINS.keys() < set(PointMaze.TASKS)
    mixed = tasks.make(PointMaze(maze="large"), "cells_5_16", 0, 12)
    for first, (low, high) in enumerate(point_maze.BINS.values()):
        assert ((low <= mixed.distance[first::3]) & (mixed.distance[first::3] <= high)).all()


def test_an_action_can_be_kept_up():
    once, often = PointMaze(), PointMaze(action_repeat=5)
    assert (once.num_steps, often.num_steps) == (1000, 200)
    for action in ([1.0, 0.3], [-0.4, -1.0]):
        state = start = State(jnp.array([1.2, 0.5]))  # walls are met on both ways
        for _ in range(5):
            state = once.step(state, jnp.array(action), None)
        np.testing.assert_allclose(often.step(start, jnp.array(action), None).position, state.position, atol=1e-6)
    made = worlds.collector({**OPTIONS, "maze": "medium", "policy": "navigate", "num_frames": 9, "action_repeat": 5})(
        np.arange(64)
    )
    steps = np.linalg.norm(np.diff(made.states.position, axis=1), axis=-1)
    assert 0.2 * 2**0.5 < steps.max() <= 5 * 0.2 * 2**0.5 + 1e-4


@pytest.mark.parametrize("maze", ["medium", "large", "giant"])
def test_steps_are_those_of_ogbench_itself(maze):
    pytest.importorskip("ogbench", reason="pip install -e '.[ogbench]' to compare with OGBench")
    theirs = gymnasium.make(f"pointmaze-{maze}-v0", terminate_at_goal=False).unwrapped
    theirs.reset(seed=0)
    np.testing.assert_array_equal(np.asarray(theirs.maze_map) == 1, maze_maps.walls(maze))
    assert [(task["init_ij"], task["goal_ij"]) for task in theirs.task_infos] == list(maze_maps.TASKS[maze])
    world, rng = PointMaze(maze=maze), np.random.default_rng(0)
    step, free = jax.jit(world.step), np.argwhere(~maze_maps.walls(maze))
    apart, touched = [], []
    for _ in range(10):
        theirs.set_xy(np.array(theirs.ij_to_xy(free[rng.integers(len(free))]), float))
        for t in range(100):
            if t % 15 == 0:
                action = rng.uniform(-1, 1, 2)
                action /= np.abs(action).max()
            before = theirs.get_xy().copy()
            after, *_ = theirs.step(action)
            ours = np.asarray(step(State(jnp.float32(before)), jnp.float32(action), None).position)
            apart.append(np.linalg.norm(ours - after))
            touched.append(np.linalg.norm(ours - before - 0.2 * action) > 1e-4)
    apart, touched = np.array(apart), np.array(touched)
    assert 0.2 < touched.mean() < 0.8
    assert apart[~touched].max() < 1e-5
    assert apart[touched].max() < 0.075  # MuJoCo's contacts are soft; a step is 0.28 at most, a cell 4
