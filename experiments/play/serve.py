"""Starts the server of the play page. No JAX before it is needed: flags are checked first."""

import contextlib
import dataclasses
import socket
from typing import TYPE_CHECKING, Any

from world_models.core.errors import UserError

if TYPE_CHECKING:
    from experiments.play.scene import Scene
    from experiments.play.server import PlayServer
    from experiments.runs.loading import LoadedRun

IDLE = 20.0  # seconds until a page that answers no ping counts as gone
LOCAL = ("127.0.0.1", "localhost", "::1")


@dataclasses.dataclass(frozen=True)
class ServeOptions:
    """Where and for whom.

    Attributes:
      listener: the open socket.
      host: as it was asked for.
      fps: frames a second, at most.
      max_players: how many may play at once.
    """

    listener: socket.socket
    host: str
    fps: float
    max_players: int

    @property
    def port(self) -> int:
        """That the socket is bound to."""
        return self.listener.getsockname()[1]


def check(host: str, port: int, fps: float, max_players: int) -> ServeOptions:
    """Checks the flags of the command and takes the port.

    Raises:
      UserError: if one is out of range, the port is taken, or the packages of the extra are missing.
    """
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
        import websockets  # noqa: F401
    except ImportError as error:
        raise UserError(f"play needs {error.name!r}: pip install -e '.[play]'") from error
    if not 0 <= port < 2**16:
        raise UserError(f"--port={port} must be from 0 to {2**16 - 1}.")
    if not 1 <= fps <= 240:
        raise UserError(f"--fps={fps:g} must be from 1 to 240.")
    if not 1 <= max_players <= 64:
        raise UserError(f"--max_players={max_players} must be from 1 to 64.")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except socket.gaierror as error:
        raise UserError(f"--host={host!r} is no address of this machine ({error.strerror}).") from error
    except OSError as error:
        raise UserError(f"--port={port} at {host} cannot be used ({error.strerror}): name another one.") from error
    return ServeOptions(listener, host, fps, max_players)


def write(run: "LoadedRun", options: ServeOptions) -> None:
    """Serves the scene of a run until it is interrupted; writes nothing."""
    from experiments.play.scene import of_run

    serve(of_run(run), options)


def serve(scene: "Scene", options: ServeOptions) -> None:
    """Serves a scene until it is interrupted."""
    import secrets

    from experiments.play.server import PlayServer

    is_local = options.host in LOCAL
    token = "" if is_local else secrets.token_urlsafe(24)
    hosts = LOCAL if is_local else ()
    players = {"max_players": options.max_players, "fps": options.fps}
    server = PlayServer(scene, token=token, hosts=hosts, **players)
    print(f"Compiling the model of {scene.name} …", flush=True)
    server.warm()
    shown = f"[{options.host}]" if ":" in options.host else options.host
    print(f"Play at http://{shown}:{options.port}/{f'?token={token}' if token else ''} (Ctrl-C ends it)", flush=True)
    with contextlib.suppress(KeyboardInterrupt):  # that is how it ends
        make_server(server).run(sockets=[options.listener])


def make_server(players: "PlayServer") -> Any:
    """The uvicorn server of a `PlayServer`."""
    import uvicorn

    from experiments.play.messages import MOST_BYTES

    config = uvicorn.Config(
        players.app(),
        log_level="warning",
        ws="websockets-sansio",
        ws_max_size=4 * MOST_BYTES,
        ws_ping_interval=IDLE,
        ws_ping_timeout=IDLE,
        ws_per_message_deflate=False,  # frames are small or compressed already
        timeout_graceful_shutdown=2,
    )
    return uvicorn.Server(config)
