"""A world model without learning to play in tests: a bright column that actions push, and noise that the seed draws."""

import contextlib
import json
import threading
import time
import urllib.error
import urllib.request
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from websockets.sync.client import connect

from experiments.play.scene import Scene, Start
from experiments.play.server import PlayServer
from experiments.play.simulators import Truth
from world_models.core.errors import UserError
from world_models.core.types import ActionSpec, Prediction

SIDE = 16
ACTIONS = ActionSpec("discrete", 3)  # stay, right, left
RIGHT, LEFT = 1, 2


class State(NamedTuple):
    """The column, int32 [batch], and the brightness of the last row, which is noise: [batch, SIDE]."""

    column: jax.Array
    noise: jax.Array


@jax.tree_util.register_static
class ToyModel:
    """A `WorldModel`; `loud` is the level of the noise."""

    def __init__(self, loud=255):
        self.loud = loud

    def __eq__(self, other):
        return self.loud == other.loud

    def __hash__(self):
        return hash(self.loud)

    def observe(self, frames, actions, rng):
        column = jnp.argmax(frames[:, -1, 0, :, 0].astype(jnp.int32), axis=-1)
        return State(column, frames[:, -1, -1, :, 0].astype(jnp.int32))

    def step(self, state, action, rng):
        column = (state.column + jnp.array([0, 1, -1])[action]) % SIDE
        noise = jax.random.randint(rng, (len(action), SIDE), 0, self.loud + 1)
        return State(column, noise), Prediction(rewards=column.astype(jnp.float32))

    def decode(self, state):
        lit = (jnp.arange(SIDE) == state.column[:, None])[:, None, :, None] * jnp.array([255, 160, 0])
        rows = jnp.broadcast_to(lit, (len(state.column), SIDE, SIDE, 3))
        return rows.at[:, -1].set(state.noise[..., None]).astype(jnp.uint8)


def frame_of(column):
    """The frame of a column, without noise."""
    frame = np.zeros((SIDE, SIDE, 3), np.uint8)
    frame[:-1, column] = (255, 160, 0)
    return frame


class ToySimulator:
    """The true world: the same without noise. `delay` is the seconds of a step; unit 1 cannot be gone to."""

    def __init__(self, delay=0.0):
        self.delay, self.closed = delay, False

    def begin(self, start):
        if start.unit == 1:
            raise UserError("the simulator cannot go there")
        return Truth(int(start.unit), frame_of(int(start.unit)))

    def step(self, state, action):
        time.sleep(self.delay)
        state = (state + (0, 1, -1)[int(action)]) % SIDE
        return Truth(state, frame_of(state), float(state))

    def close(self):
        self.closed = True


def toy_scene(simulator=None, context=2):
    """A scene with starts at the columns 0 to 5."""
    frames = [np.stack([frame_of(column)] * context) for column in range(6)]
    starts = [Start(f, np.zeros(context - 1, np.int32), f"test {i}", i, 0) for i, f in enumerate(frames)]
    return Scene(
        name="toy",
        actions=ACTIONS,
        frame_shape=(SIDE, SIDE, 3),
        starts=starts,
        variant=lambda settings: ToyModel(dict(settings)["loud"]),
        settings={"loud": (255, 0)},
        simulator=simulator,
        record={"environment": "toy"},
    )


def unpacked(data):
    """The header and the images by name, read independently of the page."""
    size = int.from_bytes(data[:4], "little")
    header, offset, images = json.loads(data[4 : 4 + size]), 4 + size, {}
    for image in header["images"]:
        images[image["name"]] = data[offset : offset + image["size"]]
        offset += image["size"]
    assert offset == len(data)
    return header, images


@contextlib.contextmanager
def serving(scene, **options):
    """A running server for a scene: yields (address, PlayServer)."""
    from experiments.play.address import LOCAL, check
    from experiments.play.server import make_server

    where = check("127.0.0.1", 0, 30, options.pop("max_players", 4))
    options.setdefault("hosts", LOCAL)
    players = PlayServer(scene, max_players=where.max_players, fps=where.fps, **options)
    server = make_server(players)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [where.listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"127.0.0.1:{where.port}", players
    finally:
        server.should_exit = True
        thread.join(20)
        where.listener.close()


class Client:
    """A page without a browser: it answers each frame and keeps what it was told."""

    def __init__(self, address, *, origin=None, token="", acknowledge=True):
        own = origin or f"http://{address}"
        self.socket = connect(f"ws://{address}/ws{f'?token={token}' if token else ''}", origin=own, max_size=None)
        self.acknowledge, self.frames, self.told = acknowledge, [], []

    def send(self, kind, **fields):
        self.socket.send(json.dumps({"type": kind, **fields}))

    def receive(self, timeout=20):
        """The next message: (header, images)."""
        data = self.socket.recv(timeout)
        if isinstance(data, str):
            self.told.append(json.loads(data))
            return self.told[-1], {}
        header, images = unpacked(data)
        if header["type"] == "frame":
            shapes = {image["name"]: (image["height"], image["width"], 3) for image in header["images"]}
            images = {name: np.frombuffer(data, np.uint8).reshape(shapes[name]) for name, data in images.items()}
            self.frames.append((header, images))
            if self.acknowledge:
                self.send("ack", tick=header["tick"])
        return header, images

    def drain(self, timeout):
        """Hears messages until there are none for `timeout` seconds, or the socket closes."""
        while True:
            self.receive(timeout)

    def until(self, kind, test=lambda header: True, timeout=20):
        """The next message of a type that passes a test: (header, images)."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            header, images = self.receive(timeout)
            if header["type"] == kind and test(header):
                return header, images
        raise TimeoutError(f"no {kind}")

    def begun(self):
        """Waits for the first frame."""
        self.until("frame")
        self.until("status")
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


def gone(players):
    """Waits until no player is left."""
    end = time.monotonic() + 20
    while players.sessions and time.monotonic() < end:
        time.sleep(0.02)
    return not players.sessions


def column(images):
    return int(images["model"][0, :, 0].argmax())


def get(address, path, **headers):
    """(status, body) of a request."""
    try:
        with urllib.request.urlopen(urllib.request.Request(f"http://{address}{path}", headers=headers)) as found:
            return found.status, found.read(), found.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read(), error.headers
