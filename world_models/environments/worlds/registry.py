"""The worlds written in JAX by name."""

from collections.abc import Mapping
from typing import Any

from world_models.core.errors import UserError
from world_models.environments.world import World

WORLDS = ("two_rooms", "four_rooms", "point_maze")
OPTIONS = ("maze", "action_repeat")  # fields of `config.record` that say which world it is, beside its name


def make(name: str, image_size: tuple[int, int], maze: str = "medium", action_repeat: int = 1) -> World:
    """The world of a name.

    Args:
      name: of `WORLDS`.
      image_size: (height, width) of the frames.
      maze, action_repeat: see `point_maze.PointMaze`; the other worlds have neither.

    Raises:
      UserError: if there is no such world or map.
    """
    if name == "two_rooms":
        from world_models.environments.worlds.two_rooms import TwoRooms

        return TwoRooms(image_size)
    if name == "four_rooms":
        from world_models.environments.worlds.four_rooms import FourRooms

        return FourRooms(image_size)
    if name == "point_maze":
        from world_models.environments.worlds.point_maze import PointMaze

        return PointMaze(image_size, maze, action_repeat)
    raise UserError(f"world={name!r} must be one of {', '.join(WORLDS)}.")


def of_record(record: Mapping[str, Any]) -> World:
    """The world that a data set was recorded in, from its `config.record`."""
    options = {name: record[name] for name in OPTIONS if name in record}
    return make(record["source"], tuple(record["image_size"]), **options)
