"""A line on stderr while something takes long, so that a build of minutes does not look like a hang."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

__all__ = ["waiting"]

# seconds before the first line: what is quicker needs none
PATIENCE = 3.0
# seconds between lines where they cannot be drawn over one another
APART = 15.0


@contextmanager
def waiting(what: str, patience: float = PATIENCE, apart: float = APART, stream: TextIO | None = None) -> Iterator[None]:
    """Says what is waited for, and how long already, until the block is left; nothing at all for what takes less than `patience`.

    On a terminal one line counts the seconds; elsewhere, such as in a log, a line comes every `apart` seconds.
    """
    out = sys.stderr if stream is None else stream
    done, start = threading.Event(), time.monotonic()
    thread = threading.Thread(target=_tell, args=(what, done, start, patience, apart, out), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _tell(what: str, done: threading.Event, start: float, patience: float, apart: float, out: TextIO) -> None:
    if done.wait(patience):
        return
    live = out.isatty()
    while True:
        passed = time.monotonic() - start
        print(f"\r{what}: {passed:.0f} s" if live else f"{what}: {passed:.0f} s", end="" if live else "\n", file=out, flush=True)
        if done.wait(1.0 if live else apart):
            break
    print(f"{chr(13) if live else ''}{what}: done in {time.monotonic() - start:.0f} s", file=out, flush=True)
