"""The server of the command: it answers what it has taken before it ends."""

from __future__ import annotations

from pathlib import Path
from types import FrameType

from starlette.types import ASGIApp

from fastloc.serve.service import Service
from fastloc.web_server.server import Server

__all__ = ["ServiceServer"]


class ServiceServer(Server):
    """Serves a service on sockets that listen: `ServiceServer(app, service).run(sockets=[listening])`.

    At the first signal `/readyz` turns 503 and new requests are refused with 503; it ends when those that it has are answered, or after
    `settings.drain` seconds. A second signal ends it at once.
    """

    def __init__(self, app: ASGIApp, service: Service, certificate: Path | None = None, key: Path | None = None) -> None:
        super().__init__(app, service.settings, service.faults, certificate, key, ws="none")
        self.service, self._left = service, service.settings.drain

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end."""
        super().handle_exit(sig, frame)
        if not self.service.draining:
            self.service.draining, self.should_exit = True, False

    async def on_tick(self, counter: int) -> bool:
        """uvicorn's look, ten times a second, at what is to be done; returns whether to end."""
        ended = await super().on_tick(counter)
        if not self.service.draining:
            return ended
        self._left -= 0.1
        return ended or not self.service.busy or self._left <= 0
