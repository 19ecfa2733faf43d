"""Access to the page: from its own address alone, with its own scripts alone, and with a token where others can reach the port."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastloc.errors import FastlocError
from fastloc.web_server.attempts import Attempts

__all__ = ["Guard", "Pages", "Rules", "rules"]

# letters of a token that is given
SHORTEST = 12
PORTS = 65535
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=(), display-capture=()",
}
# a Host header: a name or an address, and a port
_NAME = r"[A-Za-z0-9._-]{1,253}"
_HOST = re.compile(rf"(?:\[(?P<six>[0-9A-Fa-f:.]{{2,45}})\]|(?P<name>{_NAME}))(?::(?P<port>[0-9]{{1,5}}))?")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src {connect}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True)
class Rules:
    """hosts: names that the Host header may give; numbers: whether any IP address will do too (no name can be bound to another address
    behind the browser's back there); token: what has to be known, "" for nothing; cookie: the name of what stands for it; secure: https;
    ticket: what stands for it, another at each start."""

    hosts: tuple[str, ...]
    numbers: bool
    token: str = field(repr=False)
    cookie: str = "fastloc"
    secure: bool = False
    # the cookie's content: not made of the token, so that it cannot be used to try tokens
    ticket: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)

    def known(self, token: str) -> bool:
        """True for the right token, after a time that reveals neither how much of it is right nor how long it is."""
        return hmac.compare_digest(_digest(token), _digest(self.token))

    def signed_in(self, connection: HTTPConnection) -> bool:
        """True for a request with the cookie, or where none is needed."""
        return not self.token or hmac.compare_digest(_digest(connection.cookies.get(self.cookie, "")), _digest(self.ticket))

    def served(self, host: str) -> str | None:
        """The name and port that a Host header gives, if it is one of ours, and else None; an address elsewhere that a name was bound to
        (DNS rebinding) is not ours."""
        found = _HOST.fullmatch(host)
        if found is None:
            return None
        name, port = (found["six"] or found["name"]).lower(), found["port"]
        if port is not None and not 0 < int(port) <= PORTS:
            return None
        number = _number(name)
        if (found["six"] and getattr(number, "version", 4) != 6) or not (name in self.hosts or (self.numbers and number is not None)):
            return None
        return (f"[{name}]" if found["six"] else name) + (f":{int(port)}" if port else "")


def rules(
    host: str, port: int, token: str | None = None, names: Sequence[str] = (), secure: bool = False, program: str = "fastloc_live"
) -> Rules:
    """The rules for a server bound to a host. Any host but loopback has a token, made up where none is given.

    Raises FastlocError for a token that is too short to be one, and for a name that is none.
    """
    if token is not None and len(token) < SHORTEST:
        raise FastlocError(f"--token must have {SHORTEST} letters or more, got {len(token)}; leave it out for a random one")
    for name in names:
        if not re.fullmatch(_NAME, name) and _number(name) is None:
            raise FastlocError(f"--allow-host must be a host's name or address, got {name!r}; leave scheme, port and brackets out")
    number = _number(host)
    local = host == "localhost" or (number is not None and number.is_loopback)
    own = ["localhost", "127.0.0.1", "::1", host.lower()]
    if not local:
        machine = socket.gethostname().lower()
        own += [machine, f"{machine}.local", socket.getfqdn().lower()]
        token = token or secrets.token_urlsafe(24)
    # cookies do not distinguish ports
    return Rules((*own, *(name.lower() for name in names)), not local, token or "", f"{program}_{port}", secure)


class Pages(Protocol):
    """A server's own form of what a guard answers."""

    def refusal(self, status: int, title: str, why: str) -> Response:
        """The answer to a request that is not let through."""
        ...

    def signed_in(self) -> Response:
        """The answer to a token that came with the address: a page that goes on to "/"."""
        ...


class Guard:
    """Lets requests through to the app that keep to the rules, and answers others with the reason of refusal.

    Args:
        pages: the server's answers to those who do not get in, and to one who just did.
        open_paths: paths that need no token.
    """

    def __init__(
        self, app: ASGIApp, rules: Rules, pages: Pages, open_paths: Sequence[str] = (), attempts: Attempts | None = None
    ) -> None:
        self.app, self.rules, self.pages, self.open_paths, self.attempts = app, rules, pages, open_paths, attempts or Attempts()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        host = connection.headers.get("host", "")
        served = self.rules.served(host)
        refusal = self._refusal(connection, host, served)
        if refusal is not None and scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
            return
        await (refusal or self.app)(scope, receive, _with_headers(send, served))

    def _refusal(self, connection: HTTPConnection, host: str, served: str | None) -> Response | None:
        if served is None:
            why = f"It is not served as {host[:80]!r}: use the address that was printed."
            return self.pages.refusal(403, "This is not this page's address", why)
        if connection.scope["type"] == "websocket" and not self._own(connection.headers, host):
            return PlainTextResponse("another page may not speak to this server", 403)
        origin = connection.headers.get("origin", "")
        if connection.scope.get("method") == "POST" and origin and origin.partition("://")[2] != host:
            return self.pages.refusal(403, "Another page may not speak to this server", "The request's Origin is not its Host.")
        if connection.scope["type"] == "http" and connection.scope["path"] == "/" and "token" in connection.query_params:
            return self._wrong(connection, connection.query_params["token"]) or self._sign_in()
        if connection.scope["path"] in self.open_paths or self.rules.signed_in(connection):
            return None
        kind, _, given = connection.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self._wrong(connection, given)
        if connection.scope["type"] == "websocket":
            return PlainTextResponse("a token is needed", 401)
        why = "Open the address that was printed where the server was started, with its token."
        return self.pages.refusal(401, "A token is needed", why)

    def _wrong(self, connection: HTTPConnection, token: str) -> Response | None:
        """The refusal of a token that is wrong, or that comes too soon after earlier ones; None for the right one."""
        if not self.rules.token:
            return None
        address = connection.client.host if connection.client else ""
        if wait := self.attempts.wait(address):
            refusal = self.pages.refusal(429, "Too many wrong tokens", f"A token is looked at again in {wait} s.")
            refusal.headers["Retry-After"] = str(wait)
            return refusal
        if self.rules.known(token):
            return None
        self.attempts.failed(address)
        why = "Open the address that was printed where the server was started; each start may have another token."
        return self.pages.refusal(401, "This token is not right", why)

    def _own(self, headers: Headers, host: str) -> bool:
        """True for a WebSocket that a page from this very address opened."""
        return headers.get("origin", "") == f"{'https' if self.rules.secure else 'http'}://{host}"

    def _sign_in(self) -> Response:
        """A cookie in exchange for the token, which then leaves the address bar and the history."""
        # a redirect would be answered without a SameSite cookie where the address was clicked on another site
        page = self.pages.signed_in()
        if self.rules.token:
            page.set_cookie(self.rules.cookie, self.rules.ticket, httponly=True, samesite="strict", secure=self.rules.secure, path="/")
        return page


def _with_headers(send: Send, served: str | None) -> Send:
    # some browsers do not take WebSockets of this very address for 'self'
    policy = _POLICY.format(connect="'self'" if served is None else f"'self' ws://{served} wss://{served}")

    async def sent(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            headers = MutableHeaders(scope=message)
            for name, value in {**HEADERS, "Content-Security-Policy": policy}.items():
                headers[name] = value
        await send(message)

    return sent


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _number(name: str) -> Any:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
