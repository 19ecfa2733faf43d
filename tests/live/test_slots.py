"""Places of the live page's clients: free again at once, whatever a client does and whatever goes wrong."""

import asyncio
import contextlib
import sys
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("websockets")

from starlette.testclient import TestClient
from websockets.exceptions import ConnectionClosed

from fastloc.live import app
from fastloc.live.limits import Limits
from fastloc.live.method_pool import Methods
from fastloc.live.outbox import SendBuffer
from live_client import HOST, ORIGIN, Bright, joined, live_of, sent
from live_fixtures import bright_fixture, open_live_fixture  # noqa: F401
from live_server import serving, until
from repo import REPO


def wrong_at_once(client: Any) -> None:
    client.send("{")


def wrong_after_a_word(client: Any) -> None:
    client.recv(timeout=10)
    client.send("{")


def leaves_in_the_middle(client: Any) -> None:
    for number in range(1, 4):
        client.send(sent(number))


def asks_and_leaves(client: Any) -> None:
    client.send('{"type": "settings", "texts": ["bird"]}')


def is_gone(client: Any) -> None:
    client.send(sent(1))
    client.socket.close()


@pytest.mark.parametrize("does", [wrong_at_once, wrong_after_a_word, leaves_in_the_middle, asks_and_leaves, is_gone])
def test_a_place_is_free_again_whatever_its_client_does(bright: Bright, does: Callable[[Any], None]) -> None:
    with serving(bright, limits=Limits(clients=2, fps=1000)) as (live, address):
        for _ in range(8):
            with contextlib.suppress(ConnectionClosed), joined(address, close_timeout=0.5) as client:
                does(client)
                while does in (wrong_at_once, wrong_after_a_word):
                    client.recv(timeout=10)
            until(lambda: not live.state["clients"], f"a place is kept: {live.state}")
        with joined(address) as client:
            assert '"welcome"' in client.recv(timeout=10)


def test_tasks_end_even_where_a_cancellation_is_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As asyncio.wait_for does before Python 3.12, where the cancellation meets a finished future."""
    monkeypatch.setattr(app, "CANCEL", 0.05)
    swallowed = []

    async def stubborn(times: int) -> None:
        for _ in range(times):
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                swallowed.append(times)
        await asyncio.sleep(60)

    async def run() -> list[bool]:
        tasks = [asyncio.create_task(stubborn(times)) for times in (0, 1, 9)]
        await asyncio.sleep(0)
        await asyncio.wait_for(app._cancelled(tasks), 5)
        ended = [task.done() for task in tasks]
        while not tasks[2].done():
            tasks[2].cancel()
            await asyncio.sleep(0)
        return ended

    # the last one is given up, and keeps no place
    assert asyncio.run(run()) == [True, True, False] and swallowed[:2] == [1, 9]


def test_who_was_closed_under_our_feet_is_gone(bright: Bright) -> None:
    """uvicorn closes a connection at an invalid frame, and raises a RuntimeError in a later send."""

    class Closed:
        async def send_text(self, text: str) -> None:
            raise RuntimeError("Unexpected ASGI message")

    async def run() -> None:
        outbox = SendBuffer(asyncio.get_running_loop())
        outbox.say(type="welcome")
        await live._speak(Closed(), outbox)  # type: ignore[arg-type]

    live = live_of(bright)
    asyncio.run(run())
    live.close()


@pytest.mark.parametrize("room", ["fastloc", "benchmarks"])
def test_nothing_waits_by_what_loses_cancellations(room: str) -> None:
    if sys.version_info >= (3, 12):
        pytest.skip("asyncio.wait_for is asyncio.timeout there")
    found = [path for path in (REPO / room).rglob("*.py") if "asyncio.wait_for" in path.read_text(encoding="utf-8")]
    assert not found, f"asyncio.wait_for in {found}: use asyncio.timeout"


def test_a_fault_while_a_client_is_made_ready_is_reported_and_keeps_no_place(
    bright: Bright, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    live = live_of(bright)

    def broken(*_: Any) -> None:
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr(Methods, "setup", broken)
    with TestClient(live.app, base_url=f"http://{HOST}") as browser:
        with browser.websocket_connect(f"ws://{HOST}/ws", headers=ORIGIN) as socket:
            assert "ZeroDivisionError" in socket.receive_json()["message"]
            assert socket.receive()["code"] == 1011
        until(lambda: not live.state["clients"])
        assert "a client could not be served" in capsys.readouterr().err
        monkeypatch.undo()
        with browser.websocket_connect(f"ws://{HOST}/ws", headers=ORIGIN) as socket:
            assert socket.receive_json()["type"] == "welcome"


@pytest.mark.parametrize("error", [ZeroDivisionError("of ours"), OverflowError("too large"), MemoryError()])
def test_a_fault_in_settings_is_answered(
    open_live: Any, bright: Bright, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    _, join = open_live(bright)
    client = join()

    def broken(*_: Any) -> None:
        raise error

    monkeypatch.setattr(Methods, "setup", broken)
    answers = client.settings(texts=["bird"])
    assert answers["type"] == "problem" and type(error).__name__ in answers["message"]
    # and what is asked for next is looked at
    monkeypatch.undo()
    assert client.settings(texts=["bird"])["texts"] == ["bird"]
    assert "settings could not be changed" in capsys.readouterr().err
