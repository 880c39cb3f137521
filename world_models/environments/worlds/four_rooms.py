"""FourRooms with a distractor, after the H-JEPA release (MIT, kevinghst/H-JEPA; Zhang, Terver et al., 2610.06805).

Lengths are pixels of the published 224 x 224 picture, whatever the size of the frames; the numbers are those of its
data set with one distractor that jumps (fourroom_tp35_d1). Rooms and doors are numbered clockwise: rooms from the upper
left, door i between room i and the next one (upper, right, lower, left; there the order is top, bottom, left, right).

An action in [-1, 1]^2 moves the agent by up to 2.5 pixels along each axis. Against a wall it slides: the forbidden
coordinate is set to half a pixel before it. With probability one half one of the doors is closed. A second dot of
another colour walks in a straight line, slides along walls too, and jumps to another place and direction at a rate of
1 in 35 steps; it ignores the agent. Episodes of data are of fixed length; a goal that is
reached is replaced by a new one.

Deviations: the expert's episodes are drawn at random; tasks are drawn with a shortest path of at most 75 steps
instead of cut out of an expert's rollouts of exactly 75; an agent counts as in the room on whose side of the centre
lines it is. Other sizes than 224 are area averages.
"""

import dataclasses
import types
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from world_models.core.errors import config_error
from world_models.core.types import ActionSpec, Array
from world_models.environments.world import Task, Trajectory
from world_models.environments.worlds import drawing

SIDE, BORDER, CENTRE, HALF_WALL = 224, 14, 112.0, 5.0
RADIUS, SPEED, HALF_DOOR, DOOR_MARGIN = 3.5, 2.5, 16.0, 1.75
LOW, HIGH = BORDER + RADIUS, SIDE - BORDER - RADIUS
CLEAR = HALF_WALL + RADIUS  # distance of the agent from a wall's centre line
DOORS = np.array([[CENTRE, 56], [168, CENTRE], [CENTRE, 168], [56, CENTRE]], np.float32)
RED, BLUE = (255, 0, 0), (0, 114, 178)
GOAL = 16.0  # nearer than this, the agent is there
JUMPS = 1 - np.exp(-1 / 35)
TURNS = 1 - np.exp(-1 / 50)
LIMIT = 75 * SPEED  # of a task's shortest path
CELL = 8.0


class Layout(NamedTuple):
    """The closed door, int32 [] (-1 for none), and where the distractor starts: float32 [2] and its heading []."""

    closed: Array
    distractor: Array
    heading: Array


class State(NamedTuple):
    """Position float32 [2], and the layout with the distractor where it is now."""

    position: Array
    layout: Layout


@dataclasses.dataclass(frozen=True)
class FourRooms:
    """FourRooms as a `World`. Distances are steps of full length along the shortest path through door centres.

    Attributes:
      image_size: (height, width) of the frames; (224, 224) is published.
    """

    image_size: tuple[int, int] = (SIDE, SIDE)
    Layout = Layout
    POLICIES = ("explorer", "expert")
    TASKS = ("cross_1", "cross_2", "cross_3")
    BINS = types.MappingProxyType({})
    spec = ActionSpec("continuous", 2, (-1.0, -1.0), (1.0, 1.0))
    num_steps = 210
    num_cells = int((SIDE - 2 * BORDER) / CELL + 0.5) ** 2
    num_rooms = 4

    def reset(self, task: Task) -> State:
        """The agent at the start of a task."""
        closed, distractor, heading = task.layout
        layout = Layout(jnp.int32(closed), jnp.asarray(distractor, jnp.float32), jnp.float32(heading))
        return State(jnp.asarray(task.start, jnp.float32), layout)

    def step(self, state: State, action: Array, key: Array) -> State:
        """Moves the agent, and the distractor independently of it."""
        closed, distractor, heading = state.layout
        position = _slide(state.position, state.position + SPEED * jnp.clip(action, -1, 1), closed)
        ahead = jnp.stack([jnp.cos(heading), jnp.sin(heading)])
        distractor = _slide(distractor, distractor + SPEED * ahead, closed)
        draws = jax.random.uniform(key, (4,))
        jumps = draws[0] < JUMPS
        distractor = jnp.where(jumps, clear_of_walls(draws[1:3]), distractor)
        heading = jnp.where(jumps, 2 * jnp.pi * draws[3], heading)
        return State(position, Layout(closed, distractor, heading))

    def render(self, state: State) -> Array:
        """uint8 [h, w, 3]: black walls on white, the distractor blue, over it the agent in red."""
        image = jnp.broadcast_to(255.0 * ~_walls(state.layout.closed)[..., None], (SIDE, SIDE, 3))
        for place, colour in ((state.layout.distractor, BLUE), (state.position, RED)):
            column, row = (drawing.bell(place[axis], SIDE, RADIUS) for axis in (0, 1))
            dot = jnp.outer(row / row.max(), column / column.max())  # its brightest pixel has the full colour
            image = drawing.blend(image, dot, colour)
        return drawing.to_bytes(drawing.resize(image, self.image_size))

    def position(self, state: State) -> Array:
        """Of the agent."""
        return state.position

    def pixel(self, position: Array) -> Array:
        """Column and row of the frame."""
        return drawing.pixel(position, SIDE, self.image_size)

    def reached(self, state: State, goal: Array) -> Array:
        """Nearer than 16 pixels."""
        return jnp.linalg.norm(state.position - goal) < GOAL

    def cell(self, state: State) -> Array:
        """One of 25 x 25 squares between the borders."""
        across = int(self.num_cells**0.5)
        column, row = jnp.clip(jnp.floor((state.position - BORDER) / CELL), 0, across - 1).astype(jnp.int32)
        return row * across + column

    def room(self, state: State) -> Array:
        """0 to 3, clockwise from the upper left."""
        return room_of(state.position)

    def blocked(self, position: np.ndarray, layout: Layout) -> str:
        """Why the agent cannot be there."""
        x, y = np.asarray(position, float)
        if min(x, y) < LOW or max(x, y) > HIGH:
            return f"outside of the rooms, which reach from {LOW:g} to {HIGH:g}"
        opens = [
            i != int(layout.closed) and abs((y if i % 2 == 0 else x) - DOORS[i][1 - i % 2]) <= HALF_DOOR + DOOR_MARGIN
            for i in range(4)
        ]
        if (abs(x - CENTRE) <= CLEAR and not (opens[0] or opens[2])) or (
            abs(y - CENTRE) <= CLEAR and not (opens[1] or opens[3])
        ):
            return f"inside or too near a wall, whose centre lines are x={CENTRE:g} and y={CENTRE:g}"
        return ""

    def sample_tasks(self, name: str, rng: np.random.Generator, number: int) -> Task:
        """Tasks "cross_n", whose shortest path leads through n doors; "cross_3" only where a door is closed."""
        doors, found, have = int(name[-1]), [], 0
        while have < number:
            closed = np.where(rng.random(1024) < (1 if doors == 3 else 0.5), rng.integers(4, size=1024), -1)
            start, goal = _in_rooms(rng, 1024), _in_rooms(rng, 1024)
            length, count, _ = (np.asarray(x) for x in _shortest_paths(start, goal, closed.astype(np.int32)))
            good = (count == doors) & (length <= (np.finfo(np.float32).max if doors == 3 else LIMIT))
            place, heading = clear_of_walls(rng.random((1024, 2))), rng.uniform(0, 2 * np.pi, 1024)
            columns = (start, goal, closed, place, heading, length / SPEED)
            found.append([column[good] for column in columns])
            have += int(good.sum())
        columns = [np.concatenate(parts)[:number].astype(np.float32) for parts in zip(*found)]
        start, goal, closed, place, heading, steps = columns
        return Task(start, goal, Layout(closed.astype(np.int32), place, heading), steps)

    def path_length(self, start: np.ndarray, goal: np.ndarray, layout: Layout) -> np.ndarray:
        """In steps, through door centres."""
        return np.asarray(_shortest_paths(start, goal, layout.closed)[0]) / SPEED


def room_of(position: Array) -> Array:
    """Number of the room, int32 []: clockwise from the upper left."""
    right, below = (position[0] >= CENTRE), (position[1] >= CENTRE)
    return jnp.where(below, jnp.where(right, 2, 3), jnp.where(right, 1, 0)).astype(jnp.int32)


def clear_of_walls(draws: Array) -> Array:
    """Positions [..., 2] clear of the middle walls, for draws in [0, 1) of the same shape."""
    gap = 2 * CLEAR
    places = BORDER + draws * (SIDE - 2 * BORDER - 1 - gap)
    return places + gap * (places >= CENTRE - CLEAR)


def _in_rooms(rng: np.random.Generator, number: int) -> np.ndarray:
    """Positions [number, 2] in rooms drawn at random, at least a pixel clear of the walls."""
    sides = np.array([[LOW, CENTRE - CLEAR - 1], [CENTRE + CLEAR + 1, HIGH]])
    low, high = np.moveaxis(sides[rng.integers(2, size=(number, 2))], -1, 0)
    return rng.uniform(low, high).astype(np.float32)


def _walls(closed: Array) -> Array:
    """Bool [224, 224], the pixels of walls."""
    grid = jnp.arange(SIDE)
    wall = jnp.abs(grid - CENTRE) <= HALF_WALL
    near = lambda door, axis: (jnp.abs(grid - DOORS[door][axis]) <= HALF_DOOR) & (closed != door)
    upright = wall[None] & ~(near(0, 1) | near(2, 1))[:, None]
    level = wall[:, None] & ~(near(1, 0) | near(3, 0))[None]
    border = ((grid >= BORDER - 4) & (grid < BORDER)) | ((grid >= SIDE - BORDER) & (grid < SIDE - BORDER + 4))
    return upright | level | border[None] | border[:, None]


def _slide(p: Array, q: Array, closed: Array) -> Array:
    """End [2] of a step from p to q: first x is kept out of the vertical wall, then y out of the horizontal one."""
    q = jnp.clip(q, LOW, HIGH)

    def kept(axis: int, q: Array) -> Array:
        doors = np.array([axis, axis + 2])
        near = jnp.abs(q[1 - axis] - DOORS[doors, 1 - axis]) <= HALF_DOOR + DOOR_MARGIN
        barred = ~(near & (closed != doors)).any()
        low, high = CENTRE - CLEAR, CENTRE + CLEAR
        value = jnp.where(barred & (p[axis] < CENTRE) & (q[axis] > low), low - 0.5, q[axis])
        value = jnp.where(barred & (p[axis] >= CENTRE) & (q[axis] < high), high + 0.5, value)
        return q.at[axis].set(value)

    return kept(1, kept(0, q))


def shortest_path(start: Array, goal: Array, closed: Array) -> tuple[Array, Array, Array]:
    """Over door centres: (length [], doors on the path [], the first of them [], -1 if there is none)."""
    doors = jnp.asarray(DOORS)
    here, there = room_of(start), room_of(goal)
    paths = []
    for clockwise in (True, False):
        number = (there - here) % 4 if clockwise else (here - there) % 4
        length, last, open_ = jnp.float32(0), start, jnp.bool_(True)
        for i in range(3):
            door = (here + i) % 4 if clockwise else (here - 1 - i) % 4
            used = i < number
            length += jnp.where(used, jnp.linalg.norm(doors[door] - last), 0.0)
            last = jnp.where(used, doors[door], last)
            open_ &= ~used | (door != closed)
        length = jnp.where(open_, length + jnp.linalg.norm(goal - last), jnp.inf)
        paths.append((length, number, here if clockwise else (here - 1) % 4))
    one, other = paths
    length, number, first = (jnp.where(one[0] <= other[0], a, b) for a, b in zip(one, other))
    return length, number, jnp.where(number > 0, first, -1)


_shortest_paths = jax.jit(jax.vmap(shortest_path))


def expert(position: Array, goal: Array, closed: Array) -> Array:
    """Direction of unit length that leads to a goal: beyond the next door, or in a straight line; [2]."""
    _, _, door = shortest_path(position, goal, closed)
    centre, axis = jnp.asarray(DOORS)[door], door % 2
    side = jnp.sign(CENTRE - position[axis] - 1e-6)  # of a door that parts left and right: right if we are left
    beyond = centre + (CLEAR + 3) * side * (jnp.arange(2) == axis)
    far = lambda place: jnp.linalg.norm(place - position) > 10.5
    target = jnp.where(door < 0, goal, jnp.where(far(beyond), beyond, jnp.where(far(centre), centre, goal)))
    return (target - position) / jnp.maximum(jnp.linalg.norm(target - position), 1e-8)


class _Explorer(NamedTuple):
    """A smooth random walk that ignores walls: float32 [] each."""

    heading: Array
    target: Array
    turn: Array
    speed: Array

    def move(self, draws: Array, noise: Array) -> tuple["_Explorer", Array]:
        """The next state and the action [2], of two draws in [0, 1) and two normal ones."""
        target = jnp.where(draws[0] < TURNS, 2 * jnp.pi * draws[1], self.target)
        error = (target - self.heading + jnp.pi) % (2 * jnp.pi) - jnp.pi
        turn = jnp.clip(0.995 * self.turn + 0.015 * error + 0.002 * noise[0], -0.08, 0.08)
        heading = (self.heading + turn + jnp.pi) % (2 * jnp.pi) - jnp.pi
        speed = jnp.clip(0.75 + 0.95 * (self.speed - 0.75) + 0.005 * noise[1], 0.05, 1.0)
        return _Explorer(heading, target, turn, speed), speed * jnp.stack([jnp.cos(heading), jnp.sin(heading)])


def collect(key: Array, num_frames: int, expert_share: float) -> Trajectory:
    """A trajectory of the published data: by an expert with noise of 1 on its direction, or by an explorer.

    Args:
      key: of the trajectory.
      num_frames: published 401.
      expert_share: share of the expert's trajectories; published 0.5.
    """
    world = FourRooms()
    for_start, for_steps = jax.random.split(key)
    draws = jax.random.uniform(for_start, (12,))  # one draw: every further one lengthens compilation
    by_expert, angles = draws[0] < expert_share, 2 * jnp.pi * draws[1:4]
    closed = jnp.where(draws[4] < 0.5, jnp.floor(4 * draws[5]), -1).astype(jnp.int32)
    start, goal, distractor = clear_of_walls(draws[6:].reshape(3, 2))
    explorer = _Explorer(angles[0], angles[1], jnp.float32(0), jnp.float32(0.75))

    def move(carry: tuple, key: Array) -> tuple[tuple, tuple[State, Array]]:
        state, goal, last, explorer = carry
        for_draws, for_noise, for_step = jax.random.split(key, 3)
        draws, noise = jax.random.uniform(for_draws, (19,)), jax.random.normal(for_noise, (4,))
        explorer, wandering = explorer.move(draws[:2], noise[:2])
        led = jnp.where(draws[2] < 0.05, last, jnp.clip(expert(state.position, goal, closed) + noise[2:], -1, 1))
        action = jnp.where(by_expert, led, wandering)
        after = world.step(state, action, for_step)
        places = clear_of_walls(draws[3:].reshape(8, 2))
        away = jnp.linalg.norm(places - after.position, axis=-1) >= GOAL
        goal = jnp.where(world.reached(after, goal), places[jnp.argmax(away)], goal)
        return (after, goal, action, explorer), (after, action)

    state = State(start, Layout(closed, distractor, angles[2]))
    carry = (state, goal, jnp.zeros(2), explorer)
    _, (states, actions) = jax.lax.scan(move, carry, jax.random.split(for_steps, num_frames - 1))
    states = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), state, states)
    return Trajectory(states, actions, by_expert.astype(jnp.int32))


def check(options: dict) -> None:
    """Raises UserError for options of `collect`, fields of `config.record`, that are invalid."""
    if not 0 <= options["expert_share"] <= 1:
        raise config_error("config.record.expert_share", options["expert_share"], "be from 0 to 1")
