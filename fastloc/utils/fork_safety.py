"""Objects that stay usable in a forked child: fork copies locks in their current state, and only the thread that calls it.

`multiprocessing` and PyTorch's `DataLoader` fork on Linux up to Python 3.13. Objects that are registered here are renewed in the child
before anything else runs there.
"""

from __future__ import annotations

import ctypes
import os
import sys
import weakref
from functools import cached_property
from typing import Any, TypeVar

from fastloc.utils.openmp import release_idle_threads

__all__ = ["FORKED", "keep_for_ever", "renewed_after_fork"]

# the end of every message about what a child cannot use
FORKED = "start the process by 'spawn' or 'forkserver' (multiprocessing.get_context), where localizers arrive pickled"


T = TypeVar("T")

_registered: weakref.WeakSet[Any] = weakref.WeakSet()


def renewed_after_fork(thing: T) -> T:
    """Register an object for as long as it lives: its method `_at_fork_reinit`, which the standard library's locks, conditions and events
    have for this purpose, is called in a forked child, whose only thread is the one that calls. Returns the object."""
    _registered.add(thing)
    return thing


def keep_for_ever(thing: object) -> None:
    """Never run the destructor of an object, not even at exit: one that waits for threads which a child does not have would hang."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _before() -> None:
    # GNU's OpenMP never notices that its team of threads is gone, and waits for it; without a team the child makes one
    if "torch" in sys.modules:
        release_idle_threads()


def _in_child() -> None:
    # locks first: objects may need theirs
    for thing in sorted(_registered, key=lambda each: type(each).__module__ not in ("_thread", "threading")):
        thing._at_fork_reinit()
    for lock in _property_locks():
        lock._at_fork_reinit()


def _property_locks() -> list[Any]:
    """The locks of cached properties, which Python up to 3.11 has: one for each property of a class, held while any object's is made."""
    if not hasattr(cached_property(len), "lock"):
        return []
    modules = [module for name, module in list(sys.modules.items()) if name.partition(".")[0] == "fastloc"]
    classes = {each for module in modules for each in list(vars(module).values()) if isinstance(each, type)}
    return [getattr(each, "lock") for one in classes for each in vars(one).values() if isinstance(each, cached_property)]  # noqa: B009


# Windows has no fork
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_child=_in_child)
