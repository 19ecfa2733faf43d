"""The server under the live page: HTTP and WebSockets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import WebSocketException

from fastloc.web_server.connections import KEY, Connection
from fastloc.web_server.rate import Rate
from fastloc.web_server.server import PATIENCE, Server

if TYPE_CHECKING:
    from websockets.frames import Frame

    from fastloc.live.app import Live

__all__ = ["PageServer"]

# pings of a client a second and at once, and pieces of one message
PINGS, PIECES = 10, 1000


class Sockets(WebSocketsSansIOProtocol):
    """A WebSocket, cut off where it floods the server with what the app does not see."""

    def __init__(self, config: uvicorn.Config, server_state: Any, app_state: dict[str, Any], _loop: Any = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.connection: Connection = app_state[KEY]
        self._pings = Rate(PINGS, burst=PINGS)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.connection.lost()

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except WebSocketException:
            # rubbish behind a close: no answer to it can be sent
            self.transport.abort()

    def handle_ping(self) -> None:
        if self._pings.allows():
            super().handle_ping()
        else:
            self.transport.abort()

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) < PIECES:
            super().handle_cont(event)
        else:
            self.transport.abort()

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        # what waits to be sent would hold the connection, and its client's place, for as long as it is not read
        self.loop.call_later(PATIENCE, self.transport.abort)


class PageServer(Server):
    """Serves the page on sockets that listen: `PageServer(live).run(sockets=[listening])`."""

    def __init__(self, live: Live, certificate: Path | None = None, key: Path | None = None) -> None:
        self.live, limits = live, live.limits
        super().__init__(
            live.app, limits, live.faults, certificate, key, ws=Sockets,
            # a JPEG does not get smaller, and uint8 heat hardly
            ws_per_message_deflate=False, ws_max_size=limits.message, ws_ping_interval=limits.pulse, ws_ping_timeout=2 * limits.pulse,
        )  # fmt: skip
