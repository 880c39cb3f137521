"""Worlds written in JAX: pure functions of state, action and key, so that a whole episode compiles into one program.

Everything is written for one episode; `jax.vmap` makes it many.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from world_models.core.types import ActionSpec, Array


class Task(NamedTuple):
    """Start and goal of an episode.

    Attributes:
      start, goal: float32 [2], positions in the world's units.
      layout: the world's own named tuple of numbers, such as where the wall stands.
      distance: float32 [], length of the shortest path, in the unit that the world names.
    """

    start: Array
    goal: Array
    layout: Any
    distance: Array


class Trajectory(NamedTuple):
    """States and actions of a data policy: `actions[t]` leads from `states[t]` to `states[t + 1]`.

    Attributes:
      states: the world's states, leading axis [time].
      actions: float32 [time - 1, dim].
      policy: int32 [], which of the world's `POLICIES` it was.
    """

    states: Any
    actions: Array
    policy: Array


class World(Protocol):
    """A world. `State` is a named tuple of arrays; `reset`, `step`, `render` and the four below them can be traced.

    Attributes:
      spec: of the actions. Steps take any action; the bounds say what is in use.
      num_steps: of an episode in the published evaluation.
      Layout: the named tuple type of a task's `layout`.
      POLICIES: names of its data policies.
      TASKS: names of its kinds of tasks.
      BINS: by name, the (least, greatest) lengths of shortest paths that a published evaluation groups by; or none.
      num_cells: cells that `cell` can name and an agent can reach, for statistics of coverage.
      num_rooms: rooms that `room` can name; 1 where the world has none.
    """

    spec: ActionSpec
    num_steps: int
    Layout: type
    POLICIES: tuple[str, ...]
    TASKS: tuple[str, ...]
    BINS: Mapping[str, tuple[float, float]]
    num_cells: int
    num_rooms: int

    def reset(self, task: Task) -> Any:
        """The state in which a task starts."""

    def step(self, state: Any, action: Array, key: Array) -> Any:
        """The state after an action, float32 [dim]."""

    def render(self, state: Any) -> Array:
        """The frame of a state, uint8 [height, width, 3]."""

    def position(self, state: Any) -> Array:
        """Where the agent is, float32 [2]."""

    def pixel(self, position: Array) -> Array:
        """Where a position, float32 [..., 2], is drawn: (column, row) of the frame, 0 at the middle of the first."""

    def reached(self, state: Any, goal: Array) -> Array:
        """Whether the agent is near enough to a goal, bool []."""

    def cell(self, state: Any) -> Array:
        """The cell that the agent is in, int32 []."""

    def room(self, state: Any) -> Array:
        """The room that the agent is in, int32 []; -1 between rooms."""

    def blocked(self, position: np.ndarray, layout: Any) -> str:
        """Why the agent cannot be at a position, in words; empty if it can. On the host."""

    def path_length(self, start: np.ndarray, goal: np.ndarray, layout: Any) -> np.ndarray:
        """Lengths of the shortest paths, float32 [n], of as many starts and goals [n, 2] and layouts. On the host."""

    def sample_tasks(self, name: str, rng: np.random.Generator, number: int) -> Task:
        """Tasks of one of `TASKS`, as NumPy arrays with a leading axis [number]."""
