"""How the levels of a model plan, from `config.eval.search` and `config.eval.plan`."""

import dataclasses
import math

import ml_collections

from world_models.core.errors import ConfigError, UserError, config_error
from world_models.core.options import from_dict
from world_models.planning.model import PlanningModel
from world_models.planning.options import PlannerLevel


def make_settings(config: ml_collections.ConfigDict, model: PlanningModel) -> tuple[PlannerLevel, ...]:
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
            low, high = (low, high) if level.bounded else (-math.inf, math.inf)
            level = dataclasses.replace(level, dim=model.planning_levels[i].action_size, low=low, high=high)
        except ConfigError:
            raise
        except UserError as error:
            raise ConfigError(block, f"{block}: {error}") from error
        if level.cost_space == "own" and i + 1 < count and not model.planning_levels[i + 1].same_latents:
            valid = f"be 'above': only the latents of a level with encoder='identity' are those of {name!r}"
            raise config_error(f"{block}.cost_space", "own", valid)
        found.append(level)
    return tuple(found)
