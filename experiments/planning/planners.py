"""How the levels of a model plan, from `config.search` and `config.plan`, and the planner that they make."""

import dataclasses
import functools

import ml_collections

from world_models.core.errors import UserError
from world_models.core.types import Array
from world_models.models.latent_dynamics.model import MultiLevelDynamics
from world_models.planning import costs
from world_models.planning.hierarchy import HierarchicalPlanner, Level
from world_models.planning.options import PlannerLevel, Search


def make_settings(config: ml_collections.ConfigDict, model: MultiLevelDynamics) -> tuple[PlannerLevel, ...]:
    """How each level of a planner searches, from `config.search` and `config.plan`, the lowest first.

    Raises:
      UserError: if a block or a field is missing, unknown or out of range.
    """
    names, count = tuple(config.levels), config.plan.num_levels or len(config.levels)
    if not 1 <= count <= len(names):
        raise UserError(
            f"config.plan.num_levels={count} must be from 1 to {len(names)}, the levels of this model, or 0 for all."
        )
    own = {field.name for field in dataclasses.fields(PlannerLevel)} - {"search"}
    known = own | {field.name for field in dataclasses.fields(Search)} - {"dim", "low", "high"}
    found = []
    for i, name in enumerate(names[:count]):
        if name not in config.search:
            raise UserError(f"config.search.{name} is missing: how the level {name!r} of config.levels plans.")
        numbers = config.search[name].to_dict()
        if not set(numbers) <= known:
            unknown = sorted(set(numbers) - known)
            raise UserError(f"config.search.{name} has {unknown}, which no search has; it may have {sorted(known)}.")
        low, high = (model.actions.low, model.actions.high) if i == 0 else (-1.0, 1.0)
        if i == 0 and model.actions.kind != "continuous":
            raise UserError(f"The data have {model.actions.kind} actions; these planners search for continuous ones.")
        options = {key: value for key, value in numbers.items() if key not in own}
        try:
            search = Search(dim=model.options.levels[i].action, low=low, high=high, **options)
        except UserError as error:
            raise UserError(f"config.search.{name}: {error}") from error
        setting = PlannerLevel(search, **{key: value for key, value in numbers.items() if key in own})
        if setting.cost_space == "own" and i + 1 < count and config[names[i + 1]].encoder != "identity":
            raise UserError(
                f"config.search.{name}.cost_space='own' takes subgoals of level {names[i + 1]!r} for its own latents, "
                f"which they are only with config.{names[i + 1]}.encoder='identity': take 'above'."
            )
        found.append(setting)
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
            horizon = min(setting.search.horizon, options[number].stride)
            setting = dataclasses.replace(setting, search=dataclasses.replace(setting.search, horizon=horizon))
        fields = {field.name: getattr(setting, field.name) for field in dataclasses.fields(setting)}
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
    search = setting.search
    samples = max(2, round(search.samples * share))
    elites = min(max(1, round(search.elites * share)), samples - 1)
    return dataclasses.replace(setting, search=dataclasses.replace(search, samples=samples, elites=elites))
