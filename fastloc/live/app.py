"""The server: the page's files, one WebSocket a client, and what all clients share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastloc._version import __version__
from fastloc.imaging.overlay import colour_table
from fastloc.live.broadcast import Broadcast
from fastloc.live.limits import FLOOD, Limits, Rate, Violation
from fastloc.live.method_pool import Methods, Setup
from fastloc.live.outbox import SendBuffer
from fastloc.live.protocol import read_frame, read_words
from fastloc.live.scheduler import Engine
from fastloc.live.security import Guard, Rules
from fastloc.live.session import Session
from fastloc.live.settings import Settings

__all__ = ["Live"]

PAGE = Path(__file__).parent / "page"
# said here, because a machine's own tables may say otherwise, and browsers run no module of another type
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
# a client that takes no message for this long is gone, seconds
STUCK = 20.0


class Live:
    """What runs behind the page. `app` is the ASGI application; `close` ends its threads.

    Args:
        methods, settings: what is offered, and what a new client starts with.
        limits, rules: of a client, and of who may be one.
        hub: the source that the server has, or None where browsers bring their own.
        side: long side of the frames that browsers shall send, in pixels.
        note: what the page says of the model.
    """

    def __init__(
        self, methods: Methods, settings: Settings, limits: Limits, rules: Rules, hub: Broadcast | None = None, side: int = 640,
        note: str = "",
    ) -> None:
        self.methods, self.settings, self.limits, self.hub, self.side, self.note = methods, settings, limits, hub, side, note
        self.engine = Engine()
        # texts are encoded here, beside the frames, for one client at a time
        self._aside = ThreadPoolExecutor(1, thread_name_prefix="fastloc-live-texts")
        self._first: Setup = methods.setup(settings)
        self._numbers = count(1)
        self._sessions: dict[int, Session] = {}
        self.closing = False
        files = [Route(f"/{path.name}", _file) for path in sorted(PAGE.iterdir()) if path.suffix in TYPES]
        routes = [Route("/", _file), Route("/state", self._state), WebSocketRoute("/ws", self._client), *files]
        self.app = Starlette(routes=routes, middleware=[Middleware(Guard, rules=rules)], lifespan=self._lifespan)

    @property
    def state(self) -> dict[str, Any]:
        """What is going on: clients, their frames, and the source."""
        clients = [_counts(session) for session in list(self._sessions.values())]
        return {"fastloc": __version__, "clients": clients, "engine": self.engine.clients, "source": self._source}

    @property
    def _source(self) -> dict[str, Any] | None:
        return None if self.hub is None else self.hub.told

    def close(self) -> None:
        """End all threads."""
        self.closing = True
        if self.hub is not None:
            self.hub.close()
        self.engine.close()
        self._aside.shutdown(cancel_futures=True)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await asyncio.to_thread(self.close)

    async def _state(self, request: Request) -> Response:
        return JSONResponse(self.state)

    async def _client(self, socket: WebSocket) -> None:
        await socket.accept()
        if len(self._sessions) >= self.limits.clients:
            await socket.close(1013, f"the server is full: {self.limits.clients} at a time is its limit")
            return
        outbox = SendBuffer(asyncio.get_running_loop())
        session = Session(next(self._numbers), self._first, outbox, self.limits, self.engine.wake)
        self._sessions[session.number] = session
        try:
            # each has a memory of its own
            session.setup = await asyncio.get_running_loop().run_in_executor(self._aside, self.methods.setup, self.settings)
            self.engine.add(session)
            outbox.say(type="welcome", **self._welcome(session))
            session.tell(session.setup)
            if self.hub is not None:
                self.hub.add(session)
            await self._serve(socket, session)
        finally:
            if self.hub is not None:
                self.hub.remove(session)
            self.engine.remove(session)
            del self._sessions[session.number]

    async def _serve(self, socket: WebSocket, session: Session) -> None:
        """Both directions, until either ends; the reason is sent to a client that is still there."""
        tasks = [asyncio.create_task(self._listen(socket, session)), asyncio.create_task(_speak(socket, session.outbox))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            # gathering them would put their cancellation in place of ours, by which anyio tells whose it is
            await asyncio.wait(tasks)
        for error in [None if task.cancelled() else task.exception() for task in tasks]:
            if isinstance(error, Violation):
                with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                    await socket.close(error.code, _reason(error))
                return
            if isinstance(error, Exception) and not isinstance(error, WebSocketDisconnect):
                raise error

    async def _listen(self, socket: WebSocket, session: Session) -> None:
        limits, flood = self.limits, Rate(FLOOD * self.limits.fps, burst=FLOOD * self.limits.fps)
        while True:
            try:
                message = await asyncio.wait_for(socket.receive(), limits.idle)
            except TimeoutError:
                raise Violation(f"nothing was heard for {limits.idle:g} s") from None
            if message["type"] == "websocket.disconnect":
                return
            if not flood.allows():
                raise Violation(f"more than {FLOOD * limits.fps:g} messages a second")
            content = message.get("bytes") or message.get("text") or ""
            if len(content) > limits.message:
                raise Violation(f"a message of {len(content)} bytes; the limit is {limits.message}", 1009)
            if isinstance(content, bytes):
                self._frame(content, session)
            else:
                self._words(read_words(content), session)

    def _frame(self, content: bytes, session: Session) -> None:
        if self.hub is not None:
            raise Violation("frames come from the server's own source here")
        session.receive(read_frame(content))

    def _words(self, words: dict[str, Any], session: Session) -> None:
        kind = words.pop("type")
        if kind == "ping":
            session.outbox.say(type="pong", time=words.get("time"))
        elif kind == "seen":
            session.seen()
        elif kind == "settings":
            if session.ask(words):
                self._aside.submit(session.change, self.methods)
        else:
            raise Violation(f"unknown type of message {kind!r:.40}; known types: ping, seen, settings")

    def _welcome(self, session: Session) -> dict[str, Any]:
        limits = self.limits
        return {
            "fastloc": __version__,
            "client": session.number,
            "model": self.methods.model,
            "methods": self.methods.told,
            "note": self.note,
            "source": self._source,
            "limits": {"fps": limits.fps, "side": self.side, "texts": limits.texts, "letters": limits.letters, "methods": limits.methods},
            "colours": np.rint(colour_table("turbo")).astype(np.uint8).tobytes().hex(),
        }


async def _speak(socket: WebSocket, outbox: SendBuffer) -> None:
    """Send what the outbox holds; one message at a time is on its way, so that a slow reader holds up nothing but itself."""
    while True:
        for message in await outbox.next():
            sending = socket.send_bytes(message) if isinstance(message, bytes) else socket.send_text(message)
            try:
                await asyncio.wait_for(sending, STUCK)
            except TimeoutError:
                raise Violation(f"nothing was taken for {STUCK:g} s") from None


async def _file(request: Request) -> Response:
    path = PAGE / (request.url.path.strip("/") or "index.html")
    return FileResponse(path, media_type=TYPES[path.suffix]) if path.is_file() else PlainTextResponse("no such file", 404)


def _counts(session: Session) -> dict[str, Any]:
    return {"client": session.number, "texts": list(session.setup.settings.texts), **asdict(session.counted)}


def _reason(error: Violation) -> str:
    """What fits into a closing frame, 123 bytes."""
    return str(error).encode()[:123].decode(errors="ignore")
