"""What is played: a model with its settings, the moments that it can start from, and perhaps the true simulator."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from experiments.evaluation.rollouts import spread
from experiments.play import controls
from experiments.play.planning import make_planners
from experiments.play.simulators import Simulator, make_simulators
from world_models.core.errors import ConfigError, UserError
from world_models.core.specs import VideoSpec
from world_models.core.types import ActionSpec, WorldModel

if TYPE_CHECKING:
    from experiments.runs.loading import LoadedRun

Settings = tuple[tuple[str, Any], ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Start:
    """A context to play from.

    Attributes:
      frames: uint8 [context, h, w, c].
      actions: those between the frames, [context − 1, ...].
      label: what the page calls it.
      unit, step: number of the recorded episode and of the last context frame in it, where a simulator can go there.
      state: of the model, with a leading axis [1], where it is known without looking at frames.
    """

    frames: np.ndarray
    actions: np.ndarray
    label: str
    unit: int | None = None
    step: int = 0
    state: Any = None


@dataclasses.dataclass(frozen=True, eq=False)
class Scene:
    """All that the server needs; a run gives one, and so can anything else that has a `WorldModel`.

    Attributes:
      name: title of the page.
      actions: of the model.
      frame_shape: (height, width, channel).
      starts: at least one.
      variant: settings -> the model with them.
      settings: by name, the values that a setting can have, the default first.
      simulator: makes the true environment, or None.
      record: the `config.record` of the data, for names of actions.
      planner: makes what plans in the model (`experiments.play.planning.PagePlanner`), or None.
    """

    name: str
    actions: ActionSpec
    frame_shape: tuple[int, int, int]
    starts: list[Start]
    variant: Callable[[Settings], WorldModel]
    settings: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    simulator: Callable[[], Simulator] | None = None
    record: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    planner: Callable[[], Any] | None = None

    @property
    def defaults(self) -> Settings:
        """The first value of every setting."""
        return tuple((name, values[0]) for name, values in self.settings.items())

    def own_start(self, frames: np.ndarray) -> Start:
        """A start of frames uint8 [time, h, w, c] from elsewhere, with actions at rest between them."""
        count = len(self.starts[0].frames)
        last = frames[-count:]
        last = np.concatenate([np.repeat(last[:1], count - len(last), axis=0), last])
        return Start(
            last, np.stack([controls.rest(self.actions)] * (count - 1)) if count > 1 else _none(self.actions), "upload"
        )


def _none(actions: ActionSpec) -> np.ndarray:
    return np.zeros((0, *actions.shape), actions.dtype)


def of_run(run: "LoadedRun", number: int = 12) -> Scene:
    """The scene of a trained run, with `number` held-out contexts to start from.

    Raises:
      UserError: if its model is no `WorldModel` with frames, or its data are gone.
    """
    if not isinstance(run.spec, VideoSpec):
        raise UserError(f"--workdir={run.workdir}: its model learned from {run.spec.kind}; play needs video.")
    make, simulates = make_simulators(run)
    starts = _held_out(run, number, simulates)
    _check_decode(run, starts[0])
    return Scene(
        name=run.workdir.resolve().name,
        actions=run.spec.actions,
        frame_shape=run.spec.frame_shape,
        starts=starts,
        variant=lambda settings: run.experiment.with_settings(run.model, dict(settings)),
        settings=run.experiment.play_settings(),
        simulator=make,
        record=run.spec.record,
        planner=make_planners(run),
    )


def _held_out(run: "LoadedRun", number: int, simulates: str) -> list[Start]:
    """Contexts of the test split; `simulates` is the label of episodes that says where the simulator finds them."""
    count = run.config.eval.imagine.num_context
    split = run.config.data.test_split
    windows = run.windows(split, count, field="config.eval.imagine.num_context")
    indices = spread(windows, number)
    clip = windows.load(indices)
    starts, single = [], windows.parts[0] if len(windows.parts) == 1 else None
    labels = _labels(single, simulates)
    for i, index in enumerate(indices):
        unit, step = None, 0
        if labels is not None:
            unit = int(labels[single.episode[index]])
            step = int(single.start[index]) + count - 1
        label = f"{split} {int(index)}"
        starts.append(Start(clip.frames[i], clip.actions[i, :-1], label, unit if unit != -1 else None, step))
    return starts


def _labels(windows: Any, name: str) -> np.ndarray | None:
    """What tells the simulator which episode it is, int64 [episodes], if the data have it."""
    if windows is None or not name:
        return None
    try:
        return windows.episodes.labels(name)
    except UserError:  # recorded elsewhere
        return None


def _check_decode(run: "LoadedRun", start: Start) -> None:
    """Raises UserError if the model cannot be stepped or has no frames to show; nothing is computed."""

    def one(frames: Any, actions: Any) -> Any:
        state = run.model.observe(frames, actions, jax.random.key(0))
        action = jax.numpy.zeros((1, *run.spec.actions.shape), run.spec.actions.dtype)
        return run.model.decode(run.model.step(state, action, jax.random.key(0))[0])

    try:
        jax.eval_shape(one, start.frames[None], start.actions[None])
    except ConfigError as error:
        raise ConfigError(error.field, f"--workdir={run.workdir} cannot be played: {error}") from error
