"""The simulator beside the model: it follows the moments of a player one after the other."""

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from world_models.core.errors import UserError

if TYPE_CHECKING:
    from experiments.play.scene import Start
    from experiments.play.session import Session
    from experiments.play.tree import Node

EQUAL = 99.0  # PSNR that is told of frames that are equal


class Truths:
    """The simulator of a session, on a thread of its own."""

    def __init__(self, session: "Session", start: "Start"):
        """Begins at `start`, where the earliest moment on the session's present path is."""
        self._session, self._start = session, start
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "simulator")
        self._simulator: Any = None
        self._closed = self._failed = False
        self._node: Node | None = None
        self._awaited: Node | None = None
        self._arrived, self._wanted = asyncio.Event(), asyncio.Event()

    @property
    def follows(self) -> bool:
        """Whether it has not failed."""
        return not self._failed

    def is_behind(self) -> bool:
        """Whether the model should wait: the simulator has begun and is not at the present moment."""
        return self._node is not None and not self._failed and self._session.tree.now.truth is None

    async def reach(self, node: "Node") -> None:
        """Waits until the simulator is at a moment, if it has been at the one before."""
        self._wanted.set()
        if node.parent is None or node.parent.truth is None:
            return
        self._awaited = node
        while not self._failed and node.truth is None and node is self._session.tree.now:
            self._arrived.clear()
            await self._arrived.wait()

    def wake(self) -> None:
        """Tells that the player is at another moment."""
        self._wanted.set()
        self._arrived.set()

    async def _call(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    async def run(self) -> None:
        """Follows until the session ends. If it cannot, the player is told why and plays without."""
        session = self._session
        try:
            await self._begin()
            while not self._closed:
                node = self._next()
                if node is None:
                    self._wanted.clear()
                    await self._wanted.wait()
                    continue
                node.truth = await self._call(self._simulator.step, node.parent.truth.state, node.action)
                self._mark(node)
                if node is not self._awaited:  # it is catching up
                    await (session.show() if node is session.tree.now else session.page.psnr(node))
        except UserError as error:
            self._failed = True
            await session.page.say(f"No simulator: {error}.")
            await session.show()
        finally:
            self._failed = True
            self._arrived.set()
            session.wake()

    async def _begin(self) -> None:
        session = self._session
        first = session.tree.now.path()[0]
        if first.action is not None:
            raise UserError("the start is no longer kept: restart to see it again")
        self._simulator = await self._call(session.scene.simulator)
        if self._closed:
            self._simulator.close()
            return
        first.truth = first.truth or await self._call(self._simulator.begin, self._start)
        self._mark(first)
        await (session.show() if first is session.tree.now else session.page.psnr(first))

    def _mark(self, node: "Node") -> None:
        node.psnr = psnr(node.frame, node.truth.frame)
        self._node = node
        self._arrived.set()
        self._session.wake()

    def _next(self) -> "Node | None":
        """The earliest moment on the present path that the simulator has not been at."""
        node, found = self._session.tree.now, None
        while node is not None and not node.dropped and node.truth is None:
            node, found = node.parent, node
        if found is None or found.parent is None or found.parent.truth is None or found.parent.truth.state is None:
            return None
        return found

    def close(self) -> None:
        """Ends the simulator."""
        self._closed = True
        self._wanted.set()
        if self._simulator is not None:
            threading.Thread(target=self._simulator.close, daemon=True).start()  # its own thread may be waiting for it
        self._thread.shutdown(wait=False, cancel_futures=True)


def psnr(frame: np.ndarray, other: np.ndarray) -> float | None:
    """Peak signal-to-noise ratio of two frames uint8 in dB; `EQUAL` where they are, None for other shapes."""
    if frame.shape != other.shape:
        return None
    error = float(np.mean(np.square(frame.astype(np.float32) - other)))
    return EQUAL if error == 0 else round(10 * np.log10(255**2 / error), 2)
