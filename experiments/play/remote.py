"""A Gymnasium environment in a process of its own: it neither slows the server down nor takes it along if it crashes.

The process imports no JAX.
"""

import contextlib
import dataclasses
import multiprocessing
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from world_models.core.errors import UserError
from world_models.data.options import GymnasiumRecording
from world_models.environments.gymnasium import GymnasiumSource

PATIENCE = 120.0  # seconds until a call counts as lost


class RemoteEnvironment:
    """Calls methods of a `_Player` in another process."""

    def __init__(self, make_source: Callable[[Mapping[str, Any]], GymnasiumSource], record: Mapping[str, Any]):
        """Starts the process for the environment of a `config.record`; `make_source` is a module's function."""
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make_source, dict(record)), daemon=True)
        self._process.start()
        theirs.close()

    def call(self, name: str, *arguments: Any) -> Any:
        """The result of a method.

        Raises:
          UserError: with what went wrong there.
        """
        try:
            self._pipe.send((name, arguments))
            if not self._pipe.poll(PATIENCE):
                raise UserError(f"the simulator did not answer for {PATIENCE:g} s")
            is_error, value = self._pipe.recv()
        except (EOFError, OSError, TypeError) as error:  # TypeError: closed while it was waiting
            raise UserError("the simulator's process has ended") from error
        if is_error:
            raise UserError(value)
        return value

    def close(self) -> None:
        """Ends the process."""
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        self._pipe.close()
        with contextlib.suppress(ValueError):
            self._process.close()


def _serve(pipe: Any, make_source: Callable, record: dict[str, Any]) -> None:
    """Answers calls until the other end is gone."""
    player = None
    while True:
        try:
            name, arguments = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            player = player or _Player(make_source, record)
            answer = (False, getattr(player, name)(*arguments))
        except Exception as error:  # the environment's own code
            answer = (True, f"{type(error).__name__}: {error}")
        try:
            pipe.send(answer)
        except OSError:
            return


class _Player:
    """An environment as it was recorded."""

    def __init__(self, make_source: Callable[[Mapping[str, Any]], GymnasiumSource], record: Mapping[str, Any]):
        known = {field.name for field in dataclasses.fields(GymnasiumRecording)}  # older recordings have others
        own = {"fit": "stretch"} | {name: value for name, value in record.items() if name in known}
        self._source = make_source({"source": "gymnasium"} | own | {"image_size": tuple(own["image_size"])})
        self._environment = self._source.make()
        self._units = {self._source.seed(unit): unit for unit in range(self._source.num_units)}
        self._over = False
        self._frame = np.zeros(0)

    def begin(self, seed: int, step: int) -> np.ndarray:
        """The frame of a recorded step of the episode of a seed, played again by the policy that recorded it."""
        if seed not in self._units:
            raise UserError(f"no recorded episode has the seed {seed}")
        observed, act = self._source.begin(self._environment, self._units[seed])
        for _ in range(self._source.skip_steps + step):
            observed = self._source.hold(self._environment, act(observed)).observed
        self._over, self._frame = False, self._source.frame(self._environment, observed)
        return self._frame

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool]:
        """(frame, reward, whether the episode is over)."""
        if self._over:
            return self._frame, 0.0, True
        space = self._environment.action_space
        if np.ndim(action):
            given = np.clip(np.asarray(action).reshape(space.shape), space.low, space.high).astype(space.dtype)
        else:
            given = int(action) + int(space.start)
        held = self._source.hold(self._environment, given)
        self._over = held.terminated or held.truncated
        self._frame = self._source.frame(self._environment, held.observed)
        return self._frame, held.reward, self._over
