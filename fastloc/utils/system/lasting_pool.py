"""A pool of threads that lives as long as the program, whatever becomes of a thread of it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

__all__ = ["LastingPool"]

P = ParamSpec("P")
T = TypeVar("T")


class LastingPool(ThreadPoolExecutor):
    """The standard library's pool, with a new thread in the place of one that has died.

    A thread dies where its own code, in front of the work or behind it, finds no memory. The standard library still counts it: a pool of
    one thread takes every later call and answers none. Here the next call starts another; the call that the dead one had taken stays
    unanswered.
    """

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Let a thread call the function. Raises RuntimeError where the pool is shut down or a thread that is needed cannot start."""
        self._replace()
        return super().submit(fn, *args, **kwargs)

    def _replace(self) -> None:
        """Count dead threads no longer."""
        with self._shutdown_lock:
            dead = {thread for thread in self._threads if not thread.is_alive()}
            if dead and not self._shutdown:
                self._threads -= dead
                # one of these may be counted as idle: then nobody is
                while self._idle_semaphore.acquire(blocking=False):
                    pass
