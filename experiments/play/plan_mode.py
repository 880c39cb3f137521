"""Plan mode: a planner acts towards a goal, and the page shows what each of its levels aims at."""

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np

from world_models.core.errors import UserError

if TYPE_CHECKING:
    from experiments.play.page import Page
    from experiments.play.planning import PagePlanner
    from experiments.play.tree import Node


class PlanMode:
    """Whether the planner acts for a player, and towards what.

    Attributes:
      on: whether it acts.
    """

    def __init__(self, planner: "PagePlanner"):
        """Off, without a goal."""
        self._planner, self.on = planner, False
        self._goal: np.ndarray | None = None

    async def switch(self, on: bool, page: "Page") -> None:
        """Lets the planner act, if there is a goal, or stops it."""
        if on and self._goal is None:
            await page.say("Choose a goal first: click a place in a frame, or choose an image.")
        if on and self._goal is not None and not self.on:
            await page.say("Planning …")
            await asyncio.to_thread(self._planner.start, self._goal)
            await page.say("")
        self.on = on and self._goal is not None
        await page.plan(self.on)

    async def aim_at(self, frame: np.ndarray, page: "Page") -> None:
        """Sets the goal."""
        self._goal = frame
        await page.images("subgoals", [("goal", frame)])
        if self.on:
            await asyncio.to_thread(self._planner.start, frame)

    async def aim_at_place(self, place: tuple[float, float], state: Any, page: "Page") -> None:
        """Sets the goal to a place in the world, whose simulator is in a state."""
        if self._planner.world is None or state is None:
            await page.say("Only where the simulator of a world is running can a place be the goal: choose an image.")
            return
        try:
            frame = await asyncio.to_thread(self._planner.goal_at, place, state[0])
        except UserError as error:
            await page.say(str(error))
            return
        await page.say("")
        await self.aim_at(frame, page)

    async def act(self, now: "Node", page: "Page") -> np.ndarray:
        """The planner's action at a moment: it sees the simulator's frame if there is one, else the model's."""
        frame = now.truth.frame if now.truth is not None else now.frame
        action, images = await asyncio.to_thread(self._planner.act, frame)
        await page.images("subgoals", [("goal", self._goal), *images])
        return action
