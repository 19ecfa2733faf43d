"""Limits of open connections: their number, their number from one network, and the time of each without a request.

Descriptors never run out: a connection that comes when all places are taken gets the place of the longest idle one, from the most
crowded network.
Idle is a connection that waits for (the rest of) a request, half-sent ones and those without a token included, or that is being closed; a
client of the page and a request that is being answered are not.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from fastloc.web_server.attempts import network

__all__ = ["KEY", "Connection", "ConnectionLimits", "Connections", "Tracked"]

# a connection's name in the state of its requests
KEY = "fastloc.connection"
# connections for each network: this share of all, and of a server of many clients these more than it has clients
SHARE, MORE = 4, 16


class ConnectionLimits(Protocol):
    """A server's limits, of which these are its connections'.

    Attributes:
        head: seconds for a request's head, a TLS handshake, and between two requests
        stuck: seconds that a request may take, its answer included
        clients: clients that the server is for
        connections: that may be open at a time
    """

    @property
    def head(self) -> float: ...
    @property
    def stuck(self) -> float: ...
    @property
    def clients(self) -> int: ...
    @property
    def connections(self) -> int: ...


class Connection:
    """One open connection, from the moment that it is accepted. end: ends it at once."""

    def __init__(self, table: Connections, place: str) -> None:
        self.place, self.end = place, _nothing
        self._table, self._loop = table, asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        # requests that are being answered; a second one may have come before the first one's task has ended
        self._requests, self._ended = 0, False
        self._wait(table.limits.head)

    @property
    def idle(self) -> bool:
        """True while nothing is being answered."""
        return not self._requests

    def begin(self, seconds: float | None) -> None:
        """Note the start of a request; its answer may take so many seconds, or any time."""
        self._requests += 1
        self._wait(seconds)

    def finish(self) -> None:
        """Note the end of a request; another one is awaited, or the end."""
        self._requests -= 1
        if self.idle:
            self._wait(self._table.limits.head)

    def drop(self) -> None:
        """End it at once."""
        self.lost()
        self.end()

    def lost(self) -> None:
        """Note that the connection has ended."""
        self._ended = True
        self._wait(None)
        self._table.forget(self)

    def _wait(self, seconds: float | None) -> None:
        self.since = self._loop.time()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None or self._ended else self._loop.call_later(seconds, self.drop)


class Connections:
    """The open connections. most: their number, if the limits allow for more than the process has descriptors for."""

    def __init__(self, limits: ConnectionLimits, most: int | None = None) -> None:
        self.limits = limits
        self.most = min(limits.connections, most or descriptors() // 2)
        self.each = max(self.most // SHARE, limits.clients + MORE)
        self._open: dict[Connection, None] = {}

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, address: str) -> Connection | None:
        """A place for a connection from this address, or None where all are taken by busy ones."""
        place = network(address)
        # through a proxy or a tunnel everybody comes from this machine
        if not _loopback(place):
            own = [each for each in self._open if each.place == place]
            if len(own) >= self.each and not self._end_one(own):
                return None
        if len(self._open) >= self.most and not self.end_idle():
            return None
        made = Connection(self, place)
        self._open[made] = None
        return made

    def end_idle(self) -> bool:
        """End the longest idle connection, from the most crowded network. Returns whether there was one."""
        return self._end_one(self._open)

    def forget(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self._open.pop(connection, None)

    def _end_one(self, among: Iterable[Connection]) -> bool:
        crowd = Counter(each.place for each in among)
        idle = [each for each in among if each.idle]
        if idle:
            max(idle, key=lambda each: (crowd[each.place], -each.since)).drop()
        return bool(idle)


class Tracked:
    """The app, wrapped so that a connection is notified when each of its requests begins and ends."""

    def __init__(self, app: ASGIApp, limits: ConnectionLimits) -> None:
        self.app, self.limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection: Connection | None = scope.get("state", {}).get(KEY)
        if connection is None:
            await self.app(scope, receive, send)
            return
        connection.begin(self.limits.stuck if scope["type"] == "http" else None)
        try:
            await self.app(scope, receive, send)
        finally:
            connection.finish()


def descriptors() -> int:
    """The number of files that this process may have open."""
    try:
        import resource
    except ImportError:
        # Windows: sockets are no files there
        return 2**16
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 2**16 if soft == resource.RLIM_INFINITY else max(soft, 16)


def _loopback(place: str) -> bool:
    try:
        return ipaddress.ip_address(place).is_loopback
    except ValueError:
        return place == network("::1")


_nothing: Callable[[], object] = lambda: None  # noqa: E731
