"""Fixtures of the live page's tests; a test module that imports one uses it by its name there."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from fastloc.live.app import Live
from live_client import HOST, ORIGIN, Bright, Client, live_of
from live_server import until


@pytest.fixture(name="bright")
def bright_fixture() -> Bright:
    return Bright()


@pytest.fixture(name="open_live")
def open_live_fixture() -> Iterator[Callable[..., tuple[Live, Callable[[], Any]]]]:
    """Makes a server and a way to connect to it; all of it is closed in the end."""
    with contextlib.ExitStack() as stack:

        def make(localizer: Any, **more: Any) -> tuple[Live, Callable[[], Any]]:
            live = live_of(localizer, **more)
            browser = stack.enter_context(TestClient(live.app, base_url=f"http://{HOST}"))

            def join() -> Client:
                made = Client(stack.enter_context(browser.websocket_connect(f"ws://{HOST}/ws", headers=ORIGIN)))
                stack.callback(_leave, live, made, made.words("welcome")["client"])
                made.words("settings")
                return made

            return live, join

        yield make


def _leave(live: Live, client: Client, number: int) -> None:
    """Hang up, and wait for the server to have noticed: else the test client cancels it in the middle."""
    client.socket.close()
    until(lambda: all(each["client"] != number for each in live.state["clients"]))
