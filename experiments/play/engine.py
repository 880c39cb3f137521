"""Steps the worlds of all players on one thread: those that wait at the same time go through the model together."""

import collections
import concurrent.futures
import dataclasses
import functools
import threading
import time
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from world_models.core.types import ActionSpec, Array, Prediction, WorldModel

if TYPE_CHECKING:
    from experiments.play.scene import Start


class Moment(NamedTuple):
    """A world after a step.

    Attributes:
      state: of the model, for one world, on the device.
      frame: uint8 [h, w, c].
      reward, terminal: what the model predicts of the step, or None.
      milliseconds: that the program took which computed it, for all worlds in it.
      batch: worlds that it stepped.
    """

    state: Any
    frame: np.ndarray
    reward: float | None
    terminal: float | None
    milliseconds: float
    batch: int


@dataclasses.dataclass
class _Request:
    """A step that somebody waits for."""

    variant: Hashable
    state: Any
    action: np.ndarray
    seed: int
    depth: int
    result: concurrent.futures.Future


def _observe(treedef: Any, leaves: list[Array], frames: Array, actions: Array, seed: Array) -> tuple[Any, Array]:
    """(state of one world, its frame) after a context [time, ...]."""
    model: WorldModel = jax.tree.unflatten(treedef, leaves)
    state = model.observe(frames[None], actions[None], jax.random.fold_in(jax.random.key(seed), 0))
    return state, model.decode(state)[0]


def _decode(treedef: Any, leaves: list[Array], state: Any) -> Array:
    return jax.tree.unflatten(treedef, leaves).decode(state)[0]


def _step(
    treedef: Any, leaves: list[Array], states: tuple, actions: Array, seeds: Array, depths: Array
) -> tuple[tuple, Array, Prediction]:
    """Steps worlds that are states of batch 1; each has a key of its own, so that others do not change it."""
    model: WorldModel = jax.tree.unflatten(treedef, leaves)

    def one(state: Any, action: Array, seed: Array, depth: Array) -> tuple[Any, Array, Prediction]:
        key = jax.random.fold_in(jax.random.key(seed), depth)
        state, prediction = model.step(state, action[None], key)
        return state, model.decode(state)[0], prediction

    stacked = jax.tree.map(lambda *x: jnp.stack(x), *states)
    stacked, frames, predictions = jax.vmap(one)(stacked, actions, seeds, depths)
    apart = tuple(jax.tree.map(lambda x, i=i: x[i], stacked) for i in range(len(states)))
    return apart, frames, predictions


class Variant:
    """A model with some settings, and its compiled programs by the number of worlds that they step."""

    def __init__(self, model: WorldModel, actions: ActionSpec):
        """Compiles nothing yet."""
        self._leaves, treedef = jax.tree.flatten(model)
        self._actions = actions
        self._observe = jax.jit(functools.partial(_observe, treedef))
        self._decode = jax.jit(functools.partial(_decode, treedef))
        self._step = jax.jit(functools.partial(_step, treedef))
        self.programs: dict[int, Callable] = {}

    def begin(self, start: "Start", seed: int) -> tuple[Any, np.ndarray]:
        """(state, frame) at a start."""
        if start.state is not None:
            return start.state, np.asarray(self._decode(self._leaves, start.state))
        state, frame = self._observe(self._leaves, start.frames, start.actions, np.uint32(seed))
        return state, np.asarray(frame)

    def compile(self, state: Any, size: int) -> None:
        """Makes the program that steps `size` worlds."""
        shape = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype)
        actions = jax.ShapeDtypeStruct((size, *self._actions.shape), self._actions.dtype)
        number = lambda: jax.ShapeDtypeStruct((size,), np.uint32)
        states = tuple(jax.tree.map(shape, state) for _ in range(size))
        self.programs[size] = self._step.lower(self._leaves, states, actions, number(), number()).compile()

    def step(self, size: int, requests: list[_Request]) -> tuple[tuple, np.ndarray, Prediction]:
        """Steps worlds with the program for `size`; missing ones are copies of the first."""
        rows = requests + requests[:1] * (size - len(requests))
        actions = np.stack([row.action for row in rows]).astype(self._actions.dtype)
        seeds, depths = (np.array([getattr(row, name) for row in rows], np.uint32) for name in ("seed", "depth"))
        states = tuple(row.state for row in rows)
        states, frames, prediction = self.programs[size](self._leaves, states, actions, seeds, depths)
        return states, np.asarray(frames), jax.tree.map(np.asarray, prediction)


class Engine:
    """One thread that owns the model. Its results are futures; live steps come before those of imagined futures."""

    def __init__(self, make: Callable[[Hashable], WorldModel], actions: ActionSpec, most: int = 8):
        """`make` returns the model under settings (see `Scene.variant`); at most `most` worlds share a program."""
        self._make, self._actions = make, actions
        self._sizes = [2**i for i in range(most.bit_length()) if 2**i <= most]
        self._variants: dict[Hashable, Variant] = {}
        self._waiting = {True: collections.deque(), False: collections.deque()}
        self._condition, self._stopping = threading.Condition(), False
        self._helper = concurrent.futures.ThreadPoolExecutor(1, "compile")
        self._beginner = concurrent.futures.ThreadPoolExecutor(1, "begin")  # a player need not wait for compilations
        self._building: dict[Any, concurrent.futures.Future] = {}
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def begin(self, settings: Hashable, start: "Start", seed: int) -> concurrent.futures.Future:
        """The `Moment` at a start, with the settings' program for one world compiled."""

        def work() -> Moment:
            variant = self._variants.get(settings) or Variant(self._make(settings), self._actions)
            begun = time.perf_counter()
            state, frame = variant.begin(start, seed)
            taken = 1e3 * (time.perf_counter() - begun)
            self._keep(settings, variant, state)
            return Moment(state, frame, None, None, taken, 1)

        return self._beginner.submit(work)

    def prepare(self, settings: Hashable, state: Any) -> concurrent.futures.Future:
        """Compiles the step under settings; its result is None."""
        make = lambda: self._variants.get(settings) or Variant(self._make(settings), self._actions)
        return self._helper.submit(lambda: self._keep(settings, make(), state))

    def _keep(self, settings: Hashable, variant: "Variant", state: Any) -> None:
        """Compiles a variant's program for one world, and only then lets it be used."""
        if 1 not in variant.programs:
            variant.compile(state, 1)
        self._variants[settings] = variant

    def prepare_batches(self, settings: Hashable, state: Any) -> None:
        """Compiles the programs for all numbers of worlds, now; else that happens when they are first wanted."""
        for size in self._sizes[1:]:
            if size not in self._variants[settings].programs:
                self._variants[settings].compile(state, size)

    def step(
        self, settings: Hashable, state: Any, action: np.ndarray, seed: int, depth: int, *, live: bool = True
    ) -> concurrent.futures.Future:
        """The `Moment` after a step; `begin` or `prepare` must have returned for these settings."""
        request = _Request(settings, state, np.asarray(action), seed, depth, concurrent.futures.Future())
        with self._condition:
            if self._stopping:
                raise RuntimeError("the engine has stopped")
            self._waiting[live].append(request)
            self._condition.notify()
        return request.result

    def stop(self) -> None:
        """Ends the threads; what waits is cancelled."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        self._thread.join()
        for pool in (self._helper, self._beginner):
            pool.shutdown(cancel_futures=True)

    def _run(self) -> None:
        turn = True
        while (requests := self._next(turn)) is not None:
            turn = not turn  # so that neither kind waits for ever
            if requests:
                try:
                    self._answer(requests)
                except Exception as error:
                    for request in requests:
                        if not request.result.done():
                            request.result.set_exception(error)
        for queue in self._waiting.values():
            for request in queue:
                request.result.cancel()

    def _next(self, live: bool) -> list[_Request] | None:
        """Requests with the same settings, live ones if `live` or there are no others; None at the end."""
        with self._condition:
            self._condition.wait_for(lambda: self._stopping or any(self._waiting.values()))
            if self._stopping:
                return None
            queue = self._waiting[live] or self._waiting[not live]
            first = queue[0]
            chosen = [row for row in queue if row.variant == first.variant][: self._sizes[-1]]
            for row in chosen:
                queue.remove(row)
        return [row for row in chosen if row.result.set_running_or_notify_cancel()]

    def _answer(self, requests: list[_Request]) -> None:
        variant = self._variants[requests[0].variant]
        wanted = next(size for size in self._sizes if size >= len(requests))
        if wanted not in variant.programs:
            self._build(requests[0], wanted)
            wanted = max(size for size in variant.programs if size <= len(requests))
        for first in range(0, len(requests), wanted):
            part, start = requests[first : first + wanted], time.perf_counter()
            states, frames, prediction = variant.step(wanted, part)
            taken = 1e3 * (time.perf_counter() - start)
            for i, request in enumerate(part):
                reward, terminal = (None if x is None else float(x[i, 0]) for x in prediction)
                request.result.set_result(Moment(states[i], frames[i], reward, terminal, taken, len(part)))

    def _build(self, request: _Request, size: int) -> None:
        """Begins to compile a program in the background; until it is there, smaller ones are used in turn."""
        name = (request.variant, size)
        if name not in self._building:
            work = self._variants[request.variant].compile
            self._building[name] = self._helper.submit(work, request.state, size)
