"""Counts of a stream's frames and percentiles of its times, in memory that does not grow."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field, fields

import numpy as np

from fastloc.utils.fork_safety import renewed_after_fork

__all__ = ["WINDOW", "Counters", "Timings"]

# values that percentiles are taken of: two minutes at 30 frames a second
WINDOW = 3600
PERCENTILES = (50, 95, 99)


@dataclass
class Counters:
    """Numbers of frames.

    Attributes:
        captured: came from the source
        located: went through the model
        reused: were given the map of a frame before them (every=N)
        delivered: were handed to the caller
        dropped: a newer frame took their place, before the model or behind it
        corrupt: could not be decoded or converted, and were skipped
        reconnects: how often the source was opened again

    captured = delivered + dropped + those that could not be converted + those under way.
    """

    captured: int = 0
    located: int = 0
    reused: int = 0
    delivered: int = 0
    dropped: int = 0
    corrupt: int = 0
    reconnects: int = 0
    _lock: threading.Lock = field(default_factory=lambda: renewed_after_fork(threading.Lock()), init=False, repr=False, compare=False)

    def add(self, name: str, count: int = 1) -> None:
        """Count on, from any thread."""
        with self._lock:
            setattr(self, name, getattr(self, name) + count)

    def __reduce__(self) -> tuple[type[Counters], tuple[int, ...]]:
        return Counters, tuple(self.to_dict().values())

    def to_dict(self) -> dict[str, int]:
        """Name to number."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.init}


class Timings:
    """The last `WINDOW` durations of each kind, in seconds; written by one thread and read by others."""

    def __init__(self) -> None:
        self._values: dict[str, deque[float]] = {}
        self._lock = renewed_after_fork(threading.Lock())

    def add(self, kind: str, seconds: float) -> None:
        """Remember one duration."""
        with self._lock:
            self._values.setdefault(kind, deque(maxlen=WINDOW)).append(seconds)

    def percentiles(self) -> dict[str, dict[str, float]]:
        """{"age": {"p50": …, "p95": …, "p99": …}, …} in seconds, of the last `WINDOW` values of each kind."""
        with self._lock:
            held = {kind: list(values) for kind, values in self._values.items()}
        found = {kind: np.percentile(values, PERCENTILES) for kind, values in held.items()}
        return {kind: {f"p{p}": float(value) for p, value in zip(PERCENTILES, row, strict=True)} for kind, row in found.items()}
