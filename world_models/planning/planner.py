"""A planner that searches in the levels of a `PlanningModel`."""

import dataclasses
import functools

from world_models.core.types import Array
from world_models.planning import costs
from world_models.planning.hierarchy import HierarchicalPlanner, Level
from world_models.planning.model import PlanningModel
from world_models.planning.options import PlannerLevel


def make_planner(model: PlanningModel, settings: tuple[PlannerLevel, ...], cost_level: int = 0) -> HierarchicalPlanner:
    """A planner that steps the lowest levels of a model, one for each setting.

    Args:
      model: all of it.
      settings: from level 1 up; see `PlannerLevel` for their horizons.
      cost_level: of the latents in which the highest planner's distance to the goal is measured; 0 for its own. A level
        above those that plan gives the others its cost alone (the "cost ladder" of H-JEPA).
    """
    levels, highest, described = [], len(settings), model.planning_levels

    def distance(number: int, states: Array, goal: Array) -> Array:
        return costs.squared_error(model.distance_embedding(number, states), model.distance_embedding(number, goal))

    def to_goal(states: Array, goal: Array) -> Array:
        for number in range(highest + 1, cost_level + 1):
            states, goal = model.lift(number, states), model.lift(number, goal)
        return distance(max(highest, cost_level), states, goal)

    for number, setting in enumerate(settings, start=1):
        if number < highest:
            setting = dataclasses.replace(setting, horizon=min(setting.horizon, described[number].stride))
        own = ("search", "replan", "prior_weight", "cost", "cost_space", "near", "warm_start")
        fields = {name: getattr(setting, name) for name in own}
        fields["prior"] = model.prior(number) if setting.prior else None
        levels.append(
            Level(
                step=lambda carry, action, key, number=number: model.step_level(number, carry, action, key),
                init_carry=lambda z, number=number: model.init_carry(number, z),
                latent=lambda carry, number=number: model.latent(number, carry),
                observe=lambda carry, action, z, number=number: model.observe_latent(number, carry, action, z),
                distance=functools.partial(distance, number),
                lift=lambda z, number=number: model.lift(number, z),
                stride=described[number - 1].stride,
                **fields,
            )
        )
    return HierarchicalPlanner(tuple(levels), to_goal)


def encode_frame(model: PlanningModel, frame: Array) -> Array:
    """The latent [width] of level 1 of one frame, uint8 [h, w, c]."""
    return model.encode(frame[None, None])[0, 0]


def with_samples(setting: PlannerLevel, share: float) -> PlannerLevel:
    """A search with a share of its samples and of its elites, at least two and one."""
    samples = max(2, round(setting.samples * share))
    elites = min(max(1, round(setting.elites * share)), samples - 1)
    return dataclasses.replace(setting, samples=samples, elites=elites)
