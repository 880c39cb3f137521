"""One player: a world that goes on under the keys that are held, its branches, and the true simulator beside it."""

import asyncio
import logging
import secrets
import time
from collections.abc import Coroutine
from typing import Any

import jax
import numpy as np

from experiments.play import controls, futures
from experiments.play.engine import Engine, Moment
from experiments.play.messages import BadMessage
from experiments.play.page import Page, Send
from experiments.play.plan_mode import PlanMode
from experiments.play.scene import Scene, Settings, Start
from experiments.play.tree import Node, Tree
from experiments.play.truths import Truths, psnr
from experiments.play.uploads import BadUpload, decode
from world_models.core.errors import UserError

STATE_BYTES = 256 << 20  # memory for the states of one player's moments
MOST_STATES = 300
IN_FLIGHT = 2  # frames on their way to the page: the next one is computed while the last one travels
FPS = (1.0, 240.0)
MOST_STEPS = 16  # single steps that wait


class Session:
    """The world of one player. All methods run on the server's event loop.

    Attributes:
      scene: what is played.
      settings: of the model (`Scene.settings`), and "fps", "seed", "horizon" (of futures) and "simulator".
      page: what shows it.
      tree: all moments, or None before the first and after the end.
      recording: where a recording begins, or None.
    """

    def __init__(self, scene: Scene, engine: Engine, send: Send, fps: float = 15.0):
        """Nothing happens before `begin`."""
        self.scene, self.page, self._engine = scene, Page(send), engine
        self.settings: dict[str, Any] = {**dict(scene.defaults), "fps": fps, "seed": 0, "horizon": 16}
        self.settings["simulator"] = scene.simulator is not None
        self.tree: Tree | None = None
        self.recording: Node | None = None
        self._start: Start | None = None
        self._held = controls.Held(controls.rest(scene.actions))
        self._seq, self._late = 0, 0
        self._playing, self._steps = False, 0
        self._changed = asyncio.Event()
        self._truths: Truths | None = None
        self._plan = PlanMode(scene.planner()) if scene.planner else None
        self._futures: futures.Futures | None = None
        self._jobs: set[asyncio.Task] = set()
        self._uploads: dict[str, Start] = {}
        self._uploading = False

    # -- what the page asks for

    async def handle(self, message: dict[str, Any]) -> None:
        """Does what a message of `messages.FIELDS` asks for. Raises BadMessage if it cannot mean anything."""
        fields = {name: value for name, value in message.items() if name != "type"}
        await getattr(self, f"on_{message['type']}")(**fields)
        self.wake()

    async def on_start(self, index: int) -> None:
        """Begins at one of the scene's starts."""
        await self.begin(self._start_of(index))

    def _start_of(self, index: int) -> Start:
        if index >= len(self.scene.starts):
            raise BadMessage(f"index of a start must be below {len(self.scene.starts)}")
        return self.scene.starts[index]

    async def on_upload(self, name: str) -> None:
        """Begins at the last upload of this player."""
        if name not in self._uploads:
            raise BadMessage("upload names nothing that was uploaded here")
        await self.begin(self._uploads[name])

    async def on_input(self, seq: int, action: Any) -> None:
        """Holds an action from now on."""
        try:
            value = controls.check(self.scene.actions, action)
        except ValueError as error:
            raise BadMessage(str(error)) from error
        self._held.put(seq, value)

    async def on_ack(self, tick: int) -> None:
        """The page has shown a frame."""
        self.page.shown = max(self.page.shown, min(tick, self.page.tick))

    async def on_play(self, on: bool) -> None:
        """Goes on, or pauses."""
        self._playing = on
        await self.tell()
        await self.page.tree(self.tree)

    async def on_step(self) -> None:
        """One step, then pauses."""
        self._playing, self._steps = False, min(self._steps + 1, MOST_STEPS)
        await self.tell()

    async def on_back(self, count: int) -> None:
        """Goes back and pauses."""
        self._pause()
        self.tree.back(count)
        await self.show()

    async def on_branch(self) -> None:
        """Begins a branch here, so that the present one can be returned to."""
        self.tree.fork()
        await self.page.tree(self.tree)

    async def on_goto(self, branch: int) -> None:
        """Goes to the head of a branch and pauses."""
        self._pause()
        try:
            self.tree.go(branch)
        except ValueError as error:
            await self.page.say(f"{error}.")
        await self.show()

    async def on_set(self, name: str, value: Any) -> None:
        """Changes a setting while the world goes on."""
        if name not in self.settings or not self._fits(name, value):
            raise BadMessage("set must name a setting and a value that it can have")
        if name in self.scene.settings:
            if any(job.get_name() == "switch" for job in self._jobs):
                await self.page.say("The last setting is still being compiled.")
                await self.tell()
            else:
                self._job(self._switch(name, value), "switch")
            return
        self.settings[name] = value
        if name == "simulator":
            self._follow()
        await self.tell()

    def _fits(self, name: str, value: Any) -> bool:
        if name in self.scene.settings:
            return any(value == other and type(value) is type(other) for other in self.scene.settings[name])
        if name == "simulator":
            return isinstance(value, bool) and self.scene.simulator is not None
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        if name == "fps":
            return FPS[0] <= value <= FPS[1]
        return isinstance(value, int) and {"seed": 0 <= value < 2**31, "horizon": 1 <= value <= 64}[name]

    async def _switch(self, name: str, value: Any) -> None:
        """Uses another setting of the model once its program is compiled."""
        await self.page.say(f"Compiling {name} = {value} …")
        settings = self._model_settings({name: value})
        await asyncio.wrap_future(self._engine.prepare(settings, self.tree.now.state))
        self.settings[name] = value
        await self.page.say("")
        await self.tell()

    async def on_futures(self) -> None:
        """Imagines several futures from here; the world goes on meanwhile."""
        if not any(job.get_name() == "futures" for job in self._jobs):
            self._job(self._imagine(self.tree.now), "futures")

    async def _imagine(self, begin: Node) -> None:
        horizon, seed = int(self.settings["horizon"]), self.settings["seed"]
        settings, actions = self._model_settings(), self.scene.actions
        self._futures = await futures.imagine(self._engine, settings, begin, actions, horizon, seed)
        await self.page.images("futures", self._futures.strips(), **{"from": begin.depth, "horizon": horizon})

    async def on_take(self, index: int) -> None:
        """Goes on at the end of one of the last futures, as a branch."""
        if self._futures is None:
            raise BadMessage("take names no future")
        self._pause()
        if self._futures.begin.state is None:
            await self.page.say("These futures are too old: imagine new ones.")
            return
        self.tree.now = self._futures.begin
        self.tree.fork()
        for action, moment in self._futures.steps[index]:
            self._grow(action, moment)
        await self.show()

    async def on_resync(self) -> None:
        """Replaces what the model has seen by what the simulator shows."""
        count, now = len(self.scene.starts[0].frames), self.tree.now
        recent = now.path()[-count:]
        if len(recent) < count or any(node.truth is None for node in recent):
            await self.page.say(f"The simulator has not shown the last {count} frames of this branch.")
            return
        frames = np.stack([node.truth.frame for node in recent])
        actions = np.stack([node.action for node in recent[1:]]) if count > 1 else self._start.actions
        moment = await self._observe(Start(frames, actions, "resync"))
        if self.tree.now is now:
            node = self.tree.replace(moment.frame, moment.state)
            node.psnr = psnr(node.frame, node.truth.frame)
            await self.show()

    async def on_record(self, on: bool) -> None:
        """Remembers where a recording begins; without, a download has all moments that are kept."""
        self.recording = self.tree.now if on else None
        await self.tell()

    async def on_plan(self, on: bool) -> None:
        """Lets the planner act towards the goal, or stops it."""
        await self._planner().switch(on, self.page)
        self._playing = self._playing or self._planner().on
        await self.tell()

    async def on_goal(self, x: float, y: float) -> None:
        """Sets the goal to a place in the world, as shares of the frame's width and height."""
        truth = self.tree.now.truth
        await self._planner().aim_at_place((x, y), truth and truth.state, self.page)

    async def on_goal_start(self, index: int) -> None:
        """Sets the goal to the last frame of a start."""
        await self._planner().aim_at(self._start_of(index).frames[-1], self.page)

    def _planner(self) -> PlanMode:
        if self._plan is None:
            raise BadMessage("this model has no planner")
        return self._plan

    async def upload(self, data: bytes) -> str:
        """Keeps a file's frames as a start; returns its name. Raises BadUpload."""
        if self._uploading:
            raise BadUpload("Another upload is still being decoded.")
        self._uploading = True
        try:
            height, width, channels = self.scene.frame_shape
            count = len(self.scene.starts[0].frames)
            frames = await asyncio.to_thread(decode, data, (height, width), count)
        finally:
            self._uploading = False
        if channels == 1:
            frames = np.round(frames.mean(axis=-1, keepdims=True)).astype(np.uint8)
        self._uploads = {secrets.token_urlsafe(8): self.scene.own_start(frames)}
        return next(iter(self._uploads))

    # -- the world

    def _model_settings(self, changed: dict[str, Any] | None = None) -> Settings:
        """The settings that the model is compiled for."""
        now = self.settings | (changed or {})
        return tuple((name, now[name]) for name in self.scene.settings)

    async def _observe(self, start: Start) -> Moment:
        found = self._engine.begin(self._model_settings(), start, self.settings["seed"])
        return await asyncio.wrap_future(found)

    async def begin(self, start: Start) -> None:
        """Goes to a start, where the world waits for the first step."""
        moment = await self._observe(start)
        if self.tree is None:
            size = sum(x.nbytes for x in jax.tree.leaves(moment.state))
            self.tree = Tree(moment.frame, moment.state, max(8, min(MOST_STATES, STATE_BYTES // max(size, 1))))
        else:
            self.tree.restart(moment.frame, moment.state)
        self._start, self.recording = start, None
        if self._plan:
            await self._plan.switch(False, self.page)
        self._follow()
        await self.show()

    def _follow(self) -> None:
        """Makes the simulator follow from the start, or ends it."""
        if self._truths:
            self._truths.close()
        self._truths = None
        if self.settings["simulator"]:
            self._truths = Truths(self, self._start)
            self._job(self._truths.run(), "simulator")

    async def run(self) -> None:
        """Steps the world while it is played, at most `fps` times a second; ends when it is cancelled."""
        due = time.perf_counter()
        while True:
            if not (self._playing or self._steps):
                due = await self._wait()
            elif self.page.in_flight >= IN_FLIGHT or (self._truths and self._truths.is_behind()):
                await self._wait()
            else:
                self._steps = max(0, self._steps - 1)
                await self._advance()
                due += 1 / self.settings["fps"]
                now = time.perf_counter()
                if due < now:  # late: these ticks are left out, not made up for
                    self._late += int((now - due) * self.settings["fps"])
                    due = now
                await asyncio.sleep(due - now)

    async def _wait(self) -> float:
        """Waits until something has changed; returns the time."""
        self._changed.clear()
        await self._changed.wait()
        return time.perf_counter()

    def wake(self) -> None:
        """Lets `run` look again."""
        self._changed.set()

    async def _advance(self) -> None:
        """Takes one step of the world and shows it."""
        now = self.tree.now
        if self._plan and self._plan.on:
            action = await self._plan.act(now, self.page)
        else:
            self._seq, action = self._held.take()
        begun = time.perf_counter()
        step = self._engine.step(self._model_settings(), now.state, action, self.settings["seed"], now.depth + 1)
        moment = await asyncio.wrap_future(step)
        if self.tree.now is not now:  # the player went elsewhere meanwhile
            return
        before = self.tree.branch
        node = self._grow(action, moment)
        if self._truths:
            await self._truths.reach(node)
        if self.tree.now is not node:
            return
        waited = 1e3 * (time.perf_counter() - begun)
        await self._show(node, model_ms=moment.milliseconds, batch=moment.batch, step_ms=waited)
        if self.tree.branch is not before:
            await self.page.tree(self.tree)

    def _grow(self, action: np.ndarray, moment: Moment) -> Node:
        node = self.tree.grow(action, moment.frame, moment.state)
        node.reward, node.terminal = moment.reward, moment.terminal
        return node

    def _pause(self) -> None:
        self._playing, self._steps = False, 0

    # -- what the page is told

    async def _show(self, node: Node, **numbers: float | None) -> None:
        simulated = self._truths is not None and self._truths.follows
        numbers |= {"seq": self._seq, "late": self._late, "simulated": simulated}
        await self.page.frame(node, self.tree.branch.id, **numbers)

    async def show(self) -> None:
        """Sends the present moment and everything else."""
        if self._truths:
            self._truths.wake()
        await self._show(self.tree.now)
        await self.page.tree(self.tree)
        await self.tell()

    async def tell(self) -> None:
        """Sends the settings and whether the world goes on."""
        await self.page.status(self._playing, self.recording is not None, self.settings)

    def _job(self, work: Coroutine[Any, Any, None], name: str | None = None) -> None:
        """Runs something beside the world; it ends with the session, and its failure is told."""

        async def run() -> None:
            try:
                await work
            except UserError as error:
                await self.page.say(str(error))
            except RuntimeError:  # the socket has closed
                logging.getLogger(__name__).debug("a job of a player who has left", exc_info=True)

        task = asyncio.create_task(run(), name=name)
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    def close(self) -> None:
        """Frees the world."""
        for job in self._jobs:
            job.cancel()
        if self._truths:
            self._truths.close()
        self.tree, self._futures, self._truths = None, None, None
