"""What is played: a model with its settings, the moments that it can start from, and perhaps the true simulator."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.play import controls
from world_models.core.types import ActionSpec, WorldModel

if TYPE_CHECKING:
    from experiments.play.simulators import Simulator

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
    simulator: "Callable[[], Simulator] | None" = None
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
