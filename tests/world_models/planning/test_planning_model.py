"""Planning works with any model that offers latents and a distance: a toy of one level that no family has."""

import jax
import jax.numpy as jnp
from flax import nnx

from world_models.environments import tasks
from world_models.environments.worlds.two_rooms import TwoRooms
from world_models.models.latent_dynamics.model import MultiLevelDynamics
from world_models.planning import episodes
from world_models.planning.model import LatentLevel, PlanningModel
from world_models.planning.options import PlannerLevel
from world_models.planning.planner import encode_frame, make_planner

WORLD = TwoRooms((65, 65))
HIGH = WORLD.spec.high[0]


class DotTracker(nnx.Module):
    """Latents are the position of the dot, which it reads from frames; it knows how actions move it, but no walls."""

    actions = WORLD.spec
    planning_levels = (LatentLevel(action_size=2),)
    can_decode = False

    def __init__(self):
        """Its one parameter: how far an action leads."""
        self.gain = nnx.Param(jnp.ones(()))

    def encode(self, frames):
        dot = frames[..., 0].astype(jnp.float32)
        dot = jnp.where(dot > 0.3 * dot.max(axis=(-2, -1), keepdims=True), dot, 0)
        rows, columns = jnp.mgrid[: dot.shape[-2], : dot.shape[-1]]
        mean = lambda places: jnp.sum(dot * places, axis=(-2, -1)) / jnp.sum(dot, axis=(-2, -1))
        pixels_per_unit = WORLD.pixel(jnp.ones(2)) - WORLD.pixel(jnp.zeros(2))
        return (jnp.stack([mean(columns), mean(rows)], axis=-1) - WORLD.pixel(jnp.zeros(2))) / pixels_per_unit

    def lift(self, level, below):
        return below

    def distance_embedding(self, level, z):
        return z

    def init_carry(self, level, z):
        return z

    def step_level(self, level, carry, action, rng=None):
        return carry + self.gain[...] * action

    def observe_latent(self, level, carry, action, z):
        return z

    def latent(self, level, carry):
        return carry


def test_a_model_of_another_class_is_planned_in():
    model = DotTracker()
    search = {"horizon": 8, "samples": 64, "iterations": 4, "elites": 8, "low": -HIGH, "high": HIGH, "std": HIGH / 2}
    settings = (PlannerLevel(2, **search, cost="sum"),)
    drawn = jax.tree.map(jnp.asarray, tasks.make(WORLD, "fixed_wall", 0, 8))
    down = jnp.where(drawn.start[:, 1] < 32, 20.0, -20.0)  # a goal in the same room: the model knows no walls
    chosen = drawn._replace(goal=drawn.start + jnp.stack([jnp.zeros(8), down], axis=-1))

    @jax.jit
    def play(model, task, keys):
        planner = make_planner(model, settings)
        encode = lambda frame, state: encode_frame(model, frame)
        one = lambda task, key: episodes.run(WORLD, encode, planner, task, *jax.random.split(key), num_steps=40)
        return jax.vmap(one)(task, keys)

    played = play(model, chosen, jax.random.split(jax.random.key(0), 8))
    assert played.success_any.mean() > 0.8
    model.gain[...] = -1.0  # a model that is wrong about its actions gets nowhere
    assert play(model, chosen, jax.random.split(jax.random.key(0), 8)).success_any.mean() < 0.3
    assert play._cache_size() == 1


def test_the_latent_dynamics_model_has_all_of_the_protocol():
    names = [name for name in vars(PlanningModel) if not name.startswith("_")] + list(PlanningModel.__annotations__)
    assert [name for name in names if not hasattr(MultiLevelDynamics, name)] == ["actions"]  # an attribute of objects
