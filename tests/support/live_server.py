"""The live page's server for tests: in a thread of this process, on a free port."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastloc.cli.live import bound
from fastloc.live.app import Live
from fastloc.live.broadcast import Broadcast
from fastloc.live.limits import Limits
from fastloc.live.method_pool import Methods
from fastloc.live.server import PageServer
from fastloc.live.settings import Settings
from fastloc.web_server.security import rules

# seconds; a busy core takes its time
PATIENCE = 15


@contextmanager
def serving(localizer: Any, texts: tuple[str, ...] = ("cat", "pizza"), **more: Any) -> Iterator[tuple[Live, str]]:
    """The running page and its address, without a slash at the end."""
    with served(localizer, texts, **more) as (server, address):
        yield server.live, address


@contextmanager
def served(
    localizer: Any, texts: tuple[str, ...] = ("cat", "pizza"), *, hub: Broadcast | None = None, limits: Limits | None = None,
    methods: tuple[str, ...] = (), note: str = "", certificate: tuple[Path | None, Path | None] = (None, None), **rule: Any,
) -> Iterator[tuple[PageServer, str]]:  # fmt: skip
    """The running server of the page, and its address."""
    listening = bound("127.0.0.1", 0)
    port = listening.getsockname()[1]
    offered = Methods(localizer, methods)
    guard = rules("127.0.0.1", port, **rule)
    live = Live(offered, Settings(texts, (offered.first,)), limits or Limits(), guard, hub, side=320, note=note)
    server = PageServer(live, *certificate)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        until(lambda: server.started)
        yield server, f"{'https' if guard.secure else 'http'}://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        live.close()
        listening.close()


def until(so: Any, message: str = "this did not come about") -> Any:
    """Wait until a function returns something that is true, and return that."""
    end = time.monotonic() + PATIENCE
    while not (found := so()):
        assert time.monotonic() < end, message
        time.sleep(0.01)
    return found
