"""Connections to the live page: deadlines for silent ones and half requests, room for new clients, and a short log."""

import asyncio
import contextlib
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("websockets")

from fastloc.cli.live import bound
from fastloc.live.limits import Limits
from fastloc.web_server.connections import Connection, Connections, descriptors
from fastloc.web_server.fault_log import FaultLog
from live_client import Bright, joined, sent
from live_fixtures import bright_fixture  # noqa: F401
from live_process import live_process
from live_server import served, until


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


@contextlib.contextmanager
def opened(address: str, *contents: bytes) -> Iterator[list[socket.socket]]:
    """A connection for each content, which is all that is sent at first."""
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.create_connection(("127.0.0.1", port_of(address)), timeout=10)) for _ in contents]
        for each, content in zip(found, contents, strict=True):
            each.sendall(content)
        yield found


def got(address: str, path: str = "/style.css") -> bytes:
    """The status line that a visitor gets."""
    with opened(address, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port_of(address)}\r\nConnection: close\r\n\r\n".encode()) as (visitor,):
        return visitor.recv(100).partition(b"\r\n")[0]


def handshake(address: str) -> bytes:
    return (
        f"GET /ws HTTP/1.1\r\nHost: {address.removeprefix('http://')}\r\nOrigin: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def frame(opcode: int, content: bytes = b"", last: bool = True) -> bytes:
    """A short WebSocket frame, masked by zeros."""
    return struct.pack("!BBI", last << 7 | opcode, 0x80 | len(content), 0) + content


def ended(client: socket.socket) -> bool:
    """True if the server ends a connection; the rest that it sends is read."""
    try:
        while client.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


HALF = b"GET / HTTP/1.1\r\nX: "


def test_half_sent_requests_take_no_descriptors_and_write_no_log(tmp_path: Path) -> None:
    errors = tmp_path / "errors"
    with live_process(errors, descriptors=64, token="correct-horse-battery") as (process, address):
        with opened(address, *[HALF, b""] * 60):
            assert [got(address) for _ in range(3)] == [b"HTTP/1.1 200 OK"] * 3
            files = Path(f"/proc/{process.pid}/fd")
            assert not files.exists() or len(list(files.iterdir())) < 64
        assert process.poll() is None
    assert errors.read_text() == ""


@pytest.mark.parametrize("content", [b"", HALF, b"G", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf"])
def test_what_is_half_sent_is_not_waited_for(bright: Bright, content: bytes) -> None:
    with served(bright, limits=Limits(head=0.2)) as (server, address):
        with opened(address, content) as (client,):
            began = time.monotonic()
            assert ended(client) and time.monotonic() - began < 2
        until(lambda: not len(server.connections))


def test_a_head_that_trickles_in_has_no_more_time_than_others(bright: Bright) -> None:
    with served(bright, limits=Limits(head=0.3)) as (_, address), opened(address, b"") as (client,):
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            for _ in range(200):
                client.sendall(b"X")
                time.sleep(0.02)
        assert time.monotonic() - began < 2


def test_a_connection_that_is_kept_may_wait_as_long_as_a_new_one(bright: Bright) -> None:
    with served(bright, limits=Limits(head=0.4)) as (server, address):
        asked = f"GET /state HTTP/1.1\r\nHost: 127.0.0.1:{port_of(address)}\r\n\r\n".encode()
        with opened(address, asked) as (client,):
            for _ in range(3):
                answer = b""
                while not answer.endswith(b"}"):
                    answer += client.recv(65536)
                assert answer.startswith(b"HTTP/1.1 200")
                time.sleep(0.2)
                client.sendall(asked)
            assert ended(client)
        until(lambda: not len(server.connections))


def test_clients_keep_their_place_whoever_comes(bright: Bright) -> None:
    with served(bright, limits=Limits(connections=6, head=30)) as (server, address), joined(address) as client:
        client.recv(timeout=10)
        with opened(address, *[HALF] * 20) as crowd:
            assert got(address) == b"HTTP/1.1 200 OK"
            assert len(server.connections) <= 6
            # the oldest went first
            assert ended(crowd[0])
            client.send(sent(1))
            while not isinstance(client.recv(timeout=10), bytes):
                pass


def test_a_websocket_is_opened_by_get_alone(bright: Bright) -> None:
    with served(bright) as (server, address):
        with opened(address, handshake(address).replace(b"GET", b"POST", 1)) as (client,):
            assert client.recv(1000).startswith(b"HTTP/1.1 400") and ended(client)
        until(lambda: not len(server.connections) and not server.server_state.connections)


def test_who_answers_no_ping_loses_its_place(bright: Bright) -> None:
    """A cable was pulled: neither an end nor a pong comes."""
    with served(bright, limits=Limits(pulse=0.1)) as (server, address), opened(address, handshake(address)) as (_,):
        until(lambda: server.live.state["clients"])
        began = time.monotonic()
        until(lambda: not server.live.state["clients"])
        assert time.monotonic() - began < 2


@pytest.mark.parametrize("limit", [{"stuck": 0.3}, {"pulse": 0.3}], ids=str)
def test_who_reads_nothing_loses_its_place(bright: Bright, monkeypatch: pytest.MonkeyPatch, limit: dict[str, float]) -> None:
    """Nothing that the server sends is taken, its closing frame neither."""
    monkeypatch.setattr("fastloc.live.app.FAREWELL", 0.1)
    monkeypatch.setattr("fastloc.web_server.server.PATIENCE", 0.1)

    def bound_small(host: str, port: int) -> socket.socket:
        """A bound socket whose accepted ones have small buffers too, which are soon full."""
        made = bound(host, port)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return made

    monkeypatch.setattr("live_server.bound", bound_small)
    limits = Limits(**{"stuck": 60, "pulse": 60, "fps": 100_000, "head": 0.3, **limit})
    texts = tuple(f"text {i}" for i in range(12))
    with served(bright, texts, limits=limits) as (server, address), socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(10)
        client.connect(("127.0.0.1", port_of(address)))
        client.sendall(handshake(address))
        until(lambda: server.live.state["clients"])
        began, picture = time.monotonic(), sent(1)
        message = struct.pack("!BBHI", 0x82, 0x80 | 126, len(picture), 0) + picture
        with contextlib.suppress(ConnectionError, TimeoutError):
            while server.live.state["clients"]:
                client.sendall(message)
        until(lambda: not server.live.state["clients"] and not len(server.connections))
        assert time.monotonic() - began < 8


FLOODS = {"pings": frame(9, b"x" * 100) * 1000, "pieces": frame(1, b"", last=False) + frame(0, b"", last=False) * 3000}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS.keys())
def test_floods_of_frames_that_are_no_messages_are_cut_off(bright: Bright, flood: bytes) -> None:
    with served(bright, limits=Limits(fps=1)) as (server, address), opened(address, handshake(address)) as (client,):
        until(lambda: server.live.state["clients"])
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            client.sendall(flood)
        assert ended(client)
        until(lambda: not server.live.state["clients"])
        assert time.monotonic() - began < 3


RUBBISH = {"no frame": frame(3, b"x"), "behind a close": frame(8, b"\x03\xe8") + frame(1, b"\xff\xfe"), "no UTF-8": frame(1, b"\xff\xfe")}


@pytest.mark.parametrize("content", RUBBISH.values(), ids=RUBBISH.keys())
def test_rubbish_ends_a_websocket_without_a_word_in_the_log(bright: Bright, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    with served(bright) as (server, address), opened(address, handshake(address)) as (client,):
        assert client.recv(1000).startswith(b"HTTP/1.1 101")
        began = time.monotonic()
        client.sendall(content)
        assert ended(client)
        until(lambda: not len(server.connections) and not server.live.state["clients"])
        assert time.monotonic() - began < 3
    assert capsys.readouterr().err == ""


def test_rubbish_behind_an_answer_ends_a_connection_without_a_word_in_the_log(bright: Bright, capsys: pytest.CaptureFixture[str]) -> None:
    with served(bright) as (server, address):
        head = f"GET /state HTTP/1.1\r\nHost: 127.0.0.1:{port_of(address)}\r\nTransfer-Encoding: chunked\r\n\r\n"
        with opened(address, head.encode()) as (client,):
            answer = b""
            while not answer.endswith(b"}"):
                answer += client.recv(1000)
            client.sendall(b"ZZZ\r\n")
            assert ended(client)
        until(lambda: not len(server.connections))
    assert capsys.readouterr().err == ""


def test_tls_that_is_half_spoken_is_not_waited_for(bright: Bright, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    openssl = pytest.importorskip("shutil").which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run([openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(key),
                    "-out", str(certificate), "-days", "1", "-subj", "/CN=localhost"], check=True, capture_output=True)  # fmt: skip
    with served(bright, secure=True, certificate=(certificate, key), limits=Limits(head=0.3, connections=5)) as (server, address):
        with opened(address, b"", b"\x16\x03\x01\x02\x00\x01", b"no TLS") as clients:
            assert all(ended(client) for client in clients)
        until(lambda: not len(server.connections))
        context = ssl.create_default_context(cafile=str(certificate))
        context.check_hostname = False
        with opened(address, *[b""] * 12), socket.create_connection(("127.0.0.1", port_of(address)), timeout=10) as made:
            assert len(server.connections) <= 5
            with context.wrap_socket(made) as visitor:
                visitor.sendall(f"GET /state HTTP/1.1\r\nHost: 127.0.0.1:{port_of(address)}\r\n\r\n".encode())
                assert visitor.recv(1000).startswith(b"HTTP/1.1 200")
    assert capsys.readouterr().err == ""


def at(loop_work: Any) -> None:
    async def run() -> None:
        loop_work()

    asyncio.run(run())


def admitted(table: Connections, address: str) -> Connection:
    found = table.admit(address)
    assert found is not None
    return found


def test_one_network_has_a_share_of_all_places() -> None:
    def work() -> None:
        table = Connections(Limits(connections=100, clients=4))
        assert (table.most, table.each) == (100, 25)
        flood = [admitted(table, f"2001:db8::{i:x}") for i in range(40)]
        # a /64 is one network; 4 more would be another
        assert len(table) == 25 and flood[0] not in table._open and flood[-1] in table._open
        other = admitted(table, "2001:db8:0:1::1")
        assert len(table) == 26
        # those that are at work stay, and then no other client of that network comes in
        for each in table._open:
            each.begin(None)
        assert table.admit("2001:db8::1") is None and table.admit("192.0.2.1") is not None
        other.finish()
        assert other.idle

    at(work)


def test_through_this_machine_everybody_may_come() -> None:
    def work() -> None:
        table = Connections(Limits(connections=100))
        for _ in range(100):
            admitted(table, "127.0.0.1")
        assert len(table) == 100 and table.admit("::1") is not None and len(table) == 100

    at(work)


def test_a_full_house_makes_room_in_the_most_crowded_network() -> None:
    def work() -> None:
        table = Connections(Limits(connections=10, clients=4))
        first = admitted(table, "192.0.2.1")
        crowd = [admitted(table, "198.51.100.1") for _ in range(9)]
        newest = admitted(table, "203.0.113.1")
        assert first in table._open and newest in table._open and crowd[0] not in table._open
        for each in list(table._open):
            each.begin(None)
        assert table.admit("203.0.113.2") is None and len(table) == 10

    at(work)


def test_a_process_of_few_descriptors_has_fewer_connections() -> None:
    assert Connections(Limits(connections=100), most=40).most == 40
    assert 8 <= Connections(Limits(connections=10**6)).most <= descriptors() // 2


def test_the_log_is_short_however_often_something_happens(capsys: pytest.CaptureFixture[str]) -> None:
    log = FaultLog("fastloc: live")
    for i in range(1000):
        log.note(f"\x1b[31mnumber {i}", ZeroDivisionError("of ours"))
    output = capsys.readouterr().err
    assert output.count("ZeroDivisionError: of ours") == 5 and "\x1b" not in output
    log._rate._at -= 10
    log.note("again")
    assert capsys.readouterr().err == "fastloc: live: again (995 more are left out)\n"
