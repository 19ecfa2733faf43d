"""OpenMP's idle threads: a thread that computed once keeps a team, which slows the teams of others.

PyTorch's passes on a CPU are OpenMP's parallel regions. Its GNU runtime keeps a team of threads for each thread that ever entered one,
and where all teams together have more threads than there are cores it no longer spins at barriers: every region then waits for the
kernel to wake its threads. A pass in a thread of its own took a third longer, only because the main thread had computed before.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

__all__ = ["release_idle_threads"]

# omp_pause_soft: what was set stays set, and the team comes back when it is needed
SOFT = 1


def release_idle_threads() -> bool:
    """Release the calling thread's idle team (OpenMP 5.0, omp_pause_resource_all). Returns True on success."""
    pause = _pause()
    return pause is not None and pause(SOFT) == 0


@cache
def _pause() -> Any:
    # PyTorch loads its runtime where every library finds it; other systems have other runtimes, without this trouble
    try:
        return getattr(ctypes.CDLL(None), "omp_pause_resource_all", None)
    except (OSError, TypeError):
        return None
