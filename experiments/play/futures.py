"""Several imagined futures of one moment, under actions that each is held for a few steps."""

import asyncio
import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from world_models.core.types import ActionSpec

if TYPE_CHECKING:
    from experiments.play.engine import Engine, Moment
    from experiments.play.scene import Settings
    from experiments.play.tree import Node

NUMBER, HOLD = 8, 4  # futures, and steps for which each holds an action
SHOWN = 8  # frames of each that are shown


@dataclasses.dataclass(eq=False)
class Futures:
    """Futures that can be gone on with.

    Attributes:
      begin: the moment that they follow.
      steps: of every future, its (action, moment) one after the other.
    """

    begin: "Node"
    steps: "list[list[tuple[np.ndarray, Moment]]]"

    def strips(self) -> list[tuple[str, np.ndarray]]:
        """Some frames of each beside each other, by the number of the future, the last one included."""
        horizon = len(self.steps[0])
        shown = np.linspace(0, horizon - 1, min(SHOWN, horizon)).round().astype(int)
        frames = [[steps[i][1].frame for i in shown] for steps in self.steps]
        return [(str(i), np.concatenate(row, axis=1)) for i, row in enumerate(frames)]


async def imagine(
    engine: "Engine", settings: "Settings", begin: "Node", actions: ActionSpec, horizon: int, seed: int
) -> Futures:
    """Imagines futures; the steps of players come first."""
    rng = np.random.default_rng([seed, begin.depth])
    futures: list[list[tuple[np.ndarray, Moment]]] = [[] for _ in range(NUMBER)]
    held = [_action(actions, rng, i) for i in range(NUMBER)]
    for step in range(horizon):
        if step and step % HOLD == 0:
            held = [_action(actions, rng) for _ in range(NUMBER)]
        states = [future[-1][1].state if future else begin.state for future in futures]
        depth = begin.depth + 1 + step
        pending = [engine.step(settings, state, a, seed, depth, live=False) for state, a in zip(states, held)]
        for future, action, moment in zip(futures, held, await asyncio.gather(*map(asyncio.wrap_future, pending))):
            future.append((action, moment))
    return Futures(begin, futures)


def _action(actions: ActionSpec, rng: np.random.Generator, index: int | None = None) -> np.ndarray:
    """A random action; the first of the futures differ where there are few discrete ones."""
    if actions.kind == "discrete":
        return np.int32(rng.integers(actions.size) if index is None else index % actions.size)
    return rng.uniform(actions.low, actions.high).astype(np.float32)
