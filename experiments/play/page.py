"""What a player's page is told."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.play import messages

if TYPE_CHECKING:
    from experiments.play.tree import Node, Tree

Send = Callable[[bytes | dict[str, Any]], Awaitable[None]]


class Page:
    """The page at the other end of a socket.

    Attributes:
      tick: number of the last frame that was sent.
      shown: number of the last frame that the page says it has shown.
    """

    def __init__(self, send: Send):
        """`send` takes frame messages as bytes, and others as objects for JSON."""
        self._send = send
        self.tick = self.shown = 0

    @property
    def in_flight(self) -> int:
        """Frames that are on their way."""
        return self.tick - self.shown

    async def frame(self, node: "Node", branch: int, **numbers: float | bool | None) -> None:
        """Sends a moment; `numbers` are what was measured of its step."""
        self.tick += 1
        images = [("model", node.frame)]
        if node.truth is not None:
            images.append(("simulator", node.truth.frame))
        header = {
            "type": "frame",
            "tick": self.tick,
            "node": node.id,
            "branch": branch,
            "depth": node.depth,
            "psnr": node.psnr,
            "reward": node.reward,
            "terminal": node.terminal,
            "truth_reward": node.truth and node.truth.reward,
            "over": bool(node.truth and node.truth.over),
            **{name: round(x, 2) if isinstance(x, float) else x for name, x in numbers.items()},
        }
        await self._send(messages.pack(header, images))

    async def status(self, playing: bool, recording: bool, settings: Mapping[str, Any]) -> None:
        """Sends the settings and whether the world goes on."""
        await self._send({"type": "status", "playing": playing, "recording": recording, "settings": dict(settings)})

    async def tree(self, tree: "Tree") -> None:
        """Sends the branches with a thumbnail of each."""
        fields = lambda b: {"id": b.id, "parent": b.parent, "root": b.root, "depth": b.head.depth}
        branches = [fields(b) | {"playable": b.head.state is not None} for b in tree.branches]
        header = {"type": "tree", "now": tree.branch.id, "branches": branches}
        await self._send(messages.pack(header, [(str(b.id), b.head.frame) for b in tree.branches]))

    async def images(self, kind: str, images: list[tuple[str, np.ndarray]], **fields: Any) -> None:
        """Sends images uint8 [h, w, c] by name."""
        await self._send(messages.pack({"type": kind, **fields}, images))

    async def psnr(self, node: "Node") -> None:
        """Sends how far the model had drifted at an earlier moment."""
        await self._send({"type": "psnr", "depth": node.depth, "psnr": node.psnr})

    async def plan(self, on: bool, reached: bool = False) -> None:
        """Sends whether the planner acts."""
        await self._send({"type": "plan", "on": on, "reached": reached})

    async def say(self, text: str) -> None:
        """Sends a sentence."""
        await self._send({"type": "notice", "text": text})
