"""Episodes of the JAX-native worlds, made and drawn on the device in batches, with how well they cover the world.

`config.record` holds the options of the world's `collect`; an episode is a function of the recording's seed and its own
number alone.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow_datasets as tfds

from world_models.data import rlds
from world_models.data.episodes import encode
from world_models.data.sources.collection import Collection, Split
from world_models.environments import four_rooms, native, point_maze, two_rooms
from world_models.environments.native import Trajectory, World

_MODULES = {"two_rooms": two_rooms, "four_rooms": four_rooms, "point_maze": point_maze}
POLICY_FIELDS = {  # of `config.record`, handed to `collect`
    "two_rooms": ("cross_rate", "wall"),
    "four_rooms": ("expert_share",),
    "point_maze": ("maze", "policy", "noise"),
}
SOURCES = {
    "two_rooms": "procedural, after eb_jepa's DotWall (facebookresearch/eb_jepa)",
    "four_rooms": "procedural, after H-JEPA's FourRoomDistractors (kevinghst/H-JEPA, arXiv 2610.06805)",
    "point_maze": "procedural, after OGBench's PointMaze (seohongpark/ogbench, arXiv 2410.20092)",
}
FRAME_BYTES = 2**26  # of frames that a batch may hold
SMALL_BATCH = 256  # episodes of a batch without frames


def collector(options: Mapping[str, Any]) -> Callable[[jax.Array], Trajectory]:
    """From the number of an episode, int32 [], its trajectory; can be traced."""
    name = options["source"]
    fields = {field: options[field] for field in POLICY_FIELDS[name]}
    key = jax.random.key(options["seed"])
    collect = functools.partial(_MODULES[name].collect, num_frames=options["num_frames"], **fields)
    return lambda index: collect(jax.random.fold_in(key, index))


def coverage(world: World, collect: Callable[[jax.Array], Trajectory], num_episodes: int) -> dict[str, float]:
    """Statistics of all episodes of a recording, without drawing any.

    Returns:
      "cells_visited" and "cells_visited_per_episode", shares of the cells that an agent can reach, by all episodes and by
      the average one; "mean_step", distance moved a step, blocked steps included; "blocked_steps", share of the steps
      that moved by less than half of the longest step of their episode's actions' direction asked for; "policies",
      share of the episodes by each data policy; "crossing_rate", share of the episodes that were in more than one room
      (left out where the world has none).
    """

    def episode(index: jax.Array) -> dict[str, jax.Array]:
        trajectory = collect(index)
        positions = jax.vmap(world.position)(trajectory.states)
        cells, rooms = jax.vmap(world.cell)(trajectory.states), jax.vmap(world.room)(trajectory.states)
        return {
            "visited": jnp.zeros(world.num_cells, bool).at[cells].set(True),
            "rooms": (rooms[:, None] == jnp.arange(world.num_rooms)).any(axis=0).sum(),
            "step": jnp.linalg.norm(positions[1:] - positions[:-1], axis=-1).mean(),
            "policy": trajectory.policy,
        }

    run, parts = jax.jit(jax.vmap(episode)), []
    batch = min(SMALL_BATCH, num_episodes)
    for first in range(0, num_episodes, batch):
        indices = np.minimum(np.arange(first, first + batch), num_episodes - 1)
        made = jax.tree.map(np.asarray, run(indices))
        parts.append({name: values[: num_episodes - first] for name, values in made.items()})
    all_ = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    facts = {
        "cells_visited": float(all_["visited"].any(axis=0).mean()),
        "cells_visited_per_episode": float(all_["visited"].mean()),
        "mean_step": float(all_["step"].mean()),
        "policies": {name: float((all_["policy"] == i).mean()) for i, name in enumerate(world.POLICIES)},
    }
    return facts | ({"crossing_rate": float((all_["rooms"] > 1).mean())} if world.num_rooms > 1 else {})


class _Maker:
    """Makes episodes a batch at a time and keeps the last batch, since they are asked for in order."""

    def __init__(self, world: World, collect: Callable, chosen: list[int], num_frames: int):
        """`chosen` are the numbers of the episodes, in the order in which they will be asked for."""
        height, width = world.image_size
        self._chosen, self._size = np.array(chosen), max(1, min(16, FRAME_BYTES // (num_frames * height * width * 3)))
        self._first, self._batch = -1, None
        in_flight = max(1, 2**24 // (4 * 224 * 224 * 3))  # frames drawn at once, so that they stay in a cache

        def make(indices: jax.Array) -> tuple[Trajectory, jax.Array, jax.Array]:
            made = jax.vmap(collect)(indices)
            flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), made.states)
            frames = jax.lax.map(world.render, flat, batch_size=in_flight)
            return made, frames.reshape(len(indices), num_frames, *frames.shape[1:]), jax.vmap(world.position)(flat)

        self._make = jax.jit(make)

    def episode(self, place: int) -> tuple[Trajectory, np.ndarray, np.ndarray]:
        """The trajectory, frames uint8 [time, h, w, 3] and positions [time, 2] of the place-th chosen episode."""
        first = place - place % self._size
        if first != self._first:
            indices = np.arange(first, first + self._size).clip(max=len(self._chosen) - 1)
            made, frames, positions = self._make(self._chosen[indices])
            shape = (self._size, -1, 2)
            self._batch = jax.tree.map(np.asarray, (made, frames, positions.reshape(shape)))
            self._first = first
        return jax.tree.map(lambda x: x[place - first], self._batch)


def _features(world: World, image_size: tuple[int, int]) -> dict[str, Any]:
    steps = {
        "observation": {
            "image": tfds.features.Image(shape=(*image_size, 3), encoding_format="png"),
            "position": tfds.features.Tensor(shape=(2,), dtype=np.float32),
        },
        "action": tfds.features.Tensor(shape=(world.spec.size,), dtype=np.float32),
        "reward": np.float32,
        "discount": np.float32,
        "is_first": np.bool_,
        "is_last": np.bool_,
        "is_terminal": np.bool_,
    }
    metadata = {"index": np.int64, "policy": tfds.features.ClassLabel(names=list(world.POLICIES))}
    return {"steps": tfds.features.Dataset(steps), "episode_metadata": metadata}


def _example(maker: _Maker, place: int, index: int, image_size: tuple[int, int]) -> dict[str, Any]:
    made, frames, positions = maker.episode(place)
    last = np.arange(len(frames)) == len(frames) - 1
    steps = {
        "observation": {"image": [encode(frame, image_size) for frame in frames], "position": positions},
        "action": np.concatenate([made.actions, np.zeros_like(made.actions[:1])]),
        "reward": np.zeros(len(frames), np.float32),
        "discount": np.ones(len(frames), np.float32),
        "is_first": np.arange(len(frames)) == 0,
        "is_last": last,
        "is_terminal": np.zeros(len(frames), bool),
    }
    return {"steps": steps, "episode_metadata": {"index": index, "policy": int(made.policy)}}


def collection(options: Mapping[str, Any]) -> Collection:
    """Episodes of a world as an RLDS data set; `coverage` is in its metadata, beside the options it was asked for.

    Args:
      options: `config.record`; see `world_models.data.sources.FIELDS`.

    Raises:
      UserError: if an option cannot work or a split would be empty.
    """
    name, size = options["source"], tuple(options["image_size"])
    _MODULES[name].check(options)
    world, collect = native.of_record(options), collector(options)
    dealt = rlds.split_episodes(range(options["num_episodes"]), dict(options["splits"]), options["seed"])
    facts = coverage(world, collect, options["num_episodes"])
    if name == "two_rooms":
        facts["cross_rate_requested"] = float(options["cross_rate"])
    action = {"kind": "continuous", "size": 2, "low": list(world.spec.low), "high": list(world.spec.high)}

    def split(chosen: list[int]) -> Split:
        maker = _Maker(world, collect, chosen, options["num_frames"])
        return Split(len(chosen), lambda place: _example(maker, place, chosen[place], size))

    return Collection(
        name=name,
        description=f"Episodes of {options['num_frames']} frames of the world {name}.",
        features=_features(world, size),
        splits={part: split(chosen) for part, chosen in dealt.items()},
        licence="Apache-2.0",
        source=SOURCES[name],
        metadata={"action": action, "coverage": facts},
    )
