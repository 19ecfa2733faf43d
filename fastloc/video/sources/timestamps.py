"""A source's timestamps -> seconds since its first frame, which never run backwards."""

from __future__ import annotations

import heapq
from fractions import Fraction

__all__ = ["PictureOrder", "Timeline"]


class Timeline:
    """Places frames in time, one after another.

    Args:
        step: seconds from one frame to the next where timestamps do not say it.

    Attributes: last (seconds of the last frame, or None).
    """

    def __init__(self, step: float) -> None:
        self.step = step
        self.last: float | None = None
        # the timestamp that `_offset` seconds stand for; None until the next frame with one
        self._origin: int | None = None
        self._offset = 0.0
        self._gap = step
        self._restart = False

    def place(self, pts: int | None, unit: Fraction | None) -> float | None:
        """Seconds of a frame with timestamp `pts` in units of `unit` seconds; one step after the frame before where there is none.

        None for a timestamp before the last one, for such a frame is out of its place; unless a restart is expected, when time goes on.
        """
        if pts is None or unit is None:
            return self._put(self._next())
        if self._origin is None:
            self._origin, self._offset = pts, self._next()
        time = self._offset + float((pts - self._origin) * unit)
        if self.last is not None and time < self.last:
            if not self._restart:
                return None
            self._restart = False
            self._origin, self._offset = pts, self._next()
            time = self._offset
        return self._put(time)

    def expect_restart(self) -> None:
        """Timestamps may be set back at one of the next frames."""
        self._restart = True

    def resume(self, gap: float) -> None:
        """Timestamps begin anew with the next frame, which comes `gap` seconds after the last one, at least one step."""
        self._origin, self._gap = None, max(gap, self.step)

    def _next(self) -> float:
        return 0.0 if self.last is None else self.last + self._gap

    def _put(self, time: float) -> float:
        self.last, self._gap = time, self.step
        return time


class PictureOrder:
    """The times of pictures where a container knows only those of packets, in the order of decoding: the earliest one that is not taken."""

    def __init__(self) -> None:
        self._waiting: list[int] = []

    def sent(self, pts: int | None) -> None:
        """A packet with this timestamp went into the decoder."""
        if pts is not None:
            heapq.heappush(self._waiting, pts)

    def place(self, pts: int | None, key: bool) -> int | None:
        """The timestamp of the next picture that came out; `pts` is its packet's.

        With a key frame everything that was sent before it has come out, or never will: packets without a picture shift no others for long.
        """
        while key and pts is not None and self._waiting and self._waiting[0] < pts:
            heapq.heappop(self._waiting)
        return heapq.heappop(self._waiting) if self._waiting else pts
