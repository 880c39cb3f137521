"""Tasks of evaluations in files with a hash, which identifies results of the same tasks."""

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from world_models.core.errors import UserError
from world_models.environments.world import Task, World

Tasks = Task  # of arrays with a leading axis [number]


def make(world: World, name: str, seed: int, number: int) -> Tasks:
    """Draws tasks, a function of the world and the arguments alone (not of a device).

    Args:
      world: where they are.
      name: of `world.TASKS`.
      seed: of the draw.
      number: of tasks, at least 1.

    Raises:
      UserError: if there are no such tasks.
    """
    if name not in world.TASKS:
        raise UserError(f"tasks={name!r} must be one of {', '.join(world.TASKS)}.")
    if number < 1:
        raise UserError(f"num_tasks={number} must be at least 1.")
    tasks = world.sample_tasks(name, np.random.default_rng([seed, 0x7A5C, world.TASKS.index(name)]), number)
    check(world, tasks)
    return tasks


def check(world: World, tasks: Tasks) -> None:
    """Checks that tasks are possible.

    Raises:
      UserError: naming the task whose start or goal lies outside of the world or inside a wall.
    """
    for index in range(len(tasks.start)):
        layout = world.Layout(*(leaf[index] for leaf in tasks.layout))
        for what in ("start", "goal"):
            position = getattr(tasks, what)[index]
            problem = world.blocked(position, layout) if np.isfinite(position).all() else "no place at all"
            if problem:
                x, y = position
                raise UserError(f"The {what} of task {index}, ({x:g}, {y:g}), is {problem}: choose another place.")


def content(tasks: Tasks) -> dict[str, Any]:
    """Tasks as plain lists, ready for JSON."""
    lists = {name: np.asarray(getattr(tasks, name)).tolist() for name in ("start", "goal", "distance")}
    return lists | {"layout": {name: np.asarray(leaf).tolist() for name, leaf in tasks.layout._asdict().items()}}


def digest(facts: dict[str, Any]) -> str:
    """SHA-256 of JSON content, without its own "sha256"."""
    rest = {name: value for name, value in facts.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def save(path: pathlib.Path, tasks: Tasks, **about: Any) -> str:
    """Writes tasks as JSON with the hash of the content; returns the hash.

    Args:
      path: of the file; its folder exists.
      tasks: what to write.
      about: further fields, such as world, name and seed.
    """
    facts = {**about, "tasks": content(tasks)}
    facts["sha256"] = digest(facts)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(facts, indent=1) + "\n")
    os.replace(temporary, path)
    return facts["sha256"]


def load(path: pathlib.Path, world: World, about: Mapping[str, Any] | None = None) -> tuple[Tasks, str]:
    """Reads a file of `save`: the tasks and their hash.

    Args:
      path: of the file.
      world: of the tasks.
      about: values that fields of the file must have where it has these fields, such as the world's name and map.

    Raises:
      UserError: if the file is not one of these, was changed since it was written, or does not fit the world.
    """
    try:
        facts = json.loads(path.read_text())
        if digest(facts) != facts["sha256"]:
            raise UserError(f"{path} was changed since it was written (its SHA-256 is another): make the tasks anew.")
        for name, value in (about or {}).items():
            if facts.get(name, value) != value:
                raise UserError(f"{path} holds tasks of {name}={facts[name]!r}, not of {value!r}: take another file.")
        lists = facts["tasks"]
        arrays = {name: np.asarray(lists[name], np.float32) for name in ("start", "goal", "distance")}
        if set(lists["layout"]) != set(world.Layout._fields):
            raise UserError(f"{path} holds tasks of another world: {facts.get('world', 'not named')}.")
        columns = {name: np.asarray(column) for name, column in lists["layout"].items()}
    except (OSError, KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise UserError(f"{path} is no file of tasks ({type(error).__name__}: {error}).") from error
    as_is = {name: c.astype(np.int32 if c.dtype.kind == "i" else np.float32) for name, c in columns.items()}
    tasks = Task(arrays["start"], arrays["goal"], world.Layout(**as_is), arrays["distance"])
    check(world, tasks)
    return tasks, facts["sha256"]
