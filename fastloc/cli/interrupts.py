"""Ctrl-C that waits for what must not be torn: a library's write in the middle of a file."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """Within this context the first Ctrl-C raises KeyboardInterrupt, as ever, but only once no `held` block is open; later ones do nothing.

    Elsewhere than in the main thread, and where somebody else handles the signal, nothing changes.
    """

    def __init__(self) -> None:
        self._asked = self._waits = self._held = self._installed = False

    def __enter__(self) -> "Interrupts":
        ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if ours:
            signal.signal(signal.SIGINT, self._handle)
        self._installed = ours
        return self

    def __exit__(self, *_: object) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """A block that is finished before it is interrupted."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._waits:
            self._waits = False
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            return
        self._asked, self._waits = True, self._held
        if not self._held:
            raise KeyboardInterrupt
