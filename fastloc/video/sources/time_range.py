"""A part of a source: frames from one time to another."""

from __future__ import annotations

import time
from collections.abc import Iterator

from fastloc.video.sources.base import Info, Source
from fastloc.video.sources.frame import Frame

__all__ = ["Span"]


class Span:
    """A `Source` of the frames of another one from `start` to just before `end`, seconds since its first; it measures the time of reading.

    Frames before `start` are read and not converted; indices and times stay the source's own.

    reading    seconds spent waiting for the source
    """

    def __init__(self, source: Source, start: float = 0.0, end: float | None = None) -> None:
        self.source, self.start, self.end = source, start, end
        self.name, self.live = source.name, source.live
        self.reading = 0.0

    @property
    def info(self) -> Info:
        return self.source.info

    @property
    def corrupt(self) -> int:
        return self.source.corrupt

    @property
    def reconnects(self) -> int:
        return self.source.reconnects

    @property
    def count(self) -> int | None:
        """Approximate number of frames; None where it is unknown."""
        info = self.info
        if self.live:
            return None if self.end is None or not info.rate else round((self.end - self.start) * info.rate)
        if not (self.start or self.end is not None):
            return info.count or (round(info.duration * info.rate) if info.duration and info.rate else None)
        if not info.rate:
            return None
        stop = min(each for each in (self.end, info.duration) if each is not None) if self.end or info.duration else None
        return None if stop is None else max(round((stop - self.start) * info.rate), 0)

    def frames(self) -> Iterator[Frame]:
        frames = iter(self.source.frames())
        while True:
            began = time.perf_counter()
            frame = next(frames, None)
            self.reading += time.perf_counter() - began
            if frame is None:
                return
            if self.end is not None and frame.time >= self.end:
                self.close()
                return
            if frame.time >= self.start:
                yield frame

    def close(self) -> None:
        self.source.close()
