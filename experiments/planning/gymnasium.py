"""Planning in a trained model, measured in a Gymnasium environment: episodes on the host around one jitted `act`."""

import dataclasses
import functools
import importlib
from typing import TYPE_CHECKING, Any

import jax
import ml_collections
import numpy as np

from experiments.planning.evaluation import PlanningEvaluation, PlanOutline, Reached, plan_outline, success_rates
from experiments.reports import plan_pictures
from experiments.runs import trust
from experiments.runs.fingerprint import of_value
from experiments.runs.progress import Progress
from experiments.runs.recording import make_source
from world_models.core.errors import ConfigError, UserError
from world_models.core.types import Array
from world_models.data.options import GymnasiumRecording
from world_models.environments.gymnasium import GymnasiumSource
from world_models.environments.replay import IsReached, ReplayedTask, draw
from world_models.planning.hierarchy import PlanInfo
from world_models.planning.host import HostEpisode, Player

if TYPE_CHECKING:
    from experiments.runs.loading import LoadedRun


def recorded_source(run: "LoadedRun") -> GymnasiumSource:
    """The source that a run's data were recorded with, whatever its config says today; frames as the model has them.

    Raises:
      UserError: if they come from another kind of source, their actions are not continuous, or what recorded them names
        a module that is not trusted.
    """
    record = run.spec.record
    if record.get("source") != "gymnasium":
        raise ConfigError(
            "config.record.source",
            f"config.record.source='gymnasium', but this model's data were recorded from {record.get('source')!r}: "
            "plan where they come from.",
        )
    known = {field.name for field in dataclasses.fields(GymnasiumRecording)}  # older recordings have others besides
    record = {name: value for name, value in record.items() if name in known}
    record = {"fit": "stretch"} | record  # what all did before there was a choice
    record = run.config.record.to_dict() | record | {"image_size": run.spec.frame_shape[:2]}
    trust.check({"record": record}, [field for field in trust.FIELDS if field.startswith("record.")], run.trusted)
    source = make_source(ml_collections.ConfigDict(record))
    environment = source.make()
    space = environment.action_space
    environment.close()
    if not np.issubdtype(space.dtype, np.floating):
        raise UserError(f"{source.environment} has actions of space {space}; planners here search for real numbers.")
    return source


def make_reached(run: "LoadedRun") -> IsReached:
    """The function that `config.eval.plan.reached` names."""
    trust.check(run.config, ["eval.plan.reached"], run.trusted)
    path = run.config.eval.plan.reached
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            "config.eval.plan.reached",
            f"config.eval.plan.reached={path!r} must be a 'package.module:function' of an observation and the goal's "
            f"that returns whether the goal is reached ({error}).",
        ) from error


def watch(plan_info: PlanInfo) -> tuple[Array, Array, PlanOutline]:
    """What is kept of each step's `PlanInfo`."""
    return plan_info.costs, plan_info.not_finite, plan_outline(plan_info)


class GymnasiumPlanning(PlanningEvaluation):
    """Planning in a Gymnasium environment; nothing is played before it is needed."""

    MINIMUM = {"num_steps": 1, "offset": 1, "num_tasks": 1, "num_shown": 0, "task_seed": 0, "fps": 1}  # noqa: RUF012
    KIND = "gymnasium"

    def __init__(self, run: "LoadedRun"):
        """Checks `config.eval.plan` and `config.eval.search`, and draws the tasks."""
        super().__init__(run)
        options = self.options
        self.source, self.reached = recorded_source(run), make_reached(run)
        try:
            self.tasks, self.left_out = draw(
                self.source, self.reached, options.num_tasks, options.offset, options.num_steps, options.task_seed
            )
        except UserError as error:
            raise ConfigError("config.eval.plan", f"config.eval.plan: {error}") from error
        self.steps = options.num_steps
        starts = [[self.source.seed(task.unit), len(task.actions)] for task in self.tasks]
        self.digest = of_value({"record": dict(run.spec.record), "offset": options.offset, "tasks": starts})
        self._environment = self.source.make()

    @functools.cached_property
    def episodes(self) -> list[HostEpisode]:
        """All tasks, played."""
        player = Player(self.run.model, self.settings, self.cost_level, watch)
        found, progress, successes = [], Progress(len(self.tasks), unit="episode"), 0
        for i, task in enumerate(self.tasks):
            world = ReplayedTask(self.source, self._environment, task, self.reached)
            key = jax.random.fold_in(jax.random.key(self.options.seed), i)
            look = lambda _, observed, world=world: world.frame(observed)
            found.append(player.play(world, task.goal.frame, key, self.steps, look=look))
            successes += any(info["reached"] for info in found[-1].infos)
            progress.show(i + 1, f"planning | success rate {successes / (i + 1):.0%}")
        progress.close()
        return found

    @functools.cached_property
    def hits(self) -> list[list[bool]]:
        """Of every episode, whether the goal was reached after each step."""
        return [[info["reached"] for info in played.infos] for played in self.episodes]

    @functools.cached_property
    def baselines(self) -> dict[str, Reached]:
        """The policy that needs no model: random actions."""
        found = []
        for i, task in enumerate(self.tasks):
            world, hits = ReplayedTask(self.source, self._environment, task, self.reached), []
            world.reset()
            world.action_space.seed(self.options.seed + i)
            for _ in range(self.steps):
                _, _, terminated, truncated, info = world.step(world.action_space.sample())
                hits.append(info["reached"])
                if terminated or truncated:
                    break
            found.append((any(hits), hits[-1]))
        return {"random": Reached(*np.array(found).T)}

    def episode_results(self) -> list[dict[str, Any]]:
        """Every episode: where it began, and after how many steps the goal was first reached, -1 if it was not."""
        found = []
        for task, hits in zip(self.tasks, self.hits):
            found.append(
                {
                    "seed": self.source.seed(task.unit),
                    "first_step": len(task.actions),
                    "steps": hits.index(True) + 1 if any(hits) else -1,
                    "success": any(hits),
                    "terminal_success": hits[-1],
                }
            )
        return found

    def draw(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(video uint8 [time, h, w, 3], still uint8 [h, w, 3]) of the episodes of some tasks."""
        return plan_pictures.host_rollouts(self, rows)

    def results(self) -> dict[str, Any]:
        """The content of plan/results.json."""
        ends = Reached(np.array([any(hits) for hits in self.hits]), np.array([hits[-1] for hits in self.hits]))
        return {
            "episodes": len(self.tasks),
            **success_rates(ends),
            **self.planner_results(),
            "offset": self.options.offset,
            "tasks_sha256": self.digest,
            "left_out": self.left_out,
            "ended_early": sum(len(played.actions) < self.steps for played in self.episodes),
            "not_finite": int(sum(played.plan_infos[1].sum() for played in self.episodes)),
            "baselines": {name: success_rates(played) for name, played in self.baselines.items()},
            **self.timing(),
            "step": self.run.step,
            "provenance": self.run.provenance(tasks_sha256=self.digest),
        }
