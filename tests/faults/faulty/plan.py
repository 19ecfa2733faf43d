"""Plans of faults: the nth call that a kind counts fails, or ends the process."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from fastloc.utils.system import files
from faulty import memory

__all__ = ["KINDS", "Kind", "plant"]


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    error: of the call, or None for SIGKILL. operations: the calls that are counted. lasting: all of them fail from then on. after: the
    process ends once the call is done. A write that fails writes half of its bytes before; as of a real disk, the next write says why.
    memory: "interpreter" counts its allocations in place of calls, "makers" the calls that make arrays, pictures and tensors.
    """

    error: int | None
    operations: tuple[str, ...] = files.OPERATIONS
    lasting: bool = False
    after: bool = False
    memory: str = ""


KINDS = {
    "a full disk": Kind(
        errno.ENOSPC, ("open_descriptor", "write", "sync_descriptor", "truncate", "reserve", "make_folder", "link"), lasting=True
    ),
    "a failing disk": Kind(errno.EIO),
    "a disk that becomes read-only": Kind(errno.EROFS, lasting=True),
    "no descriptor left": Kind(errno.EMFILE, ("open_descriptor",)),
    "killed in a call": Kind(None),
    "killed behind a call": Kind(None, after=True),
    "no memory": Kind(errno.ENOMEM, (), memory="interpreter"),
    "no memory for an array": Kind(errno.ENOMEM, (), memory="makers"),
}


def plant(kind: Kind, nth: int, fired: Callable[[str], None]) -> Callable[[], int]:
    """Make the nth call that the kind counts fail, in this process, for good; 0 for none. fired: called with its name just before.

    Returns what counts the calls until it is called.
    """
    if kind.memory == "interpreter":
        if nth:
            fired("an allocation")
        return memory.allocation_fails(nth)
    if kind.memory:
        return memory.maker_fails(nth, fired)
    state = {"count": 0, "broken": False, "short": False}
    for name in kind.operations:
        setattr(files, name, _faulty(kind, nth, name, getattr(files, name), state, fired))
    return lambda: int(state["count"])


def _faulty(
    kind: Kind, nth: int, name: str, usual: Callable[..., Any], state: dict[str, Any], fired: Callable[[str], None]
) -> Callable[..., Any]:
    def call(*given: Any, **more: Any) -> Any:
        state["count"] += 1
        now = state["count"] == nth
        if now:
            fired(name)
        second, state["short"] = name == "write" and state["short"], state["short"] and name != "write"
        if not now and not second and not (state["broken"] and kind.lasting):
            return usual(*given, **more)
        if kind.error is None and kind.after:
            with suppress(OSError):
                usual(*given, **more)
        half = bytes(given[1])[: len(bytes(given[1])) // 2] if name == "write" and now and not kind.after else b""
        if half:
            usual(given[0], half)
        if kind.error is None:
            os.kill(os.getpid(), signal.SIGKILL)
        state["broken"] = True
        if half:
            state["short"] = True
            return len(half)
        if name == "remove_tree":
            # it raises nothing
            return None
        raise OSError(kind.error, os.strerror(kind.error or 0))

    return call
