"""A service for tests: its guarded application under uvicorn, in a thread of this process, on a free port."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from fastloc.serve.app import application
from fastloc.serve.guard import guarded
from fastloc.serve.settings import Settings
from fastloc.web_server.security import rules
from live_server import PATIENCE, until


@contextmanager
def serving(localizer: Any, token: str | None = None, **settings: Any) -> Iterator[str]:
    """The address of a running service, without a slash at the end; settings are fields of `Settings`."""
    app = guarded(application(localizer, Settings(**settings)), rules("127.0.0.1", 0, token))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        until(lambda: server.started)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
