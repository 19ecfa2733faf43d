"""Hand-over of items from one thread to the next: in turn and bounded, or the newest alone."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Generic, TypeVar

from fastloc.utils.fork_safety import renewed_after_fork

__all__ = ["POLICIES", "Channel"]

T = TypeVar("T")

POLICIES = {
    "every": "every frame in order; who puts waits while the channel is full",
    "newest": "one frame waits, and a newer one takes its place; who puts never waits",
}


class Channel(Generic[T]):
    """Items from one thread to another. newest: one item waits, and putting replaces it; else up to `room` wait, and putting waits."""

    def __init__(self, newest: bool, room: int = 1) -> None:
        self.newest, self.room = newest, 1 if newest else room
        self._items: deque[T] = deque()
        self._changed = renewed_after_fork(threading.Condition())
        self._ended = False
        self._error: BaseException | None = None

    def put(self, item: T) -> T | None:
        """Hand an item over. Returns what did not get through: the item that this one replaced, or this one once the channel has ended."""
        with self._changed:
            while not self.newest and len(self._items) >= self.room and not self._ended:
                self._changed.wait()
            if self._ended:
                return item
            replaced = self._items.popleft() if len(self._items) >= self.room else None
            self._items.append(item)
            self._changed.notify_all()
            return replaced

    def get(self, timeout: float | None = None) -> T:
        """The next item, waited for.

        Raises: StopIteration once the channel has ended and is empty, or the error that it ended with. TimeoutError.
        """
        if items := self._next(timeout):
            return items[0]
        if self._error is not None:
            raise self._error
        raise StopIteration

    def take(self, count: int) -> list[T]:
        """The next `count` items, waited for, or those that are left once the channel has ended. Raises as `get` where there is none."""
        items = [self.get()]
        while len(items) < count and (more := self._next()):
            items += more
        return items

    def _next(self, timeout: float | None = None) -> list[T]:
        """The next item, waited for; none once the channel has ended and is empty. Raises TimeoutError."""
        until = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not self._items and not self._ended:
                if not self._changed.wait(None if until is None else until - time.monotonic()):
                    raise TimeoutError
            if not self._items:
                return []
            item = self._items.popleft()
            self._changed.notify_all()
            return [item]

    def end(self, error: BaseException | None = None, drop: bool = False) -> list[T]:
        """End the channel: waiting items are still handed out, then the error, if any. drop: waiting items are returned here instead."""
        with self._changed:
            if not self._ended:
                self._ended, self._error = True, error
            left = list(self._items) if drop else []
            if drop:
                self._items.clear()
            self._changed.notify_all()
            return left

    def fail(self, error: BaseException) -> None:
        """Drop what waits; this error is all that comes, also where the channel had ended."""
        with self._changed:
            self._ended, self._error = True, error
            self._items.clear()
            self._changed.notify_all()

    def __len__(self) -> int:
        return len(self._items)
