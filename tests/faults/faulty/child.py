"""Work in a forked child, which may be killed or hang there."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, TextIO

from fastloc.utils.exit_status import exit_status
from fastloc.utils.system import files
from faulty.plan import Kind, plant

__all__ = ["Ended", "carried_out"]

# seconds; what does not hang takes a fraction of one, on a machine with nothing else to do
PATIENCE = 120.0
RAISED = 70


class Ended(NamedTuple):
    """The end of a child.

    status: its exit status, negative for a signal. fired: the call in which the fault came, "" if it did not. Of a child in which none was
    to fail, count: calls that the kind counts; modules: those that the child imported.
    """

    status: int
    printed: str
    fired: str
    count: int = 0
    modules: tuple[str, ...] = ()


def carried_out(work: Callable[[], object], kind: Kind | None = None, nth: int = 0) -> Ended:
    """Do the work as a command does, in a child in which the nth call of this kind fails; none for 0, whose calls are counted."""
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as printed:
        child = os.fork()
        if not child:
            status = RAISED
            try:
                os.close(reading)
                for number in (1, 2):
                    os.dup2(printed.fileno(), number)
                sys.stdout, sys.stderr = _text(1), _text(2)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                # where it hangs is printed
                faulthandler.dump_traceback_later(PATIENCE - 20, file=sys.__stderr__)
                # no power is lost here, and a disk takes its time
                files.sync_descriptor = lambda descriptor: None
                known = set(sys.modules)
                count = plant(kind, nth, lambda name: _say(writing, name)) if kind is not None else None
                status = exit_status("fastloc", lambda: _status(work()))
                if not nth:
                    _say(writing, " ".join([str(count() if count is not None else 0), *(set(sys.modules) - known)]))
            except BaseException:
                traceback.print_exc()
            finally:
                with suppress(OSError):
                    sys.stdout.flush()
                    sys.stderr.flush()
                os._exit(status)
        os.close(writing)
        try:
            status = _waited(child)
        except AssertionError as error:
            printed.seek(0)
            raise AssertionError(f"{error}: {printed.read().decode('utf-8', 'replace')}") from None
        with os.fdopen(reading, "rb") as pipe:
            fired = pipe.read().decode()
        printed.seek(0)
        said = printed.read().decode("utf-8", "replace")
        if nth or not fired:
            return Ended(status, said, fired)
        number, *modules = fired.split()
        return Ended(status, said, "", int(number), tuple(sorted(modules)))


def _text(number: int) -> TextIO:
    return os.fdopen(number, "w", encoding="utf-8", buffering=1, closefd=False)


def _say(writing: int, name: str) -> None:
    os.write(writing, name.encode())


def _status(answer: object) -> int:
    return answer if isinstance(answer, int) else 0


def _waited(child: int) -> int:
    end = time.monotonic() + PATIENCE
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise AssertionError(f"the child hangs: nothing came within {PATIENCE:g} s")
        time.sleep(0.002)
