"""The stack that a thread handles signals on, kept while a library runs.

OpenVINO gives the calling thread another one with each compiled model. It puts the earlier one back when that model goes, in whichever
thread and order that happens; the thread then handles its next signal, such as Ctrl-C, on memory that is gone, and the process ends.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["current", "kept"]

# more than a stack_t takes on any system
_ROOM = 64
_sigaltstack = getattr(ctypes.CDLL(None), "sigaltstack", None) if os.name == "posix" else None


def current() -> bytes:
    """The thread's `stack_t`, as the system writes it; b"" where there is none."""
    if _sigaltstack is None:
        return b""
    found = ctypes.create_string_buffer(_ROOM)
    _sigaltstack(None, found)
    return found.raw


@contextmanager
def kept() -> Iterator[None]:
    """Within this context the thread's signal stack may change; afterwards it is the earlier one again."""
    before = current()
    try:
        yield
    finally:
        if _sigaltstack is not None:
            _sigaltstack(before, None)
