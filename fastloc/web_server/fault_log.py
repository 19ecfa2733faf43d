"""A log of what went wrong in the server itself: whole tracebacks, and few of them however often a client makes it happen."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
import threading
import traceback
from typing import Any

from fastloc.web_server.rate import Rate

__all__ = ["FaultLog"]

# that many at once, and then one in so many seconds
BURST, EVERY = 5, 10.0
# what a terminal would obey
_CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


class FaultLog:
    """Written to standard error, from any thread. program: the name that begins each line."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._lock, self._rate, self._unsaid = threading.Lock(), Rate(1 / EVERY, burst=BURST), 0

    def note(self, message: str, error: BaseException | None = None) -> None:
        """Write a line about an event, and the traceback of its error if there is one."""
        with self._lock:
            if not self._rate.allows():
                self._unsaid += 1
                return
            unsaid, self._unsaid = self._unsaid, 0
        lines = [f"{self._program}: {message}" + (f" ({unsaid} more are left out)" if unsaid else "")]
        if error is not None:
            lines += "".join(traceback.format_exception(error)).splitlines()
        # a log whose disk is full, or whose reader has gone, must not end the thread that has something to note
        with contextlib.suppress(OSError, ValueError):
            print(*(_CONTROLS.sub(" ", line) for line in lines), sep="\n", file=sys.stderr)

    def unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """The event loop's handler of uncaught errors."""
        self.note(str(context.get("message", "an error in the event loop")), context.get("exception"))
