"""Delays between tries."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

__all__ = ["delays"]

FACTOR = 2.0


def delays(first: float, cap: float, draw: Callable[[], float] = random.random) -> Iterator[float]:
    """Seconds to wait before each try: doubling from `first` to `cap`, each less up to its half by chance (`draw` gives [0, 1)), so that
    many who lost one server do not come back at once.

    >>> [round(wait, 3) for wait, _ in zip(delays(0.5, 3, lambda: 0.0), range(4))]
    [0.5, 1.0, 2.0, 3.0]
    """
    wait = first
    while True:
        yield min(wait, cap) * (1 - draw() / 2)
        wait = min(wait * FACTOR, cap)
