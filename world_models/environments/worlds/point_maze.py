"""Point mazes on OGBench's maps, with its tasks and its data (MIT, seohongpark/ogbench; Park et al. 2024, 2410.20092).

A ball of radius 0.7 in a maze of cells of 4 x 4. An action in [-1, 1]^2 moves it by 0.2 times the action. The five
tasks of a maze go from cell to cell, start and goal each moved by up to 1 along both axes; the goal is reached at a
distance of 1 at most, within 1000 steps. In data a breadth-first expert heads for the middle of the next cell, with
normal noise of 0.5 on its direction; "navigate" picks a new goal cell, no corridor, whenever one is reached, and
"stitch" goes to a cell 4 cells away and stays.

With `action_repeat` an action is held for several of these steps, which are then one of ours, in the data too: an
episode has as many fewer, and the goal counts as reached at their ends alone.

Deviations: walls stop the ball exactly, by pushing it out of what it overlaps, where MuJoCo resolves the contact over
five substeps; a step ends within 0.075 of OGBench's own there, and within 1e-5 elsewhere (a test compares them). Frames
are drawn flat from above (gray walls, black ground, bright dot) without MuJoCo's camera and light.
"""

import dataclasses
import functools
import types
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from world_models.core.errors import UserError, config_error
from world_models.core.types import ActionSpec, Array
from world_models.environments.world import Task, Trajectory
from world_models.environments.worlds import drawing, maze_maps
from world_models.environments.worlds.maze_maps import OFFSET, UNIT

RADIUS, STEP, GOAL, NOISE = 0.7, 0.2, 1.0, 1.0
DOT, WALL = (255, 176, 64), 128
BINS = {"cells_5_8": (5, 8), "cells_9_12": (9, 12), "cells_13_16": (13, 16)}
_AROUND = np.array([(-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1)])  # faces before corners


class Layout(NamedTuple):
    """Empty: the maze is a field of the world."""


class State(NamedTuple):
    """Position (x, y), float32 [2]."""

    position: Array


@dataclasses.dataclass(frozen=True)
class PointMaze:
    """Point mazes as a `World`. Distances are cells of the shortest path.

    Attributes:
      image_size: (height, width) of the frames; OGBench's have (64, 64).
      maze: "medium", "large" or "giant".
      action_repeat: steps of the benchmark in one of ours; published 1.
    """

    image_size: tuple[int, int] = (64, 64)
    maze: str = "medium"
    action_repeat: int = 1
    Layout = Layout
    POLICIES = ("navigate", "stitch")
    TASKS = ("navigate", *BINS, "cells_5_16")
    BINS = types.MappingProxyType(BINS)
    spec = ActionSpec("continuous", 2, (-1.0, -1.0), (1.0, 1.0))
    num_rooms = 1

    def __post_init__(self):
        """Raises UserError if there is no such maze."""
        maze_maps.walls(self.maze)

    @property
    def num_steps(self) -> int:
        """As many as the benchmark's 1000 take."""
        return 1000 // self.action_repeat

    @property
    def num_cells(self) -> int:
        """Free cells."""
        return int((~maze_maps.walls(self.maze)).sum())

    def reset(self, task: Task) -> State:
        """The ball at the start of a task."""
        return State(jnp.asarray(task.start, jnp.float32))

    def step(self, state: State, action: Array, key: Array) -> State:
        """Moves the ball and pushes it out of the walls around it; the key is not used."""
        del key
        if self.action_repeat == 1:
            return self._step(state, action)
        return jax.lax.fori_loop(0, self.action_repeat, lambda _, state: self._step(state, action), state)

    def _step(self, state: State, action: Array) -> State:
        """One step of the benchmark."""
        wall = jnp.asarray(maze_maps.walls(self.maze))
        position = state.position + STEP * jnp.clip(action, -1, 1)
        around = _cell(state.position) + _AROUND
        for block in around:
            middle = UNIT * block[::-1] - OFFSET
            offset = position - jnp.clip(position, middle - UNIT / 2, middle + UNIT / 2)
            far = jnp.linalg.norm(offset)
            out = position + offset * jnp.maximum(RADIUS - far, 0) / jnp.maximum(far, 1e-6)
            position = jnp.where(wall[tuple(block)], out, position)
        return State(position)

    def render(self, state: State) -> Array:
        """uint8 [h, w, 3], the whole maze in the middle of the frame."""
        base, scale, _ = _picture(self.maze, self.image_size)
        column, row = self.pixel(state.position)
        std = max(RADIUS * scale, 0.75)  # wide enough to tell where between pixels it is
        dot = jnp.outer(drawing.bell(row, base.shape[0], std), drawing.bell(column, base.shape[1], std))
        return drawing.blend(jnp.asarray(base, jnp.float32), dot, DOT)

    def position(self, state: State) -> Array:
        """Of the ball."""
        return state.position

    def pixel(self, position: Array) -> Array:
        """Column and row of the frame."""
        _, scale, corner = _picture(self.maze, self.image_size)
        return (position - corner) * scale - 0.5

    def reached(self, state: State, goal: Array) -> Array:
        """At a distance of 1 at most."""
        return jnp.linalg.norm(state.position - goal) <= GOAL

    def cell(self, state: State) -> Array:
        """The number of the free cell."""
        wall = maze_maps.walls(self.maze)
        numbers = np.where(wall, 0, np.cumsum(~wall).reshape(wall.shape) - 1).astype(np.int32)
        return jnp.asarray(numbers)[tuple(_cell(state.position))]

    def room(self, state: State) -> Array:
        """Always 0: a maze has no rooms."""
        return jnp.int32(0)

    def blocked(self, position: np.ndarray, layout: Layout) -> str:
        """Why the ball cannot be there."""
        wall, position = maze_maps.walls(self.maze), np.asarray(position, float)
        cell = np.floor((position[::-1] + OFFSET + UNIT / 2) / UNIT).astype(int)
        if (cell < 0).any() or (cell >= wall.shape).any():
            return f"outside of the maze {self.maze!r}"
        middles = maze_maps.centre(np.argwhere(wall))
        offsets = position - np.clip(position, middles - UNIT / 2, middles + UNIT / 2)
        if np.linalg.norm(offsets, axis=-1).min() < RADIUS - 1e-3:
            return f"inside or too near a wall of the maze {self.maze!r}, in row {cell[0]}, column {cell[1]}"
        return ""

    def sample_tasks(self, name: str, rng: np.random.Generator, number: int) -> Task:
        """Tasks "navigate" (the benchmark's five, in turn) or "cells_a_b": any two cells that many cells apart.

        "cells_5_16" takes the three bins within it in turn, so that each has as many tasks.

        Raises:
          UserError: if no two cells of the maze are that far apart.
        """
        distance, _ = maze_maps.shortest_paths(self.maze)
        if name == "navigate":
            pairs = np.array(maze_maps.TASKS[self.maze])[np.arange(number) % 5]
        else:
            pairs = np.zeros((number, 2, 2), int)
            bins = list(BINS.values()) if name == "cells_5_16" else [BINS[name]]
            for first, (low, high) in enumerate(bins):
                found = np.argwhere((distance >= low) & (distance <= high))
                if not len(found):
                    raise UserError(
                        f"tasks={name!r}: the farthest cells of the maze {self.maze!r} are {distance.max()} apart."
                    )
                mine = pairs[first :: len(bins)]
                mine[:] = found[rng.integers(len(found), size=len(mine))].reshape(mine.shape)
        places = maze_maps.centre(pairs) + rng.uniform(-NOISE, NOISE, pairs.shape)
        start, goal = np.moveaxis(places.astype(np.float32), 1, 0)
        return Task(start, goal, Layout(), self.path_length(start, goal, Layout()))

    def path_length(self, start: np.ndarray, goal: np.ndarray, layout: Layout) -> np.ndarray:
        """In cells."""
        distance, _ = maze_maps.shortest_paths(self.maze)
        ends = [np.asarray(jax.vmap(_cell)(place)) for place in (start, goal)]
        return distance[tuple(np.concatenate(ends, axis=-1).T)].astype(np.float32)


def _cell(position: Array) -> Array:
    """(row, column) of a position, int32 [2]."""
    return jnp.floor((position[::-1] + OFFSET + UNIT / 2) / UNIT).astype(jnp.int32)


@functools.cache
def _picture(maze: str, size: tuple[int, int]) -> tuple[np.ndarray, float, np.ndarray]:
    """The empty maze uint8 [h, w, 3], pixels a unit of length, and the position of the frame's upper left corner."""
    wall = maze_maps.walls(maze)
    scale = min(pixels / (UNIT * cells) for pixels, cells in zip(size, wall.shape))
    middle = UNIT * (np.array(wall.shape) - 1) / 2 - OFFSET
    corner = middle - np.array(size) / scale / 2
    rows, columns = (
        np.floor(((np.arange(n) + 0.5) / scale + start + OFFSET + UNIT / 2) / UNIT).astype(int)
        for n, start in zip(size, corner)
    )
    padded = np.pad(wall, 1, constant_values=True)  # what lies outside of the map is wall, too
    rows, columns = (np.clip(index, -1, cells) + 1 for index, cells in zip((rows, columns), wall.shape))
    picture = WALL * padded[np.ix_(rows, columns)].astype(np.uint8)
    return np.repeat(picture[..., None], 3, axis=-1), float(scale), corner[::-1].astype(np.float32)


def collect(key: Array, num_frames: int, maze: str, policy: str, noise: float, action_repeat: int) -> Trajectory:
    """A trajectory of the published data.

    Args:
      key: of the trajectory.
      num_frames: published 1001 (2001 in the giant maze); 201 for "stitch"; one for every `action_repeat` steps.
      maze: which.
      policy: "navigate" or "stitch".
      noise: standard deviation of the noise on the expert's direction; published 0.5.
      action_repeat: see `PointMaze`.
    """
    world, wall = PointMaze(maze=maze, action_repeat=action_repeat), maze_maps.walls(maze)
    distance, following = (jnp.asarray(table) for table in maze_maps.shortest_paths(maze))
    free, corners = jnp.asarray(np.argwhere(~wall)), jnp.asarray(maze_maps.corners(wall))
    near = lambda cell, draws: UNIT * cell[::-1] - OFFSET + NOISE * (2 * draws - 1)
    pick = lambda cells, draw: cells[jnp.floor(draw * len(cells)).astype(jnp.int32)]

    for_start, for_steps = jax.random.split(key)
    draws = jax.random.uniform(for_start, (6,))
    first, cell = pick(free, draws[0]), pick(corners, draws[1])
    if policy == "stitch":
        order = jnp.cumsum((distance[first[0], first[1]] == 4).ravel())  # counts the cells at four
        chosen = jnp.searchsorted(order, jnp.floor(draws[1] * order[-1]) + 1)
        cell = jnp.where(order[-1] > 0, jnp.stack(jnp.unravel_index(chosen, wall.shape)), first)

    def move(carry: tuple[State, Array], key: Array) -> tuple[tuple[State, Array], tuple[State, Array]]:
        state, goal = carry
        for_noise, for_goal, for_step = jax.random.split(key, 3)
        here, there = _cell(state.position), _cell(goal)
        offset = UNIT * following[here[0], here[1], there[0], there[1]][::-1] - OFFSET - state.position
        offset = offset / (jnp.linalg.norm(offset) + 1e-6)
        action = jnp.clip(offset + noise * jax.random.normal(for_noise, (2,)), -1, 1)
        after = world.step(state, action, for_step)
        if policy == "navigate":
            draws = jax.random.uniform(for_goal, (3,))
            goal = jnp.where(world.reached(after, goal), near(pick(corners, draws[0]), draws[1:]), goal)
        return (after, goal), (after, action)

    state, goal = State(near(first, draws[2:4])), near(cell, draws[4:])
    _, (states, actions) = jax.lax.scan(move, (state, goal), jax.random.split(for_steps, num_frames - 1))
    states = State(jnp.concatenate([state.position[None], states.position]))
    return Trajectory(states, actions, jnp.int32(world.POLICIES.index(policy)))


def check(options: dict) -> None:
    """Raises UserError for options of `collect`, fields of `config.record`, that are invalid."""
    if options["maze"] not in maze_maps.MAPS:
        raise config_error("config.record.maze", options["maze"], f"be one of {', '.join(maze_maps.MAPS)}")
    if options["policy"] not in PointMaze.POLICIES:
        raise config_error("config.record.policy", options["policy"], "be 'navigate' or 'stitch'")
    if options["action_repeat"] < 1:
        raise config_error("config.record.action_repeat", options["action_repeat"], "be at least 1")
    if options["noise"] < 0:
        raise config_error("config.record.noise", options["noise"], "be at least 0")
