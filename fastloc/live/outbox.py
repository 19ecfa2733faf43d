"""The messages that wait for one client: the newest answer, and few words. However slowly it reads, no more than that wait."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from typing import Any

from fastloc.live.messages import written

__all__ = ["SendBuffer"]

# words that wait; those that every answer repeats anyway
ROOM = 64


class SendBuffer:
    """Filled from any thread, emptied on the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._filled = loop, asyncio.Event()
        self._lock = threading.Lock()
        self._words: deque[str] = deque(maxlen=ROOM)
        self._answer: bytes | None = None

    def say(self, **words: Any) -> None:
        """Put a JSON message in; with more than ROOM waiting, the oldest is forgotten."""
        with self._lock:
            self._words.append(written(words).decode())
        self._wake()

    def answer(self, message: bytes) -> bool:
        """Put an answer in. Returns whether one that still waited was replaced."""
        with self._lock:
            replaced, self._answer = self._answer is not None, message
        self._wake()
        return replaced

    @property
    def full(self) -> bool:
        """True while an answer still waits."""
        return self._answer is not None

    async def next(self) -> list[str | bytes]:
        """The waiting messages, words first, once there is one."""
        await self._filled.wait()
        with self._lock:
            self._filled.clear()
            found: list[str | bytes] = [*self._words]
            self._words.clear()
            if self._answer is not None:
                found.append(self._answer)
            self._answer = None
        return found

    def _wake(self) -> None:
        # the loop has ended where the server is being shut down
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._filled.set)
