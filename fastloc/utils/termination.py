"""SIGTERM and SIGHUP as exceptions: a program that is asked to end cleans up as it does at Ctrl-C."""

from __future__ import annotations

import _thread
import math
import os
import signal
import threading
import time
from types import FrameType
from weakref import WeakSet

__all__ = ["SIGNALS", "Terminated", "Termination", "comes_again", "end_with_parent"]

# a terminal that closes says SIGHUP; Windows has none
SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
# seconds within which an end is requested twice, by a shell and its supervisor; a later request is meant, even if a library lost the first
APART = 2.0
# seconds until a signal is handled again that came where its exception would be lost
MOMENT = 0.005


class Terminated(KeyboardInterrupt):
    """Raised for a termination signal other than Ctrl-C; a subclass of KeyboardInterrupt, so that all cleaning up for one runs here too."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def name(self) -> str:
        """The signal's name, such as SIGTERM."""
        return signal.Signals(self.number).name

    @property
    def status(self) -> int:
        """The exit status that a shell reports for this signal: 143 for SIGTERM, 129 for SIGHUP."""
        return 128 + self.number


class Termination:
    """Within this context SIGTERM and SIGHUP raise Terminated in the main thread, and Ctrl-C raises KeyboardInterrupt, as ever.

    Elsewhere than in the main thread nothing changes, nor for a signal that is ignored (`nohup`) or that somebody else handles. `error` is
    the exception that was raised: libraries lose it now and then, and fail in another way later.
    """

    def __init__(self) -> None:
        self.error: KeyboardInterrupt | None = None
        self._last = -math.inf
        self._before: dict[int, object] = {}

    def __enter__(self) -> Termination:
        if threading.current_thread() is threading.main_thread():
            usual = {signal.SIGINT: signal.default_int_handler, **dict.fromkeys(SIGNALS, signal.SIG_DFL)}
            self._before = {number: handler for number, handler in usual.items() if signal.getsignal(number) is handler}
            for number in self._before:
                signal.signal(number, self.handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def handle(self, number: int, frame: FrameType | None = None) -> None:
        """Raise the signal's exception. SIGTERM and SIGHUP soon after another signal do nothing: they must not interrupt cleaning up."""
        if comes_again(number, frame):
            return
        before, self._last = self._last, time.monotonic()
        if number == signal.SIGINT:
            self.error = KeyboardInterrupt()
        elif self._last - before > APART:
            self.error = Terminated(number)
        else:
            return
        raise self.error


def comes_again(number: int, frame: FrameType | None) -> bool:
    """True where an exception would be lost, in the callback of a weak reference; the signal is then handled again in a moment."""
    if frame is None or frame.f_code.co_filename != WeakSet.__init__.__code__.co_filename:
        return False
    threading.Timer(MOMENT, _signal_main, (number,)).start()
    return True


def _signal_main(number: int) -> None:
    """Send the signal to the main thread, whatever it waits for; `interrupt_main` alone is noticed when that wait is over."""
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, number)
    else:
        _thread.interrupt_main(signal.Signals(number))


def end_with_parent() -> None:
    """End a process that `multiprocessing` started as soon as its parent is gone, however the parent ended.

    The workers of a pool hold both ends of their queue, and would wait at it for ever.
    """
    # what takes 20 ms to import, no command line needs
    from multiprocessing import parent_process

    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_wait_and_end, args=(parent.sentinel,), daemon=True, name="fastloc-parent").start()


def _wait_and_end(sentinel: int) -> None:
    from multiprocessing.connection import wait

    wait([sentinel])
    os._exit(1)
