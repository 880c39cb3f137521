"""Where the play page is served and for whom. No JAX here: flags are checked before anything is loaded."""

import dataclasses
import socket

from world_models.core.errors import UserError

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
