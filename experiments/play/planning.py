"""The planner of a run for the page: what it does next, and what each of its levels aims at."""

import functools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.planning.evaluation import PlanOutline, plan_outline
from experiments.planning.planners import make_settings
from world_models.core.errors import UserError
from world_models.core.types import Array
from world_models.environments.world import World
from world_models.environments.worlds import registry
from world_models.planning.hierarchy import PlanInfo
from world_models.planning.host import Player
from world_models.planning.model import PlanningModel

if TYPE_CHECKING:
    from experiments.runs.loading import LoadedRun

STEPS = 1_000  # an attempt may take so long: plans look no further than that


def make_planners(run: "LoadedRun") -> Any:
    """What makes a `PagePlanner` for each player, or None if the run's family or action space has no planner."""
    if "plan" not in run.experiment.capabilities():
        return None
    try:
        settings = make_settings(run.config, run.model)
    except UserError:  # discrete actions, or no search in its config
        return None
    record = dict(run.spec.record)
    world = None
    if record.get("source") in registry.WORLDS:
        world = registry.of_record(record | {"image_size": run.spec.frame_shape[:2]})
    return lambda: PagePlanner(run.model, settings, run.config.eval.plan.cost_level, world)


class PagePlanner:
    """Plans for one player, with the search of `config.eval.search`. Methods compute: call them from another thread."""

    def __init__(self, model: PlanningModel, settings: tuple, cost_level: int, world: World | None):
        """Without `world`, goals are images alone."""
        self._model, self._settings, self.world = model, settings, world
        self._player = Player(model, settings, 0 if cost_level == len(settings) else cost_level, watch)
        self._state: Any = None

    def start(self, goal: np.ndarray) -> None:
        """Aims at a frame uint8 [h, w, c]."""
        self._state = self._player.start(goal, jax.random.key(0), STEPS)

    def act(self, frame: np.ndarray) -> tuple[np.ndarray, list[tuple[str, np.ndarray]]]:
        """(action, frames by name of what the levels aim at, from the top down) at a frame uint8 [h, w, c]."""
        action, self._state, outline = self._player.act(self._state, frame)
        return action, self._images(outline)

    def _images(self, outline: PlanOutline) -> list[tuple[str, np.ndarray]]:
        if not self._model.can_decode:
            return []
        found = []
        for level in range(len(self._settings), 0, -1):
            if level < len(self._settings):
                of = level + 1 if self._settings[level - 1].cost_space == "above" else level
                found.append((f"subgoal of level {level}", _decode(self._model, of, outline.subgoals[level - 1])))
            found.append((f"end of plan {level}", _decode(self._model, level, outline.ends[level - 1])))
        return [(text, np.asarray(frame)) for text, frame in found]

    def goal_at(self, place: tuple[float, float], state: Any) -> np.ndarray:
        """The frame uint8 [h, w, 3] with the agent at a place of the frame, as shares of its width and height.

        Raises:
          UserError: if the agent cannot be there.
        """
        world, axes = self.world, np.concatenate([np.zeros((1, 2)), np.eye(2)]).astype(np.float32)
        corner, right, down = np.asarray(world.pixel(jnp.asarray(axes)), np.float64)  # it is affine
        height, width = world.image_size
        pixel = np.array([place[0] * width - 0.5, place[1] * height - 0.5])
        position = np.linalg.solve(np.stack([right - corner, down - corner], axis=1), pixel - corner)
        layout = state.layout if "layout" in state._fields else world.Layout()
        if reason := world.blocked(np.float32(position), jax.tree.map(np.asarray, layout)):
            raise UserError(f"The agent cannot be there: {reason}.")
        return np.asarray(_render(world, state._replace(position=jnp.asarray(position, jnp.float32))))


def watch(plan_info: PlanInfo) -> PlanOutline:
    """What is kept of each step's `PlanInfo`."""
    return plan_outline(plan_info)


@functools.partial(jax.jit, static_argnames="level")
def _decode(model: PlanningModel, level: int, z: Array) -> jax.Array:
    return model.decode_level(level, z)


_render = jax.jit(lambda world, state: world.render(state), static_argnums=0)
