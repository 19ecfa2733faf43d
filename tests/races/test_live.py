"""The live page under clients that come and go, and ends at any moment: no thread, no descriptor, no error that nobody saw."""

import json
import socket
import threading
import time
from contextlib import suppress

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("websockets")

from websockets.exceptions import WebSocketException

from fastloc.live.limits import Limits
from fastloc.live.protocol import read_answer
from live_client import Aside, Bright, Film, joined, sent
from live_server import served
from watchdog import PATIENCE, clean, dice, in_threads, in_time

SEEDS, FAST = range(6), Limits(fps=1000)


@pytest.fixture(autouse=True, scope="module")
def loops_before() -> None:
    """libuv keeps a pipe for signals from its first loop on, and a library may keep a file from its first use on."""
    with served(Bright()) as (_, address), joined(address) as page:
        page.recv(10)


class Moody(Bright):
    """A localizer that now and then ends its thread, as a plug-in that calls sys.exit() would."""

    def __call__(self, picture: object, texts: object) -> object:  # type: ignore[override]
        if len(self.asked) % 7 == 3:
            self.asked.append(())
            raise SystemExit(3)
        return super().__call__(picture, texts)  # type: ignore[arg-type]


@pytest.mark.slow("more seeds", quick=2)
@pytest.mark.parametrize("seed", SEEDS)
def test_clients_come_and_go_until_the_server_ends(seed: int) -> None:
    with clean():
        in_time(lambda: visited(seed, Aside() if seed % 2 else Bright()))


def visited(seed: int, localizer: Bright) -> None:
    """A server, clients that send frames and settings and leave as they like, and an end in the middle of it."""
    random, over, came = dice(seed), threading.Event(), threading.Event()

    def visitor(number: int) -> int:
        own, answers = dice(10 * seed + number), 0
        while not over.is_set():
            with suppress(WebSocketException, OSError, TimeoutError), joined(address) as page:
                for frame in range(own.randrange(1, 12)):
                    if own.random() < 0.3:
                        page.send(json.dumps({"type": "settings", "texts": [own.choice(["cat", "dog"])]}))
                    page.send(sent(frame))
                    while isinstance(message := page.recv(5), str):
                        pass
                    answers += read_answer(message).facts["id"] == frame
                    came.set()
                # without a word, or as the protocol has it
                if own.random() < 0.5:
                    page.socket.shutdown(socket.SHUT_RDWR)
        return answers

    def end() -> int:
        came.wait(PATIENCE)
        time.sleep(random.uniform(0, 0.5))
        server.should_exit = True
        over.set()
        return 1

    with served(localizer, limits=FAST) as (server, address):
        found = in_threads([*(lambda number=number: visitor(number) for number in range(3)), end])
    assert sum(found) > 1, "some answers came"


def test_a_localizer_that_ends_its_thread_ends_one_frame() -> None:
    with clean(), served(Moody(), limits=FAST) as (_, address), joined(address) as page:
        kinds = set()
        for frame in range(16):
            page.send(sent(frame))
            while True:
                message = page.recv(10)
                if isinstance(message, bytes):
                    kinds.add("answer")
                    break
                if "could not be located" in message:
                    kinds.add("problem")
                    break
        assert kinds == {"answer", "problem"}


def test_servers_that_start_and_end_leave_nothing() -> None:
    """Also with a source of their own, with nobody there, and at once."""
    from fastloc.live.broadcast import Broadcast

    with clean():
        for turn in range(5):
            hub = Broadcast(lambda: Film(live=True), 30) if turn % 2 else None
            with served(Bright(), hub=hub) as (_, address):
                if turn > 2:
                    with joined(address) as page:
                        page.recv(5)
