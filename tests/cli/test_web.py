"""The small server of `fastloc web --serve`: a client with half a request, or a hundred connections, keeps no other out for long."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastloc.cli import web


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    (tmp_path / "index.html").write_text("<!doctype html>")
    assert web.Handler.timeout == web.SILENCE
    monkeypatch.setattr(web.Handler, "timeout", 0.3)
    server = web.serving(tmp_path, 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def opened(port: int) -> socket.socket:
    return socket.create_connection((web.HOST, port), timeout=5)


def got(port: int) -> bytes:
    with opened(port) as visitor, contextlib.suppress(ConnectionError):
        visitor.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return visitor.recv(1000).partition(b"\r\n")[0]
    return b""


@pytest.mark.parametrize("content", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nX: "])
def test_half_a_request_is_not_waited_for(port: int, content: bytes) -> None:
    with opened(port) as client:
        client.sendall(content)
        began = time.monotonic()
        assert client.recv(1000) == b"" and time.monotonic() - began < 3


@pytest.mark.slow("holds connections open for ten seconds")
def test_many_connections_take_few_threads_and_keep_nobody_out_for_long(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    before = threading.active_count()
    with contextlib.ExitStack() as stack:
        for _ in range(2 * web.CONNECTIONS):
            stack.enter_context(opened(port)).sendall(b"GET / HTTP/1.1\r\nX: ")
        assert threading.active_count() <= before + web.CONNECTIONS
        end = time.monotonic() + 5
        while got(port) != b"HTTP/1.0 200 OK":
            assert time.monotonic() < end
            time.sleep(0.05)
    assert capsys.readouterr().err == ""
