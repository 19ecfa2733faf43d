"""A watch over races: work that must end in time, errors that nobody would see, and threads, tasks and descriptors that stay behind."""

import asyncio
import gc
import logging
import os
import random
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["PATIENCE", "SEEDS", "clean", "dice", "in_threads", "in_time", "run_async"]

T = TypeVar("T")
# seconds; what does not hang takes a fraction of one, on a busy core a few
PATIENCE = 20.0
SEEDS = range(6)


def in_time(work: Callable[[], T], seconds: float = PATIENCE) -> T:
    """Run the work in a thread and return its value. Raises its error, and AssertionError with the stacks of all threads where it hangs."""
    ended: list[Callable[[], T]] = []

    def run() -> None:
        try:
            value = work()
            ended.append(lambda: value)
        except BaseException as raised:
            # kept by this name after the block
            error = raised

            def again() -> T:
                raise error

            ended.append(again)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not ended:
        raise AssertionError(f"hangs: nothing came for {seconds:g} s\n{stacks()}")
    return ended[0]()


def in_threads(works: list[Callable[[], T]], seconds: float = PATIENCE) -> list[T]:
    """The values of works that begin together, each in a thread. Raises as `in_time`, the first error in their order."""
    start = threading.Barrier(len(works))
    found: dict[int, T] = {}
    errors: dict[int, BaseException] = {}

    def one(number: int) -> None:
        start.wait(seconds)
        try:
            found[number] = works[number]()
        except BaseException as error:
            errors[number] = error

    threads = [threading.Thread(target=one, args=(number,), daemon=True) for number in range(len(works))]

    def all_of_them() -> None:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    in_time(all_of_them, seconds)
    if errors:
        raise errors[min(errors)]
    return [found[number] for number in range(len(works))]


def stacks() -> str:
    """The stack of every thread."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "\n".join(f"-- {names.get(number, number)}\n{''.join(traceback.format_stack(frame))}" for number, frame in _frames().items())


def _frames() -> dict[int, Any]:
    return dict(sys._current_frames())


@contextmanager
def clean(seconds: float = PATIENCE) -> Iterator[None]:
    """Fail where the block leaves a thread of fastloc's or a descriptor behind, where a thread or a destructor of it raised something that
    nobody saw, and where asyncio has something to complain about."""
    complaints = _Complaints()
    usual = threading.excepthook, sys.unraisablehook
    threading.excepthook = lambda given: complaints.texts.append(f"thread {given.thread}: {given.exc_value!r}")
    sys.unraisablehook = lambda given: complaints.texts.append(f"{given.err_msg or 'ignored'} {given.object!r}: {given.exc_value!r}")
    log = logging.getLogger("asyncio")
    log.addHandler(complaints)
    gc.collect()
    # no later collection looks at the modules that are loaded, half a second of them
    gc.freeze()
    before, opened = set(threading.enumerate()), _descriptors()
    try:
        yield
        until = time.monotonic() + seconds
        while True:
            gc.collect()
            left = [thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith("fastloc")]
            now = _descriptors()
            more = len(now) - len(opened)
            if not left and more <= 0:
                break
            kinds = [_described(place) for number, place in now.items() if number not in opened]
            assert time.monotonic() < until, f"left behind: threads {left}, {more} descriptors, of {kinds}\n{stacks() if left else ''}"
            time.sleep(0.02)
    finally:
        log.removeHandler(complaints)
        threading.excepthook, sys.unraisablehook = usual
    assert complaints.texts == []


class _Complaints(logging.Handler):
    """Errors that asyncio logs, and those that hooks report."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def _descriptors() -> dict[str, str]:
    """Number and place of each open descriptor, on Linux."""
    found = {}
    for each in os.listdir("/proc/self/fd") if Path("/proc/self/fd").is_dir() else ():
        # that of the listing itself is closed already
        with suppress(OSError):
            found[each] = os.readlink(f"/proc/self/fd/{each}")
    return found


def _described(place: str) -> str:
    """The place of a descriptor; of a socket, the kernel's line too: addresses and state, in hexadecimal."""
    inode = place.removeprefix("socket:[").removesuffix("]")
    if inode == place:
        return place
    tables = [Path("/proc/self/net") / name for name in ("tcp", "tcp6", "udp", "unix")]
    lines = [f"{table.name} {line.strip()}" for table in tables if table.exists() for line in table.read_text().splitlines()]
    return next((f"{place} {line}" for line in lines if inode in line.split()), f"{place}, of no connection")


def run_async(work: Callable[[], Awaitable[T]], seconds: float = PATIENCE) -> T:
    """Run a coroutine in a loop that sees calls from wrong threads, and return its value; no task may be left. Raises as `in_time`."""

    async def alone() -> T:
        value = await work()
        # cancelled tasks have their turn
        for _ in range(50):
            left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            if not left:
                return value
            await asyncio.sleep(0.01)
        raise AssertionError(f"tasks are left: {left}")

    def run() -> T:
        # not run(debug=True), which warns of slow callbacks on a busy machine
        with asyncio.Runner(debug=True) as runner:
            runner.get_loop().slow_callback_duration = seconds
            return runner.run(alone())

    return in_time(run, seconds)


def dice(seed: int) -> random.Random:
    """Random numbers of a case."""
    return random.Random(seed)
