"""Tasks in a Gymnasium environment: start in a state of a recorded policy and reach its state some steps later.

The protocol of DINO-WM (arXiv 2411.04983) and LeWM's evaluation, without setting a simulator's state: an episode is
reset with the same seed and its actions are repeated up to the start.
"""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from world_models.core.errors import UserError
from world_models.environments.gymnasium import GymnasiumSource

IsReached = Callable[[Any, Any], bool]
"""(observation, that of the goal) -> whether the goal is reached."""

TRIES = 20
"""Episodes tried for each task."""


class Moment(NamedTuple):
    """A frame, uint8 [h, w, 3], and the environment's observation."""

    frame: np.ndarray
    observed: Any


class Task(NamedTuple):
    """Start and goal.

    Attributes:
      unit: number of the episode; its seed is the source's.
      actions: of the policy, from the reset to the start.
      start, goal: the moments; the policy went from one to the other in `offset` recorded steps.
    """

    unit: int
    actions: list[Any]
    start: Moment
    goal: Moment


def draw(
    source: GymnasiumSource, reached: IsReached, number: int, offset: int, num_steps: int, seed: int
) -> tuple[list[Task], int]:
    """Tasks from episodes of the source's policy that come after the recorded ones, with seeds that no model has seen.

    Args:
      source: what the data were recorded with.
      reached: whether a goal is reached; tasks that begin there are left out.
      number: of tasks.
      offset: recorded steps from start to goal.
      num_steps: recorded steps of an attempt, for which the environment's own limit must leave time.
      seed: of the steps at which tasks begin.

    Returns:
      The tasks, one an episode, and how many episodes were left out: they began at the goal, or ended before it.

    Raises:
      UserError: if the offset does not fit into an episode, or too few episodes give a task.
    """
    rng, environment = np.random.default_rng(seed), source.make()
    latest = source.max_episode_steps - 1 - offset
    if offset < 1 or latest < 0:
        raise UserError(f"offset={offset} must be from 1 to {source.max_episode_steps - 1}, the steps of an episode.")
    limit = environment.spec.max_episode_steps
    if limit:
        latest = min(latest, limit // source.action_repeat - source.skip_steps - num_steps)
    if latest < 0:
        raise UserError(f"num_steps={num_steps}: {source.environment} ends each episode after {limit} of its steps.")
    tasks: list[Task] = []
    for tried in range(TRIES * number):
        if len(tasks) == number:
            break
        task = _one(source, environment, source.num_units + tried, int(rng.integers(latest + 1)), offset)
        if task and not reached(task.goal.observed, task.goal.observed):
            raise UserError("reached(goal, goal) must be true: it compares an observation with the goal's.")
        if task and not reached(task.start.observed, task.goal.observed):
            tasks.append(task)
    environment.close()
    if len(tasks) < number:
        raise UserError(
            f"offset={offset}: only {len(tasks)} of {TRIES * number} episodes last long enough and do not begin at "
            f"their goal, and num_tasks={number}: take another offset or policy."
        )
    return tasks, tasks[-1].unit - source.num_units + 1 - number


def _one(source: GymnasiumSource, environment: Any, unit: int, start: int, offset: int) -> Task | None:
    """The task of an episode; None if it ends too early."""
    observed, act = source.begin(environment, unit)

    def moment() -> Moment:
        return Moment(source.frame(environment, observed), copy.deepcopy(observed))

    actions, first = [], source.skip_steps + start
    last = first + offset
    for step in range(last):
        if step == first:
            begin = moment()
        actions.append(copy.deepcopy(act(observed)))
        held = source.hold(environment, actions[-1])
        observed = held.observed
        if not held.whole or ((held.terminated or held.truncated) and step + 1 < last):
            return None
    return Task(unit, actions[:first], begin, moment())


class ReplayedTask:
    """An environment that starts at a task's start, with action repeat and frame size of the recording.

    As `gymnasium.Env` for `planning.host.Player`; the info of each step has "reached".
    """

    def __init__(self, source: GymnasiumSource, environment: Any, task: Task, reached: IsReached):
        """`environment` is made by `source.make`."""
        self._source, self._environment, self._task, self._reached = source, environment, task, reached
        self.action_space = environment.action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Goes to the task's start; the seed is the task's.

        Raises:
          UserError: if the start differs from when the task was drawn.
        """
        observed = self._source.reset(self._environment, self._task.unit)
        for action in self._task.actions:
            observed = self._source.hold(self._environment, action).observed
        start = self._task.start
        if not (np.array_equal(self.frame(observed), start.frame) and _same(observed, start.observed)):
            raise UserError(
                f"{self._source.describe(self._task.unit)} is not deterministic: the same seed and actions led "
                "elsewhere, so an episode cannot be replayed to where a task begins."
            )
        return observed, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """As Gymnasium's, with the action held as in the recording."""
        held = self._source.hold(self._environment, action)
        found = {**copy.deepcopy(held.info), "reached": bool(self._reached(held.observed, self._task.goal.observed))}
        return held.observed, held.reward, held.terminated, held.truncated and not held.terminated, found

    def frame(self, observed: Any) -> np.ndarray:
        """The frame for a model, uint8 [h, w, 3]."""
        return self._source.frame(self._environment, observed)


def _same(one: Any, other: Any) -> bool:
    """Whether two observations are equal: arrays, or dictionaries of them."""
    if isinstance(one, dict):
        return all(_same(one[name], other[name]) for name in one)
    return np.array_equal(one, other)
