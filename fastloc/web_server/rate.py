"""A bound on the rate of an event."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Rate"]


class Rate:
    """At most `rate` a second on the average, `burst` of them at once."""

    def __init__(self, rate: float, burst: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate, self.burst, self._clock = rate, max(burst or rate / 4, 2.0), clock
        self._left, self._at = self.burst, clock()

    def allows(self) -> bool:
        """True if one more may come now; it is then counted."""
        if self.left < 1:
            return False
        self._left -= 1
        return True

    @property
    def left(self) -> float:
        """Number of events that may come at once, now."""
        now = self._clock()
        # a clock that is set back takes away nothing
        self._left, self._at = min(self.burst, self._left + max(now - self._at, 0.0) * self.rate), now
        return self._left
