"""Episodes of the JAX-native worlds, made and drawn on the device in batches, with how well they cover the world.

`config.record` holds the options of the world's `collect`; an episode is a function of the recording's seed and its own
number alone.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow_datasets as tfds

from world_models.data import rlds
from world_models.data.episodes import encode
from world_models.data.sources.collection import Collection, Split
from world_models.environments.world import Trajectory, World
from world_models.environments.worlds import four_rooms, point_maze, registry, two_rooms

_MODULES = {"two_rooms": two_rooms, "four_rooms": four_rooms, "point_maze": point_maze}
POLICY_FIELDS = {  # of `config.record`, handed to `collect`
    "two_rooms": ("cross_rate", "wall"),
    "four_rooms": ("expert_share",),
    "point_maze": ("maze", "policy", "noise", "action_repeat"),
}
SOURCES = {
    "two_rooms": "procedural, after eb_jepa's DotWall (facebookresearch/eb_jepa)",
    "four_rooms": "procedural, after H-JEPA's FourRoomDistractors (kevinghst/H-JEPA, arXiv 2610.06805)",
    "point_maze": "procedural, after OGBench's PointMaze (seohongpark/ogbench, arXiv 2410.20092)",
}
BATCH = 64  # trajectories made at once; a batch is always full, so that one program makes all


def collector(options: Mapping[str, Any]) -> Callable[[np.ndarray], Trajectory]:
    """From the numbers of `BATCH` episodes, int [BATCH], their trajectories with a leading axis; compiled."""
    fields = {field: options[field] for field in POLICY_FIELDS[options["source"]]}
    collect = functools.partial(_MODULES[options["source"]].collect, num_frames=options["num_frames"], **fields)
    key = jax.random.key(options["seed"])
    return jax.jit(jax.vmap(lambda index: collect(jax.random.fold_in(key, index))))


def _batches(collect: Callable[[np.ndarray], Trajectory], chosen: Sequence[int]) -> Iterator[tuple[int, Trajectory]]:
    """For every batch of the chosen episodes, how many of its trajectories count, and they themselves."""
    for first in range(0, len(chosen), BATCH):
        numbers = np.asarray(chosen[first : first + BATCH])
        yield len(numbers), collect(np.pad(numbers, (0, BATCH - len(numbers)), mode="edge"))


def coverage(world: World, collect: Callable[[np.ndarray], Trajectory], num_episodes: int) -> dict[str, Any]:
    """Statistics of all episodes of a recording, without drawing any.

    Returns:
      "cells_visited" and "cells_visited_per_episode", shares of the cells that an agent can reach, by all episodes and
      by the average one; "mean_step", distance moved a step, blocked steps included; "policies", share of the episodes
      by each data policy; "crossing_rate", share of the episodes that were in more than one room (left out where the
      world has none).
    """

    def facts(made: Trajectory) -> dict[str, jax.Array]:
        positions, cells, rooms = (jax.vmap(f)(made.states) for f in (world.position, world.cell, world.room))
        return {
            "visited": jnp.zeros(world.num_cells, bool).at[cells].set(True),
            "rooms": (rooms[:, None] == jnp.arange(world.num_rooms)).any(axis=0).sum(),
            "step": jnp.linalg.norm(positions[1:] - positions[:-1], axis=-1).mean(),
            "policy": made.policy,
        }

    measure = jax.jit(jax.vmap(facts))
    parts = [
        jax.tree.map(lambda x, n=count: np.asarray(x)[:n], measure(made))
        for count, made in _batches(collect, range(num_episodes))
    ]
    all_ = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    found = {
        "cells_visited": float(all_["visited"].any(axis=0).mean()),
        "cells_visited_per_episode": float(all_["visited"].mean()),
        "mean_step": float(all_["step"].mean()),
        "policies": {name: float((all_["policy"] == i).mean()) for i, name in enumerate(world.POLICIES)},
    }
    return found | ({"crossing_rate": float((all_["rooms"] > 1).mean())} if world.num_rooms > 1 else {})


class _Split:
    """The episodes of a split, which TFDS asks for in order: a batch of trajectories is kept until it is used up."""

    def __init__(self, world: World, collect: Callable, draw: Callable, chosen: list[int]):
        """`chosen` are the numbers of its episodes; `draw` makes the frames and positions of the states of one."""
        self._world, self._collect, self._draw, self._chosen = world, collect, draw, chosen
        self._place, self._batch = -1, None

    def example(self, place: int) -> dict[str, Any]:
        """The place-th episode, as TFDS takes it."""
        if place // BATCH != self._place:
            self._place = place // BATCH
            _, batch = next(_batches(self._collect, self._chosen[BATCH * self._place :]))
            self._batch = jax.tree.map(np.asarray, batch)
        made = jax.tree.map(lambda x: x[place % BATCH], self._batch)
        frames, positions = map(np.asarray, self._draw(made.states))
        last = np.arange(len(frames)) == len(frames) - 1
        steps = {
            "observation": {"image": [encode(f, self._world.image_size) for f in frames], "position": positions},
            "action": np.concatenate([made.actions, np.zeros_like(made.actions[:1])]),
            "reward": np.zeros(len(frames), np.float32),
            "discount": np.ones(len(frames), np.float32),
            "is_first": np.arange(len(frames)) == 0,
            "is_last": last,
            "is_terminal": np.zeros(len(frames), bool),
        }
        metadata = {"index": self._chosen[place], "policy": int(made.policy)}
        return {"steps": steps, "episode_metadata": metadata}


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


def collection(options: Mapping[str, Any]) -> Collection:
    """Episodes of a world as an RLDS data set; `coverage` is in its metadata, beside the options it was asked for.

    Args:
      options: `config.record`; see `world_models.data.sources.FIELDS`.

    Raises:
      UserError: if an option cannot work or a split would be empty.
    """
    name, size = options["source"], tuple(options["image_size"])
    _MODULES[name].check(options)
    world, collect = registry.of_record(options), collector(options)
    dealt = rlds.split_episodes(range(options["num_episodes"]), dict(options["splits"]), options["seed"])
    facts = coverage(world, collect, options["num_episodes"])
    if name == "two_rooms":
        facts["cross_rate_requested"] = float(options["cross_rate"])
    action = {"kind": "continuous", "size": 2, "low": list(world.spec.low), "high": list(world.spec.high)}

    @jax.jit
    def draw(states: Any) -> tuple[jax.Array, jax.Array]:
        return jax.lax.map(world.render, states), jax.vmap(world.position)(states)

    return Collection(
        name=name,
        description=f"Episodes of {options['num_frames']} frames of the world {name}.",
        features=_features(world, size),
        splits={
            part: Split(len(chosen), _Split(world, collect, draw, chosen).example) for part, chosen in dealt.items()
        },
        licence="Apache-2.0",
        source=SOURCES[name],
        metadata={"action": action, "coverage": facts},
    )
