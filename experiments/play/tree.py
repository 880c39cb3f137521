"""The moments of one player: a tree of imagined futures, of bounded memory."""

import collections
import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from experiments.play.simulators import Truth


MOST_NODES = 4_000  # moments that are kept; at 15 frames/s the last four minutes
MOST_BRANCHES = 24


@dataclasses.dataclass(eq=False)
class Node:
    """A moment.

    Attributes:
      id: of this player's, from 1, in the order in which they were made.
      parent: the moment before, or None at a start.
      action: that led here; None at a start.
      depth: steps since the start.
      frame: uint8 [h, w, c], of the model.
      state: of the model, or None once it has been dropped.
      truth: the simulator at this moment, where it is known.
      psnr: of the model's frame against the simulator's, in dB.
      reward, terminal: that the model predicts of the step.
      dropped: whether it is too old to be kept.
    """

    id: int
    parent: "Node | None"
    action: np.ndarray | None
    depth: int
    frame: np.ndarray
    state: Any = None
    truth: "Truth | None" = None
    psnr: float | None = None
    reward: float | None = None
    terminal: float | None = None
    dropped: bool = False

    def path(self) -> list["Node"]:
        """From the earliest moment that is kept to this one."""
        found, node = [], self
        while node is not None and not node.dropped:
            found.append(node)
            node = node.parent
        return found[::-1]


@dataclasses.dataclass(eq=False)
class Branch:
    """A future: where it left another one, and how far it has come.

    Attributes:
      id: number of the branch, from 0.
      parent: id of the branch that it left, -1 for none.
      root: depth at which it left.
      head: its latest moment.
    """

    id: int
    parent: int
    root: int
    head: Node


class Tree:
    """Branches of moments and the present one. Old moments are dropped, and states before frames."""

    def __init__(self, frame: np.ndarray, state: Any, most_states: int):
        """A tree of a start alone; at most `most_states` moments keep their states."""
        self._most_states, self._count = most_states, 0
        self._kept, self._with_state = collections.deque[Node](), collections.deque[Node]()
        self._branches = 0
        self.now = self._add(None, None, frame, state)
        self.branches: list[Branch] = []
        self.branch = self._fork(-1)

    def _add(self, parent: Node | None, action: np.ndarray | None, frame: np.ndarray, state: Any) -> Node:
        self._count += 1
        node = Node(self._count, parent, action, parent.depth + 1 if parent else 0, frame, state)
        self._kept.append(node)
        self._with_state.append(node)
        return node

    def _fork(self, parent: int) -> Branch:
        branch = Branch(self._branches, parent, self.now.depth, self.now)
        self._branches += 1
        self.branches.append(branch)
        if len(self.branches) > MOST_BRANCHES:
            oldest = next(other for other in self.branches if other.id not in (parent, branch.id))
            self.branches.remove(oldest)
        self.branch = branch
        return branch

    def grow(self, action: np.ndarray, frame: np.ndarray, state: Any) -> Node:
        """Adds the moment after the present one and goes there; from the middle of a branch begins another one."""
        if self.branch.head is not self.now:
            self._fork(self.branch.id)
        self.now = self.branch.head = self._add(self.now, action, frame, state)
        self._forget()
        return self.now

    def restart(self, frame: np.ndarray, state: Any) -> Node:
        """Goes to another start; the branches of before are kept."""
        self.now = self._add(None, None, frame, state)
        self._fork(-1)
        self._forget()
        return self.now

    def replace(self, frame: np.ndarray, state: Any) -> Node:
        """Another version of the present moment, as a branch."""
        old = self.now
        self.now = self._add(old.parent, old.action, frame, state)
        self.now.depth, self.now.truth = old.depth, old.truth
        self._fork(self.branch.id)
        self._forget()
        return self.now

    def fork(self) -> Branch:
        """Begins a branch at the present moment."""
        return self._fork(self.branch.id)

    def back(self, count: int) -> Node:
        """Goes back so many moments, or as far as states are kept."""
        for _ in range(count):
            if self.now.parent is None or self.now.parent.state is None:
                break
            self.now = self.now.parent
        return self.now

    def go(self, branch: int) -> Node:
        """Goes to the head of a branch. Raises ValueError if there is none or it can no longer be played."""
        found = next((other for other in self.branches if other.id == branch), None)
        if found is None or found.head.state is None:
            raise ValueError(f"there is no branch {branch}")
        self.branch, self.now = found, found.head
        return self.now

    def _forget(self) -> None:
        """Drops the states and then the frames of the oldest moments, but for heads of branches."""
        heads = {id(branch.head) for branch in self.branches} | {id(self.now)}
        for queue, most in ((self._with_state, self._most_states), (self._kept, MOST_NODES)):
            for _ in range(len(queue) - most):
                node = queue.popleft()
                if id(node) in heads:
                    queue.append(node)
                    continue
                node.state, node.truth = None, node.truth and node.truth._replace(state=None)
                if queue is self._kept:
                    node.dropped, node.parent, node.truth = True, None, None
                    node.frame = node.frame[:0]
