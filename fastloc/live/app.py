"""The server: the page's files, one WebSocket a client, and the state that all clients share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastloc._version import __version__
from fastloc.imaging.overlay import colour_table
from fastloc.live import guard_pages
from fastloc.live.broadcast import Broadcast
from fastloc.live.limits import FLOOD, WORDS, Limits, Violation
from fastloc.live.messages import Asked, Ping, Refused, Seen, read_words, written
from fastloc.live.method_pool import Methods, Setup
from fastloc.live.outbox import SendBuffer
from fastloc.live.protocol import read_frame
from fastloc.live.scheduler import Engine
from fastloc.live.session import Session
from fastloc.live.settings import Settings
from fastloc.utils.system.lasting_pool import LastingPool
from fastloc.utils.system.panics import contained
from fastloc.web_server.fault_log import FaultLog
from fastloc.web_server.rate import Rate
from fastloc.web_server.security import Guard, Rules

__all__ = ["Live"]

PAGE = Path(__file__).parent / "page"
# said here, because a machine's own tables may say otherwise, and browsers run no module of another type
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
# seconds for the last word to a client, and for a task to take in that it was cancelled
FAREWELL, CANCEL = 1.0, 1.0


class Live:
    """The service behind the page. `app` is the ASGI application; `close` ends its threads.

    Args:
        methods, settings: the methods on offer, and a new client's settings.
        limits, rules: limits of a client, and the rules of access.
        hub: the source that the server has, or None where browsers bring their own.
        side: long side of the frames that browsers shall send, in pixels.
        note: the page's line about the model.
    """

    def __init__(
        self, methods: Methods, settings: Settings, limits: Limits, rules: Rules, hub: Broadcast | None = None, side: int = 640,
        note: str = "",
    ) -> None:
        self.methods, self.settings, self.limits, self.hub, self.side, self.note = methods, settings, limits, hub, side, note
        self.faults = FaultLog("fastloc: live")
        self.engine = Engine(self.faults)
        # texts are encoded here, beside the frames, for one client at a time
        self._aside = LastingPool(1, thread_name_prefix="fastloc-live-texts")
        self._first: Setup = methods.setup(settings)
        self._numbers = count(1)
        self._sessions: dict[int, Session] = {}
        self.closing = False
        files = [Route(f"/{path.name}", _file) for path in sorted(PAGE.iterdir()) if path.suffix in TYPES]
        routes = [Route("/", _file), Route("/state", self._state), WebSocketRoute("/ws", self._client), *files]
        guard = Middleware(Guard, rules=rules, pages=guard_pages, open_paths=guard_pages.OPEN)
        self.app = Starlette(routes=routes, middleware=[guard], lifespan=self._lifespan)

    @property
    def state(self) -> dict[str, Any]:
        """The service's state: clients, their frames, and the source."""
        clients = [_counts(session) for session in list(self._sessions.values())]
        return {"fastloc": __version__, "clients": clients, "engine": self.engine.clients, "source": self._source}

    @property
    def _source(self) -> dict[str, Any] | None:
        return None if self.hub is None else self.hub.facts

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
        return Response(written(self.state), media_type="application/json")

    async def _client(self, socket: WebSocket) -> None:
        await socket.accept()
        if len(self._sessions) >= self.limits.clients:
            await _farewell(socket, f"the server is full: {self.limits.clients} at a time is its limit", 1013)
            return
        outbox = SendBuffer(asyncio.get_running_loop())
        session = Session(next(self._numbers), self._first, outbox, self.limits, self.engine.wake)
        self._sessions[session.number] = session
        try:
            # each has a memory of its own
            session.setup = await asyncio.get_running_loop().run_in_executor(self._aside, contained, self.methods.setup, self.settings)
            self.engine.add(session)
            outbox.say(type="welcome", **self._welcome(session))
            session.tell(session.setup)
            if self.hub is not None:
                self.hub.add(session)
            await self._serve(socket, session)
        # a fault of ours ends this connection alone
        except Exception as error:
            if not self.closing:
                self.faults.note("a client could not be served", error)
            await _farewell(socket, f"the server failed: {error!r}", 1011)
        finally:
            if self.hub is not None:
                self.hub.remove(session)
            self.engine.remove(session)
            del self._sessions[session.number]

    async def _serve(self, socket: WebSocket, session: Session) -> None:
        """Serve both directions, until either ends; the reason is sent to a client that is still there."""
        tasks = [asyncio.create_task(self._listen(socket, session)), asyncio.create_task(self._speak(socket, session.outbox))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _cancelled(tasks)
        for error in [task.exception() for task in tasks if task.done() and not task.cancelled()]:
            if isinstance(error, Violation):
                await _farewell(socket, str(error), error.code)
                return
            if isinstance(error, Exception) and not isinstance(error, WebSocketDisconnect):
                raise error

    async def _listen(self, socket: WebSocket, session: Session) -> None:
        limits, flood = self.limits, Rate(FLOOD * self.limits.fps, burst=FLOOD * self.limits.fps)
        while True:
            try:
                # not wait_for: before Python 3.12 it loses a cancellation that meets a finished future
                async with asyncio.timeout(limits.idle):
                    message = await socket.receive()
            except TimeoutError:
                raise Violation(f"nothing was heard for {limits.idle:g} s") from None
            if message["type"] == "websocket.disconnect":
                return
            if not flood.allows():
                raise Violation(f"more than {FLOOD * limits.fps:g} messages a second")
            content = message.get("bytes") or message.get("text") or ""
            most, unit = (limits.message, "bytes") if isinstance(content, bytes) else (min(WORDS, limits.message), "letters")
            if len(content) > most:
                raise Violation(f"a message of {len(content)} {unit}; the limit is {most}", 1009)
            if isinstance(content, bytes):
                self._frame(content, session)
            else:
                self._words(content, session)

    async def _speak(self, socket: WebSocket, outbox: SendBuffer) -> None:
        """Send what the outbox holds; one message at a time is on its way, so that a slow reader holds up nothing but itself."""
        while True:
            for message in await outbox.next():
                try:
                    async with asyncio.timeout(self.limits.stuck):
                        await (socket.send_bytes(message) if isinstance(message, bytes) else socket.send_text(message))
                except TimeoutError:
                    raise Violation(f"nothing was taken for {self.limits.stuck:g} s") from None
                # uvicorn has closed it: what came was no WebSocket's frame
                except RuntimeError:
                    return

    def _frame(self, content: bytes, session: Session) -> None:
        if self.hub is not None:
            raise Violation("frames come from the server's own source here")
        session.receive(read_frame(content))

    def _words(self, content: str, session: Session) -> None:
        try:
            words = read_words(content)
        except Refused as error:
            session.outbox.say(type="problem", field=error.field, message=str(error), asked={})
            return
        match words:
            case Ping(time):
                session.outbox.say(type="pong", time=time)
            case Seen():
                session.seen()
            case Asked():
                if session.ask(words.requested):
                    self._aside.submit(self._change, session)

    def _change(self, session: Session) -> None:
        """Apply a change of settings on the texts' thread, whose errors no caller sees."""
        try:
            session.change(self.methods)
        except BaseException as error:
            self.faults.note("settings could not be changed", error)
            session.outbox.say(type="problem", field="", message=f"these settings could not be made: {error!r}", asked={})

    def _welcome(self, session: Session) -> dict[str, Any]:
        limits = self.limits
        return {
            "fastloc": __version__,
            "client": session.number,
            "model": self.methods.model,
            "methods": self.methods.described,
            "note": self.note,
            "source": self._source,
            "limits": {"fps": limits.fps, "side": self.side, "texts": limits.texts, "letters": limits.letters, "methods": limits.methods},
            "colours": np.rint(colour_table("turbo")).astype(np.uint8).tobytes().hex(),
        }


async def _cancelled(tasks: Sequence[asyncio.Task[None]]) -> None:
    """End tasks, and wait for it; one whose library swallows a cancellation gets another, and is then left alone."""
    for _ in range(3):
        left = [task for task in tasks if not task.done()]
        if not left:
            return
        for task in left:
            task.cancel()
        # gathering them would put their cancellation in place of ours, by which anyio recognises its own
        await asyncio.wait(left, timeout=CANCEL)


async def _farewell(socket: WebSocket, message: str, code: int) -> None:
    """Send the reason, and close. A client that reads nothing does not delay this: the server ends what is left of the connection."""
    with contextlib.suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
        async with asyncio.timeout(FAREWELL):
            await socket.send_text(written({"type": "problem", "field": "", "message": message, "asked": {}}).decode())
            # what fits into a closing frame, 123 bytes
            await socket.close(code, message.encode(errors="replace")[:123].decode(errors="ignore"))


async def _file(request: Request) -> Response:
    path = PAGE / (request.scope["path"].strip("/") or "index.html")
    return FileResponse(path, media_type=TYPES[path.suffix]) if path.is_file() else PlainTextResponse("no such file", 404)


def _counts(session: Session) -> dict[str, Any]:
    return {"client": session.number, "texts": list(session.setup.settings.texts), **asdict(session.counted)}
