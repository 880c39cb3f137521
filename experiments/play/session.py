"""One player: a world that goes on under the keys that are held, its branches, and the true simulator beside it."""

import asyncio
import collections
import concurrent.futures
import secrets
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import jax
import numpy as np

from experiments.play import controls, messages
from experiments.play.engine import Engine, Moment
from experiments.play.scene import Scene, Settings, Start, rest
from experiments.play.tree import Node, Tree
from experiments.play.uploads import BadUpload, decode
from world_models.core.errors import UserError

STATE_BYTES = 256 << 20  # memory for the states of one player's moments
MOST_STATES = 300
IN_FLIGHT = 2  # frames on their way to the page: the next one is computed while the last one travels
FUTURES, HOLD = 8, 4  # imagined futures, and steps for which each holds an action
FPS = (1.0, 240.0)


class Session:
    """The world of one player. All methods run on the server's event loop."""

    def __init__(
        self,
        scene: Scene,
        engine: Engine,
        send: Callable[[bytes | dict[str, Any]], Awaitable[None]],
        fps: float = 15.0,
    ):
        """`send` takes frame messages as bytes, and others as objects for JSON."""
        self.scene, self._engine, self._send = scene, engine, send
        self.settings: dict[str, Any] = {**dict(scene.defaults), "fps": fps, "seed": 0, "horizon": 16}
        self.settings["simulator"] = scene.simulator is not None
        self._held: collections.deque[tuple[int, np.ndarray]] = collections.deque([(0, rest(scene.actions))], maxlen=2)
        self._seq = 0
        self._tick, self._acknowledged, self._late = 0, 0, 0
        self._playing, self._steps = False, 0
        self._changed = asyncio.Event()
        self._truths: Truths | None = None
        self._futures: list[list[tuple[np.ndarray, Moment]]] = []
        self._jobs: set[asyncio.Task] = set()
        self.tree: Tree | None = None
        self.start: Start | None = None
        self.recording: Node | None = None
        self._uploads: dict[str, Start] = {}
        self._uploading = False

    # -- what the page asks for

    async def handle(self, message: dict[str, Any]) -> None:
        """Does what a message of `messages.FIELDS` asks for. Raises BadMessage if it cannot mean anything."""
        fields = {name: value for name, value in message.items() if name != "type"}
        await getattr(self, f"on_{message['type']}")(**fields)
        self._changed.set()

    async def on_start(self, index: int) -> None:
        """Begins at one of the scene's starts."""
        if index >= len(self.scene.starts):
            raise messages.BadMessage(f"index of start must be below {len(self.scene.starts)}")
        await self.begin(self.scene.starts[index])

    async def on_upload(self, name: str) -> None:
        """Begins at an upload of this player."""
        if name not in self._uploads:
            raise messages.BadMessage("upload names nothing that was uploaded here")
        await self.begin(self._uploads[name])

    async def on_input(self, seq: int, action: Any) -> None:
        """Holds an action from now on."""
        try:
            value = controls.check(self.scene.actions, action)
        except ValueError as error:
            raise messages.BadMessage(str(error)) from error
        self._held.append((seq, value))  # two wait at most, so that a short tap counts and a flood does not queue up

    async def on_ack(self, tick: int) -> None:
        """The page has shown a frame."""
        self._acknowledged = max(self._acknowledged, min(tick, self._tick))

    async def on_play(self, on: bool) -> None:
        """Goes on, or pauses."""
        self._playing = on
        await self.tell()

    async def on_step(self) -> None:
        """One step, then pauses."""
        self._playing, self._steps = False, min(self._steps + 1, 16)

    async def on_back(self, count: int) -> None:
        """Goes back and pauses."""
        self._playing, self._steps = False, 0
        if self.tree:
            self.tree.back(count)
            await self.show()

    async def on_branch(self) -> None:
        """Begins a branch here, so that the present one can be returned to."""
        if self.tree:
            self.tree.fork()
            await self.tell_tree()

    async def on_goto(self, branch: int) -> None:
        """Goes to the head of a branch and pauses."""
        self._playing, self._steps = False, 0
        if self.tree:
            try:
                self.tree.go(branch)
            except ValueError as error:
                await self.say(str(error))
            await self.show()

    async def on_set(self, name: str, value: Any) -> None:
        """Changes a setting while the world goes on."""
        if name not in self.settings:
            raise messages.BadMessage("set names no setting")
        valid = self.scene.settings.get(name)
        if valid is not None and value in valid:
            settings = self.model_settings({name: value})
            if self.tree:
                self.job(self._switch(settings, name, value))
                return
        elif valid is not None or not _fits(name, value):
            raise messages.BadMessage(f"value of {name} is out of range")
        if name == "simulator" and self.scene.simulator is None:
            raise messages.BadMessage("there is no simulator")
        self.settings[name] = value
        if name == "simulator":
            self._follow(self.start)
        await self.tell()

    async def _switch(self, settings: Settings, name: str, value: Any) -> None:
        """Uses other settings of the model once their program is compiled."""
        await self.say(f"Compiling {name} = {value} …", busy=True)
        await asyncio.wrap_future(self._engine.prepare(settings, self.tree.now.state))
        self.settings[name] = value
        await self.say("")
        await self.tell()

    async def on_futures(self) -> None:
        """Imagines several futures from here under actions that each holds for a few steps."""
        if self.tree and not any(job.get_name() == "futures" for job in self._jobs):
            self.job(self._imagine(self.tree.now), "futures")

    async def on_take(self, index: int) -> None:
        """Goes on at the end of one of the last futures, as a branch."""
        if self.tree is None or index >= len(self._futures):
            raise messages.BadMessage("take names no future")
        self._playing, self._steps = False, 0
        begin, future = self._futures_from, self._futures[index]
        if begin.state is None:
            await self.say("These futures are too old: imagine new ones.")
            return
        self.tree.now = begin
        self.tree.fork()
        for action, moment in future:
            self.tree.grow(action, moment.frame, moment.state)
        await self.show()

    async def on_resync(self) -> None:
        """Replaces what the model has seen by what the simulator shows."""
        if self.tree is None:
            return
        path, count = self.tree.now.path(), len(self.scene.starts[0].frames)
        recent = path[-count:]
        if len(recent) < count or any(node.truth is None or node.action is None for node in recent[1:]):
            await self.say(f"The simulator has not shown {count} frames yet.")
            return
        if recent[0].truth is None:
            await self.say("The simulator is not at this moment.")
            return
        frames = np.stack([node.truth.frame for node in recent])
        actions = np.stack([node.action for node in recent[1:]]) if count > 1 else self.start.actions[:0]
        moment = await self._begin(frames, actions)
        truth, now = self.tree.now.truth, self.tree.now
        self.tree.replace(moment.frame, moment.state)
        self.tree.now.truth, self.tree.now.psnr = truth, None
        if self._truths:
            self._truths.node = self.tree.now if self._truths.node is now else self._truths.node
        await self.show()

    async def on_record(self, on: bool) -> None:
        """Remembers where a recording begins; without, a download has all moments that are kept."""
        self.recording = self.tree.now if on and self.tree else None
        await self.tell()

    async def on_plan(self, on: bool) -> None:
        """Lets the planner act towards the goal, or stops it."""
        raise messages.BadMessage("this model has no planner")

    async def on_goal(self, x: float, y: float) -> None:
        """Sets the goal to a place in the world, as shares of the frame's width and height."""
        raise messages.BadMessage("this model has no planner")

    async def on_goal_start(self, index: int) -> None:
        """Sets the goal to the last frame of a start."""
        raise messages.BadMessage("this model has no planner")

    async def upload(self, data: bytes) -> str:
        """Keeps a file's frames as a start; returns its name. Raises BadUpload."""
        if self._uploading:
            raise BadUpload("Another upload is still being decoded.")
        self._uploading = True
        try:
            height, width, channels = self.scene.frame_shape
            frames = await decode(data, (height, width), len(self.scene.starts[0].frames))
        finally:
            self._uploading = False
        if channels == 1:
            frames = np.round(frames.mean(axis=-1, keepdims=True)).astype(np.uint8)
        self._uploads = {secrets.token_urlsafe(8): self.scene.own_start(frames)}
        return next(iter(self._uploads))

    # -- the world

    def model_settings(self, changed: dict[str, Any] | None = None) -> Settings:
        """The settings that the model is compiled for."""
        now = self.settings | (changed or {})
        return tuple((name, now[name]) for name in self.scene.settings)

    async def _begin(self, frames: np.ndarray, actions: np.ndarray) -> Moment:
        found = self._engine.begin(self.model_settings(), frames, actions, self.settings["seed"])
        return await asyncio.wrap_future(found)

    async def begin(self, start: Start) -> None:
        """Goes to a start, where the world waits for the first step."""
        moment = await self._begin(start.frames, start.actions)
        size = sum(x.nbytes for x in jax.tree.leaves(moment.state))
        if self.tree is None:
            self.tree = Tree(moment.frame, moment.state, max(8, min(MOST_STATES, STATE_BYTES // max(size, 1))))
        else:
            self.tree.restart(moment.frame, moment.state)
        self.start, self.recording = start, None
        self._follow(start)
        await self.show()

    def _follow(self, start: Start | None) -> None:
        """Makes the simulator follow from a start, or ends it."""
        if self._truths:
            self._truths.close()
        self._truths = None
        if self.settings["simulator"] and start is not None:
            self._truths = Truths(self, start)

    async def run(self) -> None:
        """Steps the world while it is played, at most `fps` times a second; ends when it is cancelled."""
        due = time.perf_counter()
        while True:
            if not (self._playing or self._steps) or self.tree is None:
                self._changed.clear()
                await self._changed.wait()
                due = time.perf_counter()
                continue
            while self._tick - self._acknowledged >= IN_FLIGHT or (self._truths and self._truths.is_behind()):
                self._changed.clear()
                await self._changed.wait()
            if not (self._playing or self._steps):
                continue
            self._steps = max(0, self._steps - 1)
            await self._advance()
            due += 1 / self.settings["fps"]
            now = time.perf_counter()
            if due < now:  # late: that tick is left out, not made up for
                self._late += due < now - 0.5 / self.settings["fps"]
                due = now
            await asyncio.sleep(max(0.0, due - now))

    def held(self) -> tuple[int, np.ndarray]:
        """(number of the input, action) of the next step."""
        return self._held.popleft() if len(self._held) > 1 else self._held[0]

    async def _advance(self) -> None:
        """Takes one step of the world and shows it."""
        now, (self._seq, action) = self.tree.now, self.held()
        begun = time.perf_counter()
        step = self._engine.step(self.model_settings(), now.state, action, self.settings["seed"], now.depth + 1)
        moment = await asyncio.wrap_future(step)
        if self.tree.now is not now:  # the player went elsewhere meanwhile
            return
        before = self.tree.branch
        node = self.tree.grow(action, moment.frame, moment.state)
        node.reward, node.terminal = moment.reward, moment.terminal
        if self._truths:
            self._truths.wake()
            await self._truths.reach(node)
        waited = 1e3 * (time.perf_counter() - begun)
        await self.show(model_ms=moment.milliseconds, batch=moment.batch, step_ms=waited)
        if self.tree.branch is not before:
            await self.tell_tree()

    async def _imagine(self, begin: Node) -> None:
        """Computes futures and shows them; the world goes on meanwhile."""
        rng = np.random.default_rng([self.settings["seed"], begin.depth])
        horizon, futures = int(self.settings["horizon"]), [[] for _ in range(FUTURES)]
        settings = self.model_settings()
        actions = [_random_action(self.scene.actions, rng, i) for i in range(FUTURES)]
        for depth in range(horizon):
            if depth and depth % HOLD == 0:
                actions = [_random_action(self.scene.actions, rng) for _ in range(FUTURES)]
            states = [future[-1][1].state if future else begin.state for future in futures]
            seed, at = self.settings["seed"], begin.depth + 1 + depth
            steps = [self._engine.step(settings, s, a, seed, at, live=False) for s, a in zip(states, actions)]
            found = await asyncio.gather(*map(asyncio.wrap_future, steps))
            for future, action, moment in zip(futures, actions, found):
                future.append((action, moment))
        self._futures, self._futures_from = futures, begin
        images = [
            (f"{i}", np.concatenate([moment.frame for _, moment in future[:: max(1, horizon // 8)][-8:]], axis=1))
            for i, future in enumerate(futures)
        ]
        header = {
            "type": "futures",
            "from": begin.depth,
            "horizon": horizon,
            "frames": len(futures[0][:: max(1, horizon // 8)][-8:]),
        }
        await self._send(messages.pack(header, images))

    # -- what the page is told

    async def show(self, **numbers: float) -> None:
        """Sends the present moment."""
        self._tick += 1
        node = self.tree.now
        images = [("model", node.frame)]
        if node.truth is not None:
            images.append(("simulator", node.truth.frame))
        header = {
            "type": "frame",
            "tick": self._tick,
            "seq": self._seq,
            "node": node.id,
            "branch": self.tree.branch.id,
            "depth": node.depth,
            "psnr": node.psnr,
            "reward": node.reward,
            "terminal": node.terminal,
            "late": self._late,
            "truth_reward": node.truth and node.truth.reward,
            "over": bool(node.truth and node.truth.over),
            **{name: round(value, 2) for name, value in numbers.items()},
        }
        await self._send(messages.pack(header, images))
        if not numbers:
            await self.tell_tree()
            await self.tell()

    async def tell(self) -> None:
        """Sends the settings and whether the world goes on."""
        await self._send(
            {
                "type": "status",
                "playing": self._playing,
                "settings": self.settings,
                "recording": self.recording is not None,
            }
        )

    async def tell_tree(self) -> None:
        """Sends the branches with a thumbnail of each."""
        branches = [
            {
                "id": b.id,
                "parent": b.parent,
                "root": b.root,
                "depth": b.head.depth,
                "playable": b.head.state is not None,
            }
            for b in self.tree.branches
        ]
        header = {"type": "tree", "now": self.tree.branch.id, "branches": branches}
        await self._send(messages.pack(header, [(str(b.id), b.head.frame) for b in self.tree.branches]))

    async def say(self, text: str, busy: bool = False) -> None:
        """Sends a sentence to the page."""
        await self._send({"type": "notice", "text": text, "busy": busy})

    def job(self, work: Any, name: str | None = None) -> None:
        """Runs something beside the world; it ends with the session, and its failure is told."""

        async def run() -> None:
            try:
                await work
            except UserError as error:
                await self.say(str(error))

        task = asyncio.create_task(run(), name=name)
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    def wake(self) -> None:
        """Lets `run` look again."""
        self._changed.set()

    def close(self) -> None:
        """Frees the world."""
        for job in self._jobs:
            job.cancel()
        if self._truths:
            self._truths.close()
        self.tree, self._futures, self._truths = None, [], None


def _fits(name: str, value: Any) -> bool:
    """Whether a setting of the session can have a value."""
    if name == "simulator":
        return isinstance(value, bool)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    if name == "fps":
        return FPS[0] <= value <= FPS[1]
    return isinstance(value, int) and {"seed": 0 <= value < 2**31, "horizon": 1 <= value <= 64}.get(name, False)


def _random_action(actions: Any, rng: np.random.Generator, index: int | None = None) -> np.ndarray:
    """A random action; the first of futures differ where there are few discrete ones."""
    if actions.kind == "discrete":
        return np.int32(rng.integers(actions.size) if index is None else index % actions.size)
    return rng.uniform(actions.low, actions.high).astype(np.float32)


class Truths:
    """The simulator, following the player's moments one after the other on a thread of its own."""

    def __init__(self, session: Session, start: Start):
        """Begins at the present moment of the session, which is at `start`."""
        self._session, self._start = session, start
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "simulator")
        self._simulator: Any = None
        self._closed, self.failed = False, False
        self.node: Node | None = None
        self._arrived, self._wanted = asyncio.Event(), asyncio.Event()
        session.job(self._run(), "simulator")

    def is_behind(self) -> bool:
        """Whether the model should wait: the simulator has begun and is not at the present moment."""
        return self.node is not None and not self.failed and self._session.tree.now.truth is None

    def wake(self) -> None:
        """Tells that there is a new moment."""
        self._wanted.set()

    async def reach(self, node: Node) -> None:
        """Waits until the simulator is at a moment that follows the one it is at."""
        while self.node is not None and not self.failed and not self._closed and node.truth is None:
            if node.parent is not self.node:
                return
            self._arrived.clear()
            await self._arrived.wait()

    async def _call(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _run(self) -> None:
        session = self._session
        try:
            first = next(node for node in session.tree.now.path() if node.action is None)
            self._simulator = await self._call(session.scene.simulator)
            if self._closed:
                self._simulator.close()
                return
            first.truth = first.truth or await self._call(lambda: self._simulator.begin(self._start))
            self._mark(first)
            await session.show()
            while not self._closed:
                pending = self._next()
                if pending is None:
                    self._wanted.clear()
                    await self._wanted.wait()
                    continue
                state, action = pending.parent.truth.state, pending.action
                pending.truth = await self._call(lambda s=state, a=action: self._simulator.step(s, a))
                self._mark(pending)
        except (UserError, StopIteration) as error:
            self.failed = True
            session.settings["simulator"] = False
            await session.say(f"No simulator: {error or 'its start is no longer kept'}.")
            await session.tell()
        finally:
            self.failed = True
            self._arrived.set()
            session.wake()

    def _mark(self, node: Node) -> None:
        node.psnr = psnr(node.frame, node.truth.frame)
        self.node = node
        self._arrived.set()
        self._session.wake()

    def _next(self) -> Node | None:
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
        self._arrived.set()
        if self._simulator is not None:
            threading.Thread(target=self._simulator.close, daemon=True).start()  # its own thread may be waiting for it
        self._thread.shutdown(wait=False, cancel_futures=True)


def psnr(frame: np.ndarray, other: np.ndarray) -> float | None:
    """Peak signal-to-noise ratio of two frames uint8 in dB; 99 where they are equal, None for other shapes."""
    if frame.shape != other.shape:
        return None
    error = float(np.mean(np.square(frame.astype(np.float32) - other)))
    return 99.0 if error == 0 else round(10 * np.log10(255**2 / error), 2)
