"""A small server on loopback that speaks the hub's protocol, with faults that a test switches on.

It answers HEAD and GET of `/<owner>/<name>/resolve/<revision>/<file>`. A large file is redirected to another host, as the hub does with
files in its large storage; `localhost` is that other host here.
"""

from __future__ import annotations

import hashlib
import os
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"
# what is larger lies in the large storage
LARGE = 100_000
_CHUNK = 16_384


@dataclass
class Faults:
    """Faults of the server; none by default."""

    # the connection ends once these bytes of a large file are out, counted from the file's beginning
    cut_at: int | None = None
    # how it ends: an orderly close, or a reset
    reset: bool = False
    # how many times it ends; after that the server is well
    cuts: int = 1_000_000
    # the transfer stops at `cut_at` and goes on when `go_on` is set, in place of ending
    pause: bool = False
    # Range is not heeded
    no_ranges: bool = False
    # so many bytes at the end of a large file are neither sent nor announced with it, though the HEAD request counted them
    short_by: int = 0
    # the content of a large file is another than its ETag says
    damaged: bool = False
    # status and X-Error-Code for every request
    refuse: tuple[int, str] | None = None
    # no headers of a hub's, as from a login page
    login_page: bool = False
    # no answer to anything until `go_on` is set
    silent: bool = False


@dataclass(frozen=True)
class Request:
    """A request as the server saw it."""

    method: str
    path: str
    range: str | None
    authorized: bool


@dataclass
class HubServer:
    """Serves `repositories` {owner/name: {file: content}} while the block is entered."""

    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)
    requests: list[Request] = field(default_factory=list)
    go_on: threading.Event = field(default_factory=threading.Event)
    # set when a transfer has stopped at `cut_at`
    paused: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> HubServer:
        hub = self

        class Handler(_Handler):
            server_of = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        # a stop waits for the next poll
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server; connections to it are refused from then on."""
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()

    def asked(self, method: str) -> list[Request]:
        """The requests for files by this method, in order."""
        return [each for each in self.requests if each.method == method and not each.path.startswith("/api/")]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of: HubServer

    def log_message(self, *_: object) -> None:
        """Keep the server off the screen."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub, faults = self.server_of, self.server_of.faults
        hub.requests.append(Request(self.command, self.path, self.headers.get("Range"), "Authorization" in self.headers))
        if faults.silent:
            hub.go_on.wait(60)
            self.close_connection = True
        elif faults.refuse:
            self._error(*faults.refuse)
        elif faults.login_page:
            self._send(200, b"<html>log in</html>", {"Content-Type": "text/html", "ETag": '"5f-61"'})
        elif self.path.startswith("/large/"):
            self._large(self.path.removeprefix("/large/"))
        elif "/resolve/" in self.path:
            self._resolve()
        else:
            self._error(404, "")

    def _resolve(self) -> None:
        name, _, rest = unquote(self.path).strip("/").partition("/resolve/")
        revision, _, file = rest.partition("/")
        files = self.server_of.repositories.get(name)
        if files is None:
            return self._error(404, "RepoNotFound")
        if revision not in ("main", COMMIT):
            return self._error(404, "RevisionNotFound")
        if file not in files:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        content = files[file]
        headers = {"X-Repo-Commit": COMMIT}
        if len(content) <= LARGE:
            digest = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            sent = content[::-1] if self.server_of.faults.damaged and self.command == "GET" else content
            return self._send(200, sent, {**headers, "ETag": f'"{digest}"'})
        digest = hashlib.sha256(content).hexdigest()
        headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
        return self._send(302, b"", {**headers, "Location": f"http://localhost:{self.server_of.port}/large/{digest}"})

    def _large(self, digest: str) -> None:
        hub, faults = self.server_of, self.server_of.faults
        every = [content for files in hub.repositories.values() for content in files.values()]
        content = next(each for each in every if hashlib.sha256(each).hexdigest() == digest)
        start, byte_range = 0, self.headers.get("Range")
        if byte_range and not faults.no_ranges:
            start = int(byte_range.removeprefix("bytes=").partition("-")[0])
        if faults.short_by:
            content = content[: -faults.short_by]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        sent = content[::-1] if faults.damaged else content
        stops = faults.cut_at is not None and faults.cuts > 0
        first = max(start, faults.cut_at or 0) if stops else len(content)
        self._write(sent[start:first])
        if stops:
            faults.cuts -= 1
            self._stop(sent[first:])

    def _stop(self, rest: bytes) -> None:
        hub, faults = self.server_of, self.server_of.faults
        if faults.pause:
            hub.paused.set()
            hub.go_on.wait(60)
            self._write(rest)
            return
        if faults.reset:
            # a reset discards what the client has not fetched yet
            time.sleep(0.2)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())
        self.close_connection = True

    def _write(self, content: bytes) -> None:
        try:
            for start in range(0, len(content), _CHUNK):
                self.wfile.write(content[start : start + _CHUNK])
            self.wfile.flush()
        except OSError:
            # the client has gone
            self.close_connection = True

    def _error(self, status: int, code: str) -> None:
        self._send(status, b"", {"X-Error-Code": code} if code else {})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self._write(content)
