"""TwoRooms: a dot in two rooms with one door, after eb_jepa's DotWall (Apache-2.0, facebookresearch/eb_jepa; and PLDM).

Lengths are pixels of the published 65 x 65 picture, whatever the size of the frames. x grows to the right, y downwards.
Borders are the lines 4 and 60; the wall is 2 thick around `wall_x`, its door reaches 4 up and down from `door_y`.

Published properties that are kept:
- In data, a step that would touch a border, the wall or a door post leaves the dot where it is. In the evaluation it
  puts the dot where the path meets the wall, plus noise of 0.5 away from it.
- The evaluation does not limit how long a step is. Steps of the data are 0.2 to 1.8 long; the bounds of
  `ActionSpec` are 2.45, the radius of the published CEM; the published MPPI has no bound.
- A share `cross_rate` of the trajectories is *built* to lead through the door. Fewer cross it: a start that the
  construction puts outside of the rooms is moved inside, which moves the whole path, and steps that meet the wall are
  not made. Others cross by chance. So the share asked for and the share measured are two numbers. Some of the starts
  that were moved lie inside the wall, which the dot then leaves only into the door.
- Of trajectories built from right to left, the point in the door is where the path is after one step more than the
  turning point of the construction.
- Start and goal of a task are in different rooms, in either order.

Deviations: frames have a third, empty channel (dot, walls, 0); noise is drawn once a step; a step straight along an
axis meets a wall where it should (there it divides by zero); dot and walls at other sizes are area averages.
"""

import dataclasses
import functools
import itertools
import math
import types
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erfinv

from world_models.core.errors import config_error
from world_models.core.types import ActionSpec, Array
from world_models.environments.world import Task, Trajectory
from world_models.environments.worlds import drawing

SIDE, LOW, HIGH = 65, 4.0, 60.0
HALF_WALL, HALF_DOOR = 1.0, 4.0
DOT_STD, MARGIN = 1.3, 2.6
WALLS, DOORS = (20, 45), (10, 55)  # of random layouts: whole numbers from the first to below the second
FIXED = (32, 18)
STEP_MEAN, STEP_STD, CONCENTRATION = 1.0, 0.4, 5.0
CELL = 4.0  # side of a cell of the coverage statistics


class Layout(NamedTuple):
    """Where the wall stands and where its door is; float32 []."""

    wall_x: Array
    door_y: Array


class State(NamedTuple):
    """Position float32 [2] and layout."""

    position: Array
    layout: Layout


@dataclasses.dataclass(frozen=True)
class TwoRooms:
    """The world of the published evaluation; see `World`. Distances are pixels, about one a step of the data.

    Attributes:
      image_size: (height, width) of the frames; (65, 65) is published.
      max_norm: steps are shortened to this length; 0 (as published) leaves them.
    """

    image_size: tuple[int, int] = (SIDE, SIDE)
    max_norm: float = 0.0
    Layout = Layout
    POLICIES = ("random walk", "built to cross")
    TASKS = ("random_wall", "fixed_wall")
    BINS = types.MappingProxyType({})
    spec = ActionSpec("continuous", 2, (-2.45, -2.45), (2.45, 2.45))
    num_steps = 200
    num_cells = int((HIGH - LOW) / CELL) ** 2
    num_rooms = 2

    def reset(self, task: Task) -> State:
        """The dot at the start of a task."""
        return State(jnp.asarray(task.start, jnp.float32), Layout(*(jnp.float32(x) for x in task.layout)))

    def step(self, state: State, action: Array, key: Array) -> State:
        """Moves the dot by `action` pixels; a wall in between stops it there, with noise away from the wall."""
        if self.max_norm:
            action = action * jnp.minimum(1, self.max_norm / jnp.maximum(jnp.linalg.norm(action), 1e-12))
        noise = 0.5 * jax.random.normal(key, (2,))
        return state._replace(position=_stopped(state.position, state.position + action, state.layout, noise))

    def render(self, state: State) -> Array:
        """uint8 [h, w, 3]: the dot, the walls, nothing."""
        grid = jnp.arange(SIDE)
        wall = jnp.abs(grid - state.layout.wall_x) <= HALF_WALL
        door = jnp.abs(grid - state.layout.door_y) <= HALF_DOOR
        border = (grid == LOW) | (grid == HIGH)
        walls = (wall[None] & ~door[:, None]) | border[None] | border[:, None]
        dot = jnp.outer(*(drawing.bell(state.position[axis], SIDE, DOT_STD) for axis in (1, 0)))
        image = 255 * jnp.stack([dot, walls.astype(jnp.float32), jnp.zeros((SIDE, SIDE))], axis=-1)
        return drawing.to_bytes(drawing.resize(image, self.image_size))

    def position(self, state: State) -> Array:
        """Of the dot."""
        return state.position

    def pixel(self, position: Array) -> Array:
        """Column and row of the frame."""
        return drawing.pixel(position, SIDE, self.image_size)

    def reached(self, state: State, goal: Array) -> Array:
        """Nearer than 4.5 pixels. Published success asks this of the last of 200 steps."""
        return jnp.linalg.norm(state.position - goal) < 4.5

    def cell(self, state: State) -> Array:
        """One of 14 x 14 squares between the borders."""
        across = int((HIGH - LOW) / CELL)
        column, row = jnp.clip(jnp.floor((state.position - LOW) / CELL), 0, across - 1).astype(jnp.int32)
        return row * across + column

    def room(self, state: State) -> Array:
        """0 left of the wall, 1 right of it, -1 within its thickness."""
        side = state.position[0] - state.layout.wall_x
        return jnp.where(jnp.abs(side) <= HALF_WALL, -1, (side > 0).astype(jnp.int32))

    def blocked(self, position: np.ndarray, layout: Layout) -> str:
        """Why the dot cannot be there."""
        x, y = np.asarray(position)
        if not (LOW < x < HIGH and LOW < y < HIGH):
            return f"outside of the rooms, which reach from {LOW:g} to {HIGH:g}"
        if abs(x - layout.wall_x) <= HALF_WALL and abs(y - layout.door_y) > HALF_DOOR:
            return f"inside the wall at x={layout.wall_x:g}"
        return ""

    def sample_tasks(self, name: str, rng: np.random.Generator, number: int) -> Task:
        """Tasks "random_wall" (any layout) or "fixed_wall" (wall at 32, door at 18), from one room to the other."""
        walls, doors = (np.float32(rng.integers(*bounds, number)) for bounds in (WALLS, DOORS))
        if name == "fixed_wall":
            walls, doors = (np.full(number, value, np.float32) for value in FIXED)
        low, high = LOW + MARGIN, SIDE - 1 - LOW - MARGIN
        left = np.stack([rng.uniform(low, walls - HALF_WALL - MARGIN), rng.uniform(low, high, number)], axis=-1)
        right = np.stack([rng.uniform(walls + HALF_WALL + MARGIN, high), rng.uniform(low, high, number)], axis=-1)
        swap = rng.random((number, 1)) < 0.5
        starts, goals = np.where(swap, right, left).astype(np.float32), np.where(swap, left, right).astype(np.float32)
        layout = Layout(walls, doors)
        return Task(starts, goals, layout, shortest_path(starts, goals, layout))

    def path_length(self, start: np.ndarray, goal: np.ndarray, layout: Layout) -> np.ndarray:
        """In pixels."""
        lengths = np.linalg.norm(np.subtract(goal, start), axis=-1).astype(np.float32)
        apart = (start[:, 0] < layout.wall_x) != (goal[:, 0] < layout.wall_x)
        lengths[apart] = shortest_path(start[apart], goal[apart], Layout(*(leaf[apart] for leaf in layout)))
        return lengths


def shortest_path(start: np.ndarray, goal: np.ndarray, layout: Layout) -> np.ndarray:
    """Lengths float32 [n] of the shortest paths from one room to the other; starts and goals [n, 2], on the host."""
    start, goal = np.asarray(start, float).T, np.asarray(goal, float).T
    side = np.where(start[0] < goal[0], HALF_WALL, -HALF_WALL)
    first, second = layout.wall_x - side, layout.wall_x + side  # faces of the wall, in the order of the path

    def through(a: tuple, b: tuple, x: np.ndarray) -> np.ndarray:
        """Height at x of the line from a to b, as near as the door allows."""
        y = a[1] + (b[1] - a[1]) * (x - a[0]) / (b[0] - a[0])
        return np.clip(y, layout.door_y - HALF_DOOR, layout.door_y + HALF_DOOR)

    y, z = through(start, goal, first), through(start, goal, second)
    for _ in range(20):  # the length is convex in both heights, and the best one given the other is on a line
        y = through(start, (second, z), first)
        z = through((first, y), goal, second)
    points = [start, (first, y), (second, z), goal]
    return sum(np.hypot(b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(points)).astype(np.float32)


def _crosses(p: Array, q: Array, line: Array) -> Array:
    """Whether the segment from p to q leaves its side of a line, or is on it."""
    return jnp.sign(p - line) * jnp.sign(q - line) <= 0


def _at(p: Array, q: Array, axis: int, line: Array) -> Array:
    """The other coordinate where the line through p and q meets `line` on `axis`."""
    along = q[axis] - p[axis]
    return p[1 - axis] + (line - p[axis]) * (q[1 - axis] - p[1 - axis]) / jnp.where(along == 0, 1, along)


def _posts(p: Array, q: Array, layout: Layout) -> tuple[Array, Array]:
    """Where the path passes the upper and lower line of the door, going out: (x [2], inside their y [2])."""
    lines = layout.door_y + HALF_DOOR * jnp.array([1.0, -1.0])
    out = jnp.array([1.0, -1.0]) * (jnp.stack([p[1], q[1]])[:, None] - lines)
    return _at(p, q, 1, lines), (out[0] < 0) & (out[1] > 0)


def _stays(p: Array, q: Array, layout: Layout) -> Array:
    """Whether a step of the data from p to q is not made, bool []."""
    border = (_crosses(p, q, LOW) | _crosses(p, q, HIGH)).any()
    meets, leaves = _posts(p, q, layout)
    post = (leaves & (jnp.abs(meets - layout.wall_x) < HALF_WALL)).any()
    faces = layout.wall_x + HALF_WALL * jnp.array([-1.0, 1.0])
    closed = jnp.abs(_at(p, q, 0, faces) - layout.door_y) > HALF_DOOR
    wall = (((p[0] - faces) * (q[0] - faces) < 0) & closed).any()
    return border | post | wall


def _stopped(p: Array, q: Array, layout: Layout, noise: Array) -> Array:
    """Where a step of the evaluation from p to q ends, [2]; `noise` [2] is used where it meets a wall."""
    meets, leaves = _posts(p, q, layout)
    posts = leaves & (jnp.abs(meets - layout.wall_x) <= HALF_WALL)
    inwards = jnp.array([-1.0, 1.0]) * jnp.abs(noise[1])
    lines = layout.door_y + HALF_DOOR * jnp.array([1.0, -1.0])
    at_post = jnp.where(posts[0], jnp.stack([meets[0] + noise[0], lines[0] + inwards[0]]), 0.0)
    at_post = jnp.where(posts[1], jnp.stack([meets[1] + noise[0], lines[1] + inwards[1]]), at_post)

    ahead = layout.wall_x > p[0]
    low = jnp.stack([jnp.where(ahead, LOW, layout.wall_x + HALF_WALL), LOW])
    high = jnp.stack([jnp.where(ahead, layout.wall_x - HALF_WALL, HIGH), HIGH])
    in_door = lambda line: jnp.abs(_at(p, q, 0, line) - layout.door_y) <= HALF_DOOR
    hit_low = _crosses(p, q, low) & jnp.stack([ahead | ~in_door(low[0]), True])
    hit_high = _crosses(p, q, high) & jnp.stack([~ahead | ~in_door(high[0]), True])
    hit = hit_low | hit_high
    line = jnp.where(hit_low, low, high)
    points = jnp.stack([jnp.stack([line[0], _at(p, q, 0, line[0])]), jnp.stack([_at(p, q, 1, line[1]), line[1]])])
    away = jnp.where(jnp.eye(2, dtype=bool), jnp.abs(noise) * jnp.sign(p - line), noise)
    far = jnp.where(hit, jnp.linalg.norm(points - p, axis=-1), jnp.inf)
    first = jnp.where(far[0] < far[1], 0, 1)
    landed = points[first] + away[first]
    landed = jnp.where(landed <= low, low + 0.3, jnp.where(landed >= high, high - 0.3, landed))
    return jnp.where(posts.any(), at_post, jnp.where(hit.any(), landed, q))


@functools.cache
def _turns() -> np.ndarray:
    """Quantiles of the von Mises distribution of the change of direction, float32 [4097], for even probabilities."""
    angles = np.linspace(-np.pi, np.pi, 200_001)
    density = np.exp(CONCENTRATION * (np.cos(angles) - 1))
    below = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
    return np.interp(np.linspace(0, 1, 4097), below / below[-1], angles).astype(np.float32)


def _walk(draws: Array, first: Array) -> Array:
    """Steps [count, 2] of draws in [0, 1) of that shape: directions wander from the angle `first`."""
    quantiles = jnp.asarray(_turns())
    turns = jnp.interp(draws[1:, 0], jnp.linspace(0, 1, len(quantiles)), quantiles)
    angles = first + jnp.concatenate([jnp.zeros(1), jnp.cumsum(turns)])
    lengths = STEP_MEAN + _normal(draws[:, 1:], STEP_STD, 2 * STEP_STD)
    return lengths * jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=-1)


def _normal(draw: Array, std: float, limit: float) -> Array:
    """Of draws in [0, 1), normal numbers around 0 within +-limit."""
    return jnp.clip(std * 2**0.5 * erfinv(math.erf(limit / std / 2**0.5) * (2 * draw - 1)), -limit, limit)


def _free(draws: Array, layout: Layout) -> Array:
    """Start of a random walk [2], of draws in [0, 1) [4]."""
    x, y = LOW + (HIGH - LOW) * draws[:2]
    inside = (jnp.abs(x - layout.wall_x) <= HALF_WALL) & (jnp.abs(y - layout.door_y) > HALF_DOOR)
    left = LOW + draws[2] * (layout.wall_x - HALF_WALL - LOW)
    right = layout.wall_x + HALF_WALL + draws[2] * (HIGH - layout.wall_x - HALF_WALL)
    return jnp.stack([jnp.where(inside, jnp.where(draws[3] < 0.5, left, right), x), y])


def _built(draws: Array, left: Array, right: Array, layout: Layout) -> tuple[Array, Array]:
    """Start [2] and steps [count, 2] through the door: two walks away from it, one of them run backwards."""
    count = len(left)
    door = jnp.stack(
        [layout.wall_x + HALF_WALL * (2 * draws[0] - 1), layout.door_y + _normal(draws[1], 1.4, HALF_DOOR)]
    )
    time, i = 1 + jnp.floor(draws[2] * count).astype(jnp.int32), jnp.arange(count)
    steps = jnp.where((i < time)[:, None], -left[jnp.maximum(time - 1 - i, 0)], right[jnp.maximum(i - time + 1, 0)])
    flip = draws[3] < 0.5
    steps = jnp.where(flip, -steps[::-1], steps)
    before = ((i < jnp.where(flip, count + 1 - time, time))[:, None] * steps).sum(axis=0)
    return jnp.clip(door - before, LOW + 0.01, HIGH - 0.01), steps


def collect(key: Array, num_frames: int, cross_rate: float, wall: str) -> Trajectory:
    """A trajectory of the published data.

    Args:
      key: of the trajectory.
      num_frames: published 91.
      cross_rate: share of trajectories that are built to cross; published 0.35.
      wall: "random" or "fixed", at 32 with the door at 18.
    """
    for_scalars, for_steps = jax.random.split(key)
    # One draw for each shape: every further one costs a second or so of compilation.
    draws, walks = jax.random.uniform(for_scalars, (13,)), jax.random.uniform(for_steps, (3, num_frames - 1, 2))
    layout = Layout(*(low + jnp.floor(draw * (high - low)) for draw, (low, high) in zip(draws, (WALLS, DOORS))))
    layout = Layout(*map(jnp.float32, FIXED)) if wall == "fixed" else layout
    leftwards = jnp.pi * (0.75 + draws[3] / 2)
    angles = jnp.stack([2 * jnp.pi * draws[4], leftwards, leftwards + jnp.pi])
    free, left, right = jax.vmap(_walk)(walks, angles)
    built, built_steps = _built(draws[5:9], left, right, layout)
    is_built = draws[2] < cross_rate
    start, actions = jnp.where(is_built, built, _free(draws[9:], layout)), jnp.where(is_built, built_steps, free)

    def move(p: Array, action: Array) -> tuple[Array, Array]:
        q = jnp.where(_stays(p, p + action, layout), p, p + action)
        return q, q

    _, positions = jax.lax.scan(move, start, actions)
    states = State(jnp.concatenate([start[None], positions]), jax.tree.map(lambda x: jnp.full(num_frames, x), layout))
    return Trajectory(states, actions, is_built.astype(jnp.int32))


def check(options: dict) -> None:
    """Raises UserError for options of `collect`, fields of `config.record`, that are invalid."""
    if not 0 <= options["cross_rate"] <= 1:
        raise config_error("config.record.cross_rate", options["cross_rate"], "be from 0 to 1")
    if options["wall"] not in ("random", "fixed"):
        raise config_error("config.record.wall", options["wall"], "be 'random' or 'fixed'")
