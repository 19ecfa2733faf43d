"""The live page over real sockets: no queue for a slow reader, and nothing left behind by a client that is gone."""

import gc
import socket
import subprocess
import sys
import threading
import weakref
from collections import deque

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("websockets")

from websockets.exceptions import ConnectionClosed

from fastloc.live.broadcast import Broadcast
from fastloc.live.limits import Limits
from fastloc.live.protocol import read_answer
from live_client import Bright, Film, joined, sent
from live_fixtures import bright_fixture  # noqa: F401
from live_server import serving, until


def test_a_slow_reader_gets_the_newest_and_no_queue(bright: Bright) -> None:
    texts = tuple(f"text {i}" for i in range(12))
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
    with serving(bright, texts, limits=Limits(fps=2000)) as (live, address):
        made.connect(("127.0.0.1", int(address.rpartition(":")[2])))
        with joined(address, sock=made, max_queue=1) as client:
            count = 0
            # nothing is read until the server cannot send any more, and has replaced some answers
            while not live.state["clients"] or live.state["clients"][0]["dropped"] < 10:
                count += 1
                assert count < 2000, "answers pile up somewhere"
                client.send(sent(count))
                until(lambda count=count: live.state["clients"] and live.state["clients"][0]["received"] >= count)
            until(lambda: (each := live.state["clients"][0])["answered"] + each["dropped"] >= count)
            got = []
            while not got or got[-1] < count:
                message = client.recv(timeout=10)
                if isinstance(message, bytes):
                    got.append(read_answer(message).facts["id"])
    assert got == sorted(set(got)) and len(got) < count, "those that were replaced are not sent"


def test_messages_beyond_the_limit_are_not_even_taken_in(bright: Bright) -> None:
    with serving(bright, limits=Limits(message=10000)) as (live, address), joined(address) as client:
        client.send(b"\x01" * 10001)
        with pytest.raises(ConnectionClosed, match="1009"):
            deque((client.recv(timeout=10) for _ in range(10)), maxlen=0)
        until(lambda: not live.state["clients"])


# connects a few times, sends a frame each, and waits to be killed
VICTIM = """
import sys, time
from websockets.sync.client import connect
address, frame = sys.argv[1], bytes.fromhex(sys.argv[2])
clients = [connect(address.replace("http", "ws") + "/ws", origin=address) for _ in range(3)]
clients = [client.__enter__() for client in clients]
for client in clients:
    client.send(frame)
print("ready", flush=True)
time.sleep(60)
"""


def ours() -> list[str]:
    """Names of the page's threads that run, without those that asyncio keeps for files and those of localizers that other tests left."""
    return sorted(each.name for each in threading.enumerate() if each.name.startswith("fastloc-"))


def test_a_killed_client_leaves_nothing_behind(bright: Bright) -> None:
    with serving(bright) as (live, address):
        bright.gate.clear()
        bright.entered.clear()
        with subprocess.Popen([sys.executable, "-P", "-c", VICTIM, address, sent(1).hex()], stdout=subprocess.PIPE) as victim:
            assert victim.stdout is not None and victim.stdout.readline() == b"ready\n"
            until(lambda: sum(each["received"] for each in live.state["clients"]) == 3)
            before = ours()
            sessions = [weakref.ref(each) for each in live._sessions.values()]
            # in the middle of a frame
            assert bright.entered.wait(10) and len(sessions) == live.engine.clients == 3
            victim.kill()
        bright.gate.set()
        until(lambda: not live.state["clients"] and not live.engine.clients, f"clients are left: {live.state}")
        until(lambda: gc.collect() is not None and all(each() is None for each in sessions), "sessions are held on to")
        assert ours() == before


def test_closing_ends_every_thread(bright: Bright) -> None:
    before = ours()
    source = Film(live=True)
    with serving(bright, hub=Broadcast(lambda: source, 30)) as (_, address), joined(address) as client:
        client.recv(timeout=10)
    until(lambda: ours() == before, f"threads are left: {ours()}")
    assert source.closed
