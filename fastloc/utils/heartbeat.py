"""A line on standard error while something takes long, so that a build of minutes does not look like a hang."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from fastloc.utils.terminal import printable

__all__ = ["waiting"]

# seconds before the first line: what is quicker needs none
PATIENCE = 3.0
# seconds between lines where they cannot be drawn over one another
APART = 15.0


@contextmanager
def waiting(what: str, patience: float = PATIENCE, apart: float = APART, stream: TextIO | None = None) -> Iterator[Callable[[str], None]]:
    """Print the name of a long step and its elapsed seconds until the block ends; a step shorter than `patience` seconds prints nothing.

    Yields a function that takes the progress, in words, for the lines to come. On a terminal one line counts the seconds; elsewhere, such
    as in a log, a line comes every `apart` seconds.
    """
    beat = _Heartbeat(what, apart, sys.stderr if stream is None else stream)
    thread = threading.Thread(target=beat.run, args=(patience,), daemon=True)
    thread.start()
    try:
        yield beat.say
    finally:
        beat.done.set()
        thread.join()


class _Heartbeat:
    def __init__(self, what: str, apart: float, out: TextIO) -> None:
        self.label, self.apart, self.out, self.far = printable(what), apart, out, ""
        self.done, self.start = threading.Event(), time.monotonic()

    def say(self, far: str) -> None:
        self.far = printable(far)

    def run(self, patience: float) -> None:
        if self.done.wait(patience):
            return
        live, widest = self.out.isatty(), 0
        while True:
            line = f"{self.label}: {self.far}{', ' if self.far else ''}{time.monotonic() - self.start:.0f} s"
            # a shorter line covers the longer one before it
            widest = max(widest, len(line))
            print(f"\r{line:{widest}}" if live else line, end="" if live else "\n", file=self.out, flush=True)
            if self.done.wait(1.0 if live else self.apart):
                break
        line = f"{self.label}: done in {time.monotonic() - self.start:.0f} s"
        print(f"\r{line:{widest}}" if live else line, file=self.out, flush=True)
