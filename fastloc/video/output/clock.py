"""The clock of a video that is written, and the ticks of its frames."""

from __future__ import annotations

from fractions import Fraction

from fastloc.video.sources.frame import Frame

__all__ = ["TICK", "Clock"]

# ticks of pictures that come without a clock of their own
TICK = Fraction(1, 90000)


class Clock:
    """Places frames on an output's clock: at the source's own timestamps, counted on where those jump, as `Frame.time` does."""

    def __init__(self, unit: Fraction) -> None:
        self.unit = unit
        self._start: int | None = None

    def ticks(self, frame: Frame) -> int:
        """The frame's timestamp in units of `unit` seconds."""
        since = round(Fraction(frame.time) / self.unit)
        if self._start is None:
            known = frame.pts is not None and frame.time_base == self.unit
            self._start = frame.pts - since if known and frame.pts is not None else 0
        return self._start + since
