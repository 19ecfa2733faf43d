"""Delayed Ctrl-C, SIGTERM and SIGHUP: they wait for work that must be completed, such as a library's write in the middle of a file."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from fastloc.utils.termination import SIGNALS, Termination, comes_again


class Interrupts:
    """Within this context the first signal raises as ever, but only once no `held` block is open; later ones do nothing.

    Ctrl-C raises KeyboardInterrupt; SIGTERM and SIGHUP raise its subclass Terminated, within a Termination. Elsewhere than in the main
    thread, and for a signal that somebody else handles, nothing changes.
    """

    def __init__(self) -> None:
        self._asked = self._held = False
        self._waits: int | None = None
        self._usual: dict[int, Callable[[int, FrameType | None], Any]] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, *SIGNALS):
                usual = signal.getsignal(number)
                if callable(usual) and (usual is signal.default_int_handler or isinstance(getattr(usual, "__self__", None), Termination)):
                    self._usual[number] = usual
                    signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._usual.items():
            signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """A block that is completed before an interruption is raised."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._waits is not None:
            number, self._waits = self._waits, None
            self._usual[number](number, None)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._asked or comes_again(number, frame):
            return
        self._asked = True
        if self._held:
            self._waits = number
        else:
            self._usual[number](number, frame)
