"""A function in a forked child, which may hang there."""

import multiprocessing
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import pytest

# seconds; what does not hang takes a fraction of one
PATIENCE = 20.0

needs_fork = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system has no fork")


def forked(work: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """The function's return value in the child. Raises what it raised there, AssertionError if it hangs or the child crashes."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def child() -> None:
        outcome: Future[Any] = Future()
        try:
            outcome.set_result(work())
        except Exception as error:
            outcome.set_exception(error)
        sender.send((outcome.exception(), None if outcome.exception() else outcome.result()))

    process = context.Process(target=child, daemon=True)
    process.start()
    sender.close()
    try:
        if not receiver.poll(patience):
            raise AssertionError(f"the child hangs: it said nothing for {patience:g} s")
        error, value = receiver.recv()
    except EOFError:
        process.join(patience)
        raise AssertionError(f"the child ended with status {process.exitcode} and said nothing") from None
    finally:
        process.kill()
        process.join()
    if error is not None:
        raise error
    return value


@contextmanager
def held(lock: Any) -> Iterator[None]:
    """The lock, held by a thread that no child has."""
    taken, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            taken.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait()
    try:
        yield
    finally:
        done.set()
        thread.join()
