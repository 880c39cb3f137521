"""How the levels of a model plan, from `config.eval.search` and `config.eval.plan`, and the planner that they make."""

import dataclasses
import functools

import ml_collections

from world_models.core.errors import ConfigError, UserError, config_error
from world_models.core.options import from_dict
from world_models.core.types import Array
from world_models.models.latent_dynamics.model import MultiLevelDynamics
from world_models.planning import costs
from world_models.planning.hierarchy import HierarchicalPlanner, Level
from world_models.planning.options import PlannerLevel


def make_settings(config: ml_collections.ConfigDict, model: MultiLevelDynamics) -> tuple[PlannerLevel, ...]:
    """How each level of a planner searches, from `config.eval.search` and `config.eval.plan`, the lowest first.

    Raises:
      ConfigError: if a block or a field is missing, unknown or out of range.
    """
    names, count = tuple(config.model.levels), config.eval.plan.num_levels or len(config.model.levels)
    if not 1 <= count <= len(names):
        valid = f"be from 1 to {len(names)}, the levels of this model, or 0 for all"
        raise config_error("config.eval.plan.num_levels", count, valid)
    if model.actions.kind != "continuous":
        raise UserError(f"The data have {model.actions.kind} actions; these planners search for continuous ones.")
    found = []
    for i, name in enumerate(names[:count]):
        block = f"config.eval.search.{name}"
        if name not in config.eval.search:
            raise ConfigError(block, f"{block} is missing: how the level {name!r} of config.model.levels plans.")
        low, high = (model.actions.low, model.actions.high) if i == 0 else (-1.0, 1.0)
        try:
            level = from_dict(PlannerLevel, config.eval.search[name].to_dict(), block)
            level = dataclasses.replace(level, dim=model.options.levels[i].action, low=low, high=high)
        except ConfigError:
            raise
        except UserError as error:
            raise ConfigError(block, f"{block}: {error}") from error
        if level.cost_space == "own" and i + 1 < count and model.options.levels[i + 1].encoder != "identity":
            valid = f"be 'above': only the latents of a level with encoder='identity' are those of {name!r}"
            raise config_error(f"{block}.cost_space", "own", valid)
        found.append(level)
    return tuple(found)


def make_planner(
    model: MultiLevelDynamics, settings: tuple[PlannerLevel, ...], cost_level: int = 0
) -> HierarchicalPlanner:
    """A planner that steps the lowest levels of a model, one for each setting.

    Args:
      model: all of it.
      settings: from level 1 up; see `PlannerLevel` for their horizons.
      cost_level: of the latents in which the highest planner's distance to the goal is measured; 0 for its own. A level
        above those that plan gives the others its cost alone (the "cost ladder" of H-JEPA).
    """
    levels, highest, options = [], len(settings), model.options.levels

    def apart(number: int, states: Array, goal: Array) -> Array:
        return costs.squared_error(model.distance_embedding(number, states), model.distance_embedding(number, goal))

    def to_goal(states: Array, goal: Array) -> Array:
        for number in range(highest + 1, cost_level + 1):
            states, goal = model.lift(number, states), model.lift(number, goal)
        return apart(max(highest, cost_level), states, goal)

    for number, setting in enumerate(settings, start=1):
        if number < highest:
            setting = dataclasses.replace(setting, horizon=min(setting.horizon, options[number].stride))
        own = ("search", "replan", "prior_weight", "cost", "cost_space", "near", "warm_start")
        fields = {name: getattr(setting, name) for name in own}
        fields["prior"] = model.prior(number) if setting.prior else None
        levels.append(
            Level(
                step=lambda carry, action, _, number=number: model.step_level(number, carry, action),
                init_carry=lambda z, number=number: model.init_carry(number, z),
                latent=lambda carry, number=number: model.latent(number, carry),
                observe=lambda carry, action, z, number=number: model.observe_latent(number, carry, action, z),
                distance=functools.partial(apart, number),
                lift=lambda z, number=number: model.lift(number, z),
                stride=options[number - 1].stride,
                **fields,
            )
        )
    return HierarchicalPlanner(tuple(levels), to_goal)


def with_samples(setting: PlannerLevel, share: float) -> PlannerLevel:
    """A search with a share of its samples and of its elites, at least two and one."""
    samples = max(2, round(setting.samples * share))
    elites = min(max(1, round(setting.elites * share)), samples - 1)
    return dataclasses.replace(setting, samples=samples, elites=elites)
