"""Servers for tests of connections: one that sends bytes and breaks off as set, and one that speaks HTTP."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# seconds after which a server gives up by itself
PATIENCE = 20


class Sender:
    """Answers each connection with the next of `answers`: bytes, then the connection is closed; (bytes, "hold"), then it stays silent.

    The last one answers all that follow. `connections` counts them.
    """

    def __init__(self, answers: Sequence[bytes | tuple[bytes, str]]) -> None:
        self.answers, self.connections, self.ended = list(answers), 0, threading.Event()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while not self.ended.is_set():
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            answer = self.answers[min(self.connections, len(self.answers) - 1)]
            self.connections += 1
            threading.Thread(target=self._answer, args=(connection, answer), daemon=True).start()

    def _answer(self, connection: socket.socket, answer: bytes | tuple[bytes, str]) -> None:
        content, hold = answer if isinstance(answer, tuple) else (answer, "")
        with connection:
            try:
                connection.sendall(content)
                if hold:
                    self.ended.wait(PATIENCE)
            except OSError:
                pass

    def close(self) -> None:
        self.ended.set()
        # a close alone does not wake accept
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join(PATIENCE)


@contextmanager
def sending(*answers: bytes | tuple[bytes, str]) -> Iterator[Sender]:
    sender = Sender(answers)
    try:
        yield sender
    finally:
        sender.close()


class Files(BaseHTTPRequestHandler):
    """GET of the server's `files`: path -> (status, bytes). With "Range", unless the path begins with /stream, which has no length either.

    The first answer to a path beginning with /break or /gone is cut after half of its bytes; what is /gone is not there afterwards. Of
    /hold the second half never comes.
    """

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server: Any = self.server
        server.asked.append(self.path)
        path = self.path.partition("?")[0]
        status, content = server.files.get(path, (404, b""))
        begun = server.asked.count(self.path) > 1
        if begun and path.startswith("/gone"):
            status, content = 404, b""
        endless = path.startswith("/stream")
        first = 0
        byte_range = self.headers.get("Range", "")
        if byte_range.startswith("bytes=") and status == 200 and not endless:
            first = int(byte_range[6:].partition("-")[0])
            status = 206
        self.send_response(status)
        self.close_connection = True
        self.send_header("Connection", "close")
        if path.endswith("mjpeg"):
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        if not endless:
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(content) - first))
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        half = path.startswith(("/break", "/gone", "/hold")) and not begun
        with suppress(OSError):
            self.wfile.write(content[first : first + (len(content) - first) // 2] if half else content[first:])
            self.wfile.flush()
        if path.startswith("/hold"):
            server.ended.wait(PATIENCE)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def http_server(files: dict[str, tuple[int, bytes]]) -> Iterator[Any]:
    """Yields the server: `.address` without a slash at its end, `.asked`, the paths in order."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Files)
    server.daemon_threads = True
    server.files, server.asked, server.ended = files, [], threading.Event()
    server.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        server.server_close()
        thread.join(PATIENCE)


def multipart(pictures: Sequence[bytes]) -> bytes:
    """JPEG files as an MJPEG stream over HTTP."""
    parts = (b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(data), data) for data in pictures)
    return b"".join(parts)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

