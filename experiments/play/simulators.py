"""The true environment beside the model: a step is a function of (state, action), so players go back and branch."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from experiments.play.remote import RemoteEnvironment
from experiments.runs import trust
from experiments.runs.recording import make_source
from world_models.core.errors import UserError
from world_models.data.sources import worlds
from world_models.environments.world import Trajectory
from world_models.environments.worlds import registry

if TYPE_CHECKING:
    from experiments.play.scene import Start
    from experiments.runs.loading import LoadedRun


class Truth(NamedTuple):
    """The environment after a step.

    Attributes:
      state: what `Simulator.step` goes on from.
      frame: uint8 [h, w, 3].
      reward: of the step.
      over: whether the episode has ended; further steps leave it as it is.
    """

    state: Any
    frame: np.ndarray
    reward: float = 0.0
    over: bool = False


class Simulator(Protocol):
    """The environment of one player. Methods may take long and are called from one thread at a time."""

    def begin(self, start: "Start") -> Truth:
        """The environment at the last frame of a context. Raises UserError if it cannot go there."""

    def step(self, state: Any, action: np.ndarray) -> Truth:
        """One recorded step (with the recording's action repeat) after a state."""

    def close(self) -> None:
        """Frees what it holds; may be called from any thread."""


def make_simulators(run: "LoadedRun") -> tuple[Callable[[], Simulator] | None, str]:
    """What makes simulators of the environment that a run's data come from, or None.

    Returns:
      (that, the label of an episode that tells the simulator which one it is).
    """
    record = dict(run.spec.record)
    if record.get("source") in registry.WORLDS:
        own = record | {"image_size": run.spec.frame_shape[:2]}
        return (lambda: JaxSimulator(own)), "index"
    if record.get("source") == "gymnasium":
        trust.check({"record": record}, [name for name in trust.FIELDS if name.startswith("record.")], run.trusted)
        own = record | {"image_size": list(run.spec.frame_shape[:2])}
        return (lambda: RemoteSimulator(own)), "seed"
    return None, ""


class JaxSimulator:
    """A world written in JAX."""

    def __init__(self, record: Mapping[str, Any]):
        """`record` is the `config.record` of the data, at the frame size of the model."""
        self._record, self.world = record, registry.of_record(record)

    def begin(self, start: "Start") -> Truth:
        """The recorded episode, made again up to the start."""
        if start.unit is None:
            raise UserError("the simulator cannot go to a start that it did not record")
        (trajectory,) = recorded_episodes(self._record, [start.unit])
        state = jax.tree.map(lambda x: x[start.step], trajectory.states)
        return Truth((state, 0), np.asarray(_render(self.world, state)))

    def step(self, state: Any, action: np.ndarray) -> Truth:
        """The world's step, with noise that depends on the number of steps alone."""
        inner, count = state
        inner, frame = _advance(self.world, inner, jnp.asarray(action), count)
        return Truth((inner, count + 1), np.asarray(frame))

    def close(self) -> None:
        """Holds nothing."""


_collectors: dict[str, Callable] = {}  # compiled, by the recording's options


def recorded_episodes(record: Mapping[str, Any], units: Sequence[int]) -> list[Trajectory]:
    """Episodes of a few numbers, as NumPy arrays, made again by the world's data policy."""
    name = json.dumps(record, sort_keys=True, default=str)
    if name not in _collectors:
        _collectors[name] = worlds.collector(record)
    made = _collectors[name](np.pad(np.asarray(units), (0, worlds.BATCH - len(units)), mode="edge"))
    return [jax.tree.map(lambda x, i=i: np.asarray(x[i]), made) for i in range(len(units))]


_render = jax.jit(lambda world, state: world.render(state), static_argnums=0)


def _next(world: Any, state: Any, action: jax.Array, count: jax.Array) -> tuple[Any, jax.Array]:
    state = world.step(state, action, jax.random.fold_in(jax.random.key(0), count))
    return state, world.render(state)


_advance = jax.jit(_next, static_argnums=0)


class _Path(NamedTuple):
    """Where a process stands: a start, or a path and an action after it."""

    start: Any
    before: "_Path | None"
    action: np.ndarray | None

    def actions(self) -> list[np.ndarray]:
        """All actions since the start."""
        found, path = [], self
        while path.before is not None:
            found.append(path.action)
            path = path.before
        return found[::-1]


class RemoteSimulator:
    """A Gymnasium environment in a process of its own, which goes back by repeating the episode from its reset."""

    def __init__(self, record: Mapping[str, Any]):
        """Starts the process."""
        self._remote = RemoteEnvironment(make_source, record)
        self._now: _Path | None = None

    def begin(self, start: "Start") -> Truth:
        """The recorded episode, repeated up to the start.

        Raises:
          UserError: if it does not end in the start's frame.
        """
        if start.unit is None:
            raise UserError("the simulator cannot go to a start that it did not record")
        frame = self._remote.call("begin", start.unit, start.step)
        if not np.array_equal(frame, start.frames[-1]):
            raise UserError("the simulator repeats the recorded episode differently")
        self._now = _Path(start, None, None)
        return Truth(self._now, frame)

    def step(self, state: _Path, action: np.ndarray) -> Truth:
        """The environment's step; from another state than the last one, all steps since the start again."""
        if state is not self._now:
            self._remote.call("begin", state.start.unit, state.start.step)
            for past in state.actions():
                self._remote.call("step", past)
        frame, reward, over = self._remote.call("step", action)
        self._now = _Path(state.start, state, action)
        return Truth(self._now, frame, reward, over)

    def close(self) -> None:
        """Ends the process."""
        self._remote.close()
