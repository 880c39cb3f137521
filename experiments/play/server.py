"""The web server of the play page: one page, one WebSocket a player, downloads and uploads."""

import asyncio
import contextlib
import pathlib
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from experiments.play import controls, downloads, messages, uploads
from experiments.play.address import LOCAL, ServeOptions
from experiments.play.engine import Engine
from experiments.play.scene import Scene
from experiments.play.session import FPS, Session

STATIC = pathlib.Path(__file__).parent / "static"
COOKIE = "play_token"
RATE, BURST = 240.0, 480.0  # messages a second of a socket, and how many may come at once
IDLE = 20.0  # seconds until a page that answers no ping counts as gone
FULL, POLICY, TOO_MANY = 1013, 1008, 4029  # codes with which sockets are closed
POLICIES = "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"


class PlayServer:
    """A scene and its players.

    Attributes:
      sessions: by their secret name.
    """

    def __init__(self, scene: Scene, *, max_players: int = 8, fps: float = 15.0, token: str = "", hosts: tuple = ()):
        """Without `token` everybody may play who can reach the server under one of `hosts` (any, if there are none)."""
        self.scene, self.max_players, self.fps, self.token, self.hosts = scene, max_players, fps, token, hosts
        self.controls = controls.describe(scene.actions, scene.record)
        self.engine = Engine(scene.variant, scene.actions, max_players)
        self.sessions: dict[str, Session] = {}

    def warm(self, *, batches: bool = False) -> None:
        """Compiles what the first player needs; with `batches` also the programs for several players at once."""
        start = self.scene.starts[0]
        moment = self.engine.begin(self.scene.defaults, start, 0).result()
        if batches:
            self.engine.prepare_batches(self.scene.defaults, moment.state)
        self.engine.step(self.scene.defaults, moment.state, controls.rest(self.scene.actions), 0, 1).result()

    def app(self) -> Starlette:
        """The application."""

        @contextlib.asynccontextmanager
        async def life(_: Starlette) -> AsyncIterator[None]:
            yield
            for session in self.sessions.values():
                session.close()
            self.engine.stop()

        routes = [
            Route("/", self._page),
            Route("/start/{index:int}.png", self._start),
            Route("/download/{name}/{kind}", self._download),
            Route("/upload/{name}", self._upload, methods=["POST"]),
            WebSocketRoute("/ws", self._socket),
            Mount("/static", StaticFiles(directory=STATIC)),
        ]
        return Starlette(routes=routes, lifespan=life)

    # -- who may come in

    def _may_enter(self, headers: Headers, cookies: dict[str, str], token: str, *, needs_origin: bool) -> str:
        """Why a request is turned away; empty if it may come in."""
        host = headers.get("host", "")
        if self.hosts and _name(f"//{host}") not in self.hosts:
            return "this host name is not served"  # another site's name that was made to point here
        origin = headers.get("origin")
        if (needs_origin or origin) and (origin is None or urlsplit(origin).netloc != host):
            return "requests of other sites are not answered"
        given = token or cookies.get(COOKIE, "")
        if self.token and not secrets.compare_digest(given.encode(), self.token.encode()):
            return "open the address that the server printed: it has the token"
        return ""

    def _check(self, request: Request, *, needs_origin: bool = False) -> Response | None:
        token = request.query_params.get("token", "")
        reason = self._may_enter(request.headers, request.cookies, token, needs_origin=needs_origin)
        return PlainTextResponse(f"Not allowed: {reason}.\n", 403) if reason else None

    # -- pages

    async def _page(self, request: Request) -> Response:
        if (wrong := self._check(request)) is not None:
            return wrong
        response = FileResponse(STATIC / "index.html", headers=_headers())
        if self.token:
            response.set_cookie(COOKIE, self.token, httponly=True, samesite="strict")
        return response

    async def _start(self, request: Request) -> Response:
        if (wrong := self._check(request)) is not None:
            return wrong
        index = request.path_params["index"]
        if index >= len(self.scene.starts):
            return PlainTextResponse("There is no such start.\n", 404)
        return Response(messages.png(self.scene.starts[index].frames[-1]), media_type="image/png", headers=_headers())

    def _session(self, request: Request) -> Session | None:
        return self.sessions.get(request.path_params["name"])

    async def _download(self, request: Request) -> Response:
        if (wrong := self._check(request)) is not None:
            return wrong
        session, kind = self._session(request), request.path_params["kind"]
        if session is None or session.tree is None or kind not in downloads.KINDS:
            return PlainTextResponse("There is no such recording.\n", 404)
        return await downloads.respond(session, kind, _headers())

    async def _upload(self, request: Request) -> Response:
        if (wrong := self._check(request, needs_origin=True)) is not None:
            return wrong
        session = self._session(request)
        if session is None:
            return PlainTextResponse("There is no such player.\n", 404)
        try:
            return JSONResponse({"name": await session.upload(await _body(request))})
        except uploads.BadUpload as error:
            return JSONResponse({"error": str(error)}, 422)

    # -- players

    async def _socket(self, socket: WebSocket) -> None:
        token = socket.query_params.get("token", "")
        reason = self._may_enter(socket.headers, socket.cookies, token, needs_origin=True)
        if reason:
            await socket.close(POLICY, reason)
            return
        await socket.accept()
        if len(self.sessions) >= self.max_players:
            await socket.close(FULL, f"all {self.max_players} places are taken: try again later")
            return
        name, lock = secrets.token_urlsafe(16), asyncio.Lock()

        async def send(message: bytes | dict[str, Any]) -> None:
            async with lock:  # a page that reads nothing holds up its own world alone
                if socket.client_state is WebSocketState.CONNECTED:
                    await (socket.send_bytes(message) if isinstance(message, bytes) else socket.send_json(message))

        session = self.sessions[name] = Session(self.scene, self.engine, send, self.fps)
        runner = None
        try:
            await send(self._hello(name))
            await session.begin(self.scene.starts[0])
            runner = asyncio.create_task(session.run())
            await self._listen(socket, session, runner)
        except (WebSocketDisconnect, RuntimeError):  # RuntimeError: it was closed while something was sent
            pass
        finally:
            if runner:
                runner.cancel()
            session.close()
            del self.sessions[name]

    def _hello(self, name: str) -> dict[str, Any]:
        scene = self.scene
        return {
            "type": "hello",
            "session": name,
            "title": scene.name,
            "controls": self.controls,
            "starts": [start.label for start in scene.starts],
            "frame": scene.frame_shape,
            "choices": {key: list(values) for key, values in scene.settings.items()},
            "simulator": scene.simulator is not None,
            "planner": scene.planner is not None,
            "fps": FPS,
            "limits": {"bytes": uploads.MOST_BYTES},
        }

    async def _listen(self, socket: WebSocket, session: Session, runner: asyncio.Task) -> None:
        """Hears a page until it leaves; whatever it says wrong closes its socket with the reason."""
        budget, before = BURST, time.monotonic()
        while True:
            message = asyncio.ensure_future(socket.receive())
            await asyncio.wait({message, runner}, return_when=asyncio.FIRST_COMPLETED)
            if runner.done():
                message.cancel()
                runner.result()
            found = message.result()
            if found["type"] == "websocket.disconnect":
                return
            now = time.monotonic()
            budget = min(BURST, budget + RATE * (now - before)) - 1
            before = now
            try:
                if budget < 0:
                    await socket.close(TOO_MANY, f"more than {RATE:g} messages a second")
                    return
                await session.handle(messages.read(found.get("text")))
            except messages.BadMessage as error:
                await socket.close(POLICY, str(error)[:120])
                return


def _headers() -> dict[str, str]:
    return {
        "content-security-policy": POLICIES,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-store",
    }


def _name(address: str) -> str:
    """The host name of an address, without the port."""
    return (urlsplit(address).hostname or "").lower()


async def _body(request: Request) -> bytes:
    """The body of a request. Raises BadUpload once it is too large."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > uploads.MOST_BYTES:
            raise uploads.BadUpload(f"The file is larger than {uploads.MOST_BYTES >> 20} MiB.")
    return bytes(data)


def serve(scene: Scene, options: ServeOptions) -> None:
    """Serves a scene until it is interrupted."""
    is_local = options.host in LOCAL
    token = "" if is_local else secrets.token_urlsafe(24)
    hosts = LOCAL if is_local else ()
    players = {"max_players": options.max_players, "fps": options.fps}
    server = PlayServer(scene, token=token, hosts=hosts, **players)
    print(f"Compiling the model of {scene.name} …", flush=True)
    server.warm()
    options.listener.listen()  # whoever comes at once is not turned away
    shown = f"[{options.host}]" if ":" in options.host else options.host
    print(f"Play at http://{shown}:{options.port}/{f'?token={token}' if token else ''} (Ctrl-C ends it)", flush=True)
    with contextlib.suppress(KeyboardInterrupt):  # that is how it ends
        make_server(server).run(sockets=[options.listener])


def make_server(players: PlayServer) -> uvicorn.Server:
    """The uvicorn server of a `PlayServer`."""
    config = uvicorn.Config(
        players.app(),
        log_level="warning",
        ws="websockets-sansio",
        ws_max_size=4 * messages.MOST_BYTES,
        ws_ping_interval=IDLE,
        ws_ping_timeout=IDLE,
        ws_per_message_deflate=False,  # frames are small or compressed already
        timeout_graceful_shutdown=2,
    )
    return uvicorn.Server(config)
