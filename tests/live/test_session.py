"""Queues of the live page: the newest frame wins, clients take turns, and a fault ends nothing."""

from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("websockets")

from fastloc.live.limits import Limits
from fastloc.live.method_pool import Methods
from fastloc.live.protocol import Sent
from fastloc.live.session import Session
from fastloc.live.settings import Settings
from live_client import Bright, picture, sent
from live_fixtures import bright_fixture, open_live_fixture  # noqa: F401
from live_server import until


def test_the_newest_frame_wins(open_live: Any, bright: Bright) -> None:
    live, join = open_live(bright)
    client = join()
    bright.gate.clear()
    bright.entered.clear()
    client.frame(sent(1))
    assert bright.entered.wait(10)
    for number in range(2, 7):
        client.frame(sent(number))
    until(lambda: live.state["clients"][0]["received"] == 6)
    bright.gate.set()
    got = [client.answer().facts["id"]]
    while got[-1] < 6:
        got.append(client.answer().facts["id"])
    # the first answer may have been replaced before it was sent
    assert got in ([1, 6], [6])
    counted = {"client": 1, "texts": ["cat", "dog"], "received": 6, "answered": len(got), "dropped": 6 - len(got), "refused": 0}
    # an answer that was replaced is counted so a moment after the next one was sent
    until(lambda: live.state["clients"] == [counted])


def test_clients_are_served_in_turn(open_live: Any, bright: Bright) -> None:
    live, join = open_live(bright)
    clients = [join() for _ in range(3)]
    for name, client in zip("abc", clients, strict=True):
        client.settings(texts=[name])
    bright.gate.clear()
    clients[0].frame(sent(1))
    until(lambda: bright.entered.is_set())
    bright.asked.clear()
    # the first is much quicker than the others
    for number in range(2, 30):
        clients[0].frame(sent(number))
    for client in clients[1:]:
        client.frame(sent(1))
    until(lambda: sum(each["received"] for each in live.state["clients"]) == 31)
    bright.gate.set()
    until(lambda: len(bright.asked) == 4)
    assert bright.asked == [("a",), ("b",), ("c",), ("a",)]


def test_a_fault_does_not_end_the_page(open_live: Any, bright: Bright, capsys: pytest.CaptureFixture[str]) -> None:
    _, join = open_live(bright)
    client = join()
    bright.fault = ZeroDivisionError("of ours")
    client.frame(sent(1))
    assert "ZeroDivisionError" in client.words("problem")["message"]
    bright.fault = None
    client.frame(sent(2))
    assert client.answer().facts["id"] == 2
    assert "ZeroDivisionError: of ours" in capsys.readouterr().err


def test_sessions_take_nothing_once_closed(bright: Bright) -> None:
    methods = Methods(bright, ("other",))

    class Quiet:
        def say(self, **words: Any) -> None: ...
        def answer(self, message: bytes) -> bool:
            raise AssertionError("an answer for nobody")

    session = Session(1, methods.setup(Settings(("cat",), ("bright",))), Quiet(), Limits(), lambda: None)  # type: ignore[arg-type]
    session.close()
    session.receive(Sent(1, 0.0, 64, picture()))
    assert not session.ready
    session.work(0)
