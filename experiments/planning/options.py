"""Options of the command `plan`: the block `config.eval.plan`. No JAX here."""

import dataclasses

from world_models.core.options import OneOf


@dataclasses.dataclass(frozen=True)
class PlanOptions:
    """Episodes that are solved by planning in a trained model.

    Attributes:
      num_tasks: how many are drawn.
      task_seed: of the tasks.
      num_steps: environment steps of an episode; 0, in worlds written in JAX, for the published number.
      num_levels: levels that plan, from the lowest; 0 for all.
      cost_level: level in whose latents the distance to the goal is measured; 0 for the highest that plans.
      seed: of the episodes: the world's noise and the planner's.
      num_shown: episodes in the video.
      fps: frames a second of the video.
    """

    num_tasks: int = 100
    task_seed: int = 0
    num_steps: int = 0
    num_levels: int = 0
    cost_level: int = 0
    seed: int = 0
    num_shown: int = 4
    fps: float = 12.0


@dataclasses.dataclass(frozen=True)
class WorldPlanOptions(PlanOptions):
    """Planning in a world written in JAX.

    Attributes:
      tasks: name of a kind of tasks of the world.
      task_file: tasks of a file instead of drawn ones; empty for none.
      repeats: of all tasks, each with another seed of the planner alone.
      batch: episodes that are played at once.
      pareto: shares of the samples; success is measured for each of them and each number of levels.
    """

    tasks: str = ""
    task_file: str = ""
    repeats: int = 1
    batch: int = 25
    pareto: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class GymnasiumPlanOptions(PlanOptions):
    """Planning in a Gymnasium environment towards what the data policy saw later.

    Attributes:
      reached: "package.module:function" of an observation and the goal's: whether the goal is reached.
      offset: recorded steps from start to goal.
    """

    num_tasks: int = 50
    num_steps: int = 20
    fps: float = 8.0
    reached: str = ""
    offset: int = 10


PLAN = OneOf("kind", {"world": WorldPlanOptions, "gymnasium": GymnasiumPlanOptions})
