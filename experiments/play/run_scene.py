"""The scene of a trained run: its model, held-out contexts to start from, and the simulator that recorded them."""

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from experiments.evaluation.rollouts import spread
from experiments.play.address import ServeOptions
from experiments.play.planning import make_planners
from experiments.play.scene import Scene, Start
from experiments.play.server import serve
from experiments.play.simulators import make_simulators
from world_models.core.errors import ConfigError, UserError
from world_models.core.specs import VideoSpec

if TYPE_CHECKING:
    from experiments.runs.loading import LoadedRun


def write(run: "LoadedRun", options: ServeOptions) -> None:
    """Serves the page of a run until it is interrupted; writes nothing."""
    serve(of_run(run), options)


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
