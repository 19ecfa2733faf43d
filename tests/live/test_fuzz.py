"""Mutated requests, WebSocket frames and pictures, over sockets and seeded: each ends, none is logged, and the page goes on."""

import contextlib
import random
import socket
import struct
from collections.abc import Callable

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("websockets")

from fastloc.live.limits import Limits
from live_client import Bright, picture, sent
from live_fixtures import bright_fixture  # noqa: F401
from live_server import served, until

HEADS = (
    b"GET / HTTP/1.1\r\nHost: HOST\r\n\r\n",
    b"POST /state HTTP/1.1\r\nHost: HOST\r\nContent-Length: 5\r\n\r\nhello",
    b"GET /state HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b'GET /?token=%ff HTTP/1.1\r\nHost: HOST\r\nCookie: a=b; fastloc_live="\\\r\nAuthorization: Bearer x\r\nExpect: 100-continue\r\n\r\n',
)
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: HOST\r\nOrigin: http://HOST\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
PIECES = (
    b"\r\n", b"\n", b"\x00", b"\xff", b": ", b"HTTP/1.1", b"websocket", b"POST", b"%00", b"//", b"..", b"Host: x\r\n", b"\xe2\x82",
    b"Content-Length: -1\r\n", b"Content-Length: 99999999999\r\n", b"Transfer-Encoding: chunked\r\n", b"A" * 5000,
)  # fmt: skip
CONTENTS = (b"", b"{", b'{"type":"ping","time":1}', b"\xff\xfe\x80", b"\x03\xe8bye", b"\x00", b"x" * 200, sent(1, picture()))


def mutated(rng: random.Random, content: bytes) -> bytes:
    found = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at, end = rng.randrange(len(found) + 1), rng.choice((0, 0, 1, 8))
        found[at : at + end] = rng.choice((rng.choice(PIECES), rng.randbytes(1), b""))
    return bytes(found)


def head(rng: random.Random) -> list[bytes]:
    return [mutated(rng, rng.choice((*HEADS, UPGRADE)))]


def frames(rng: random.Random) -> list[bytes]:
    """A WebSocket, and frames in it of which some cannot be."""
    found = b""
    for _ in range(rng.randint(1, 5)):
        content = rng.choice(CONTENTS)
        first = rng.choice((0x80, 0x80, 0x80, 0, 0xC0)) | rng.choice((0, 1, 1, 2, 2, 8, 9, 10, 3))
        length = bytes([0x80 | len(content)]) if len(content) < 126 else struct.pack("!BH", 0x80 | 126, len(content))
        found += bytes([first]) + length + bytes(4) + content
    return [UPGRADE, mutated(rng, found) if rng.random() < 0.2 else found]


@pytest.mark.parametrize("make", [head, frames])
def test_mutations_end_and_leave_nothing_behind(
    bright: Bright, capsys: pytest.CaptureFixture[str], make: Callable[[random.Random], list[bytes]]
) -> None:
    rng = random.Random(7)
    with served(bright, limits=Limits(fps=1000, head=0.3, idle=0.3, stuck=1, clients=100)) as (server, address):
        host = address.removeprefix("http://").encode()
        for _ in range(150):
            with socket.create_connection(("127.0.0.1", int(host.partition(b":")[2])), timeout=0.005) as client:
                for part in make(rng):
                    with contextlib.suppress(OSError):
                        client.sendall(part.replace(b"HOST", host))
                        client.recv(1000)
                if rng.random() < 0.3:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        until(lambda: not len(server.connections), "connections are kept")
        until(lambda: not server.live.state["clients"], f"places are kept: {server.live.state}")
        until(lambda: not server.server_state.connections and not server.server_state.tasks)
        with socket.create_connection(("127.0.0.1", int(host.partition(b":")[2])), timeout=10) as visitor:
            visitor.sendall(b"GET /state HTTP/1.1\r\nHost: HOST\r\n\r\n".replace(b"HOST", host))
            assert visitor.recv(1000).startswith(b"HTTP/1.1 200")
    assert capsys.readouterr().err == ""
