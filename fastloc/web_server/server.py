"""A server of HTTP on uvicorn's protocol, behind an accept loop that keeps to limits.

uvicorn waits for ever for the rest of a request's head; asyncio accepts until no descriptor is left, and then logs it 2048 times a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from pathlib import Path
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from fastloc.web_server.connections import KEY, Connection, ConnectionLimits, Connections, Tracked
from fastloc.web_server.fault_log import FaultLog

__all__ = ["Server"]

# seconds that clients have for going when the server ends
PATIENCE = 1
# seconds of rest where no connection can be accepted
REST = 0.5


class Http(H11Protocol):
    """HTTP/1.1 of one connection, by h11, which bounds the size of a head."""

    def __init__(self, config: uvicorn.Config, server_state: Any, app_state: dict[str, Any], _loop: Any = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.connection: Connection = app_state[KEY]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.connection.end = transport.abort
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.connection.lost()

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except h11.ProtocolError:
            # rubbish behind a request that is still being answered: no answer to it can be sent
            self.transport.abort()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        if event.method != b"GET":
            self.send_400_response("A WebSocket is opened by GET.")
            return
        super().handle_websocket_upgrade(event)


class Server(uvicorn.Server):
    """Serves an app on sockets that listen: `Server(app, limits, faults).run(sockets=[listening])`. options: uvicorn's own."""

    def __init__(
        self, app: ASGIApp, limits: ConnectionLimits, faults: FaultLog, certificate: Path | None = None, key: Path | None = None,
        **options: Any,
    ) -> None:
        super().__init__(uvicorn.Config(
            Tracked(app, limits), http=Http, log_level="critical", access_log=False, server_header=False, proxy_headers=False,
            timeout_graceful_shutdown=PATIENCE, ssl_certfile=certificate, ssl_keyfile=key, **options,
        ))  # fmt: skip
        self.limits, self.faults, self.connections = limits, faults, Connections(limits)
        self._running: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the app, and accept connections."""
        await super().startup(sockets=[])
        asyncio.get_running_loop().set_exception_handler(self.faults.unhandled)
        for each in sockets or ():
            each.setblocking(False)
            self._keep(self._accept(each))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, and end what there is."""
        for task in list(self._running):
            task.cancel()
        await super().shutdown(sockets=sockets)

    def _keep(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.faults.note("a connection could not be served", error)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                made, address = await loop.sock_accept(listening)
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM) and not self.connections.end_idle():
                    self.faults.note(f"no connection can be accepted: {error.strerror}")
                await asyncio.sleep(REST if error.errno != errno.ECONNABORTED else 0)
                continue
            # a loop that ends accepts nobody any more
            except Exception as error:
                self.faults.note("no connection can be accepted", error)
                await asyncio.sleep(REST)
                continue
            try:
                connection = self.connections.admit(str(address[0]) if isinstance(address, tuple) else "")
                if connection is None:
                    made.close()
                else:
                    connection.end = self._keep(self._open(made, connection)).cancel
            except Exception as error:
                made.close()
                self.faults.note("a connection could not be taken", error)
            # a flood of connections must not keep the loop from everything else
            await asyncio.sleep(0)

    async def _open(self, made: socket.socket, connection: Connection) -> None:
        """Speak TLS where it is spoken, and hand the connection to uvicorn's protocol."""
        state = {**self.lifespan.state, KEY: connection}
        times = {"ssl_handshake_timeout": self.limits.head, "ssl_shutdown_timeout": PATIENCE} if self.config.ssl else {}
        opened = False
        try:
            with contextlib.suppress(OSError):
                await asyncio.get_running_loop().connect_accepted_socket(
                    lambda: Http(self.config, self.server_state, state), made, ssl=self.config.ssl, **times
                )
                opened = True
        finally:
            if not opened:
                connection.lost()
                made.close()
