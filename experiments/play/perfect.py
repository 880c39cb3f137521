"""A world written in JAX as a perfect model of itself: what a trained model would have to be, to compare by hand."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from experiments.play.scene import Scene, Start
from experiments.play.simulators import JaxSimulator, recorded_episodes
from experiments.runs.recording import read_options
from world_models.core.errors import config_error
from world_models.core.types import Array, Prediction
from world_models.environments.world import World
from world_models.environments.worlds import registry


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class PerfectModel:
    """A `WorldModel` whose states are those of a world, with a leading axis [batch]."""

    world: World

    def observe(self, frames: Array, actions: Array, rng: Array) -> Any:
        """Raises ValueError: frames do not tell a world's state; begin with a `Start.state`."""
        raise ValueError("a perfect model begins with a state of its world, not with frames")

    def step(self, state: Any, action: Array, rng: Array) -> tuple[Any, Prediction]:
        """The world's own step."""
        keys = jax.random.split(rng, len(action))
        return jax.vmap(self.world.step)(state, action, keys), Prediction()

    def decode(self, state: Any) -> jax.Array:
        """The world's own picture, uint8 [batch, h, w, 3]."""
        return jax.vmap(self.world.render)(state)


def of_world(config: ml_collections.ConfigDict, number: int = 12) -> Scene:
    """The world of `config.record` as a perfect model, with starts from `number` of its episodes.

    Raises:
      ConfigError: if the config records in no world that is written in JAX.
    """
    record = config.record.to_dict() if config.record else {}
    if record.get("source") not in registry.WORLDS:
        valid = f"be a world written in JAX to be played without a run: one of {', '.join(registry.WORLDS)}"
        raise config_error("config.record.source", record.get("source"), valid)
    read_options(record)
    world = registry.of_record(record)
    starts = []
    step = record["num_frames"] // 2
    for unit, episode in enumerate(recorded_episodes(record, range(number))):
        state = jax.tree.map(lambda x: jnp.asarray(x)[None, step], episode.states)
        frame = np.asarray(PerfectModel(world).decode(state))
        starts.append(Start(frame, np.zeros((0, world.spec.size), np.float32), f"episode {unit}", unit, step, state))
    return Scene(
        name=f"{record['source']}: the world itself",
        actions=world.spec,
        frame_shape=starts[0].frames.shape[1:],
        starts=starts,
        variant=lambda settings: PerfectModel(world),
        simulator=lambda: JaxSimulator(record),
        record=record,
    )
