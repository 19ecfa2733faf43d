"""Base of files, connections and cameras: one thread reads, any may close, and frames know their place."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import av

from fastloc.errors import VideoError
from fastloc.video.sources.av_pixels import orientation, to_rgb
from fastloc.video.sources.av_reader import Reader
from fastloc.video.sources.base import Info
from fastloc.video.sources.frame import Frame
from fastloc.video.sources.timestamps import Timeline

__all__ = ["AvSource"]


class AvSource:
    """A source that PyAV reads. See `Source`; what `frames` does between opening and closing is the subclass's `_run`.

    Args:
        reader: what was opened.
        connect: opens it once more; raises VideoError.
    """

    def __init__(self, reader: Reader, connect: Callable[[], Reader], live: bool) -> None:
        self.name, self.live, self.reconnects = reader.name, live, 0
        self._connect, self._reader = connect, reader
        self.info: Info = reader.info
        self._skipped, self._count = 0, 0
        self._timeline = Timeline(reader.step)
        self._stop, self._turn = threading.Event(), threading.Lock()

    @property
    def corrupt(self) -> int:
        """Frames and packets that were skipped so far."""
        return self._skipped + self._reader.corrupt

    def frames(self) -> Iterator[Frame]:
        """See `Source.frames`. Raises VideoError where it is being read already."""
        if self._begin():
            yield from self._frames()

    def close(self) -> None:
        """See `Source.close`."""
        self._stop.set()
        # PyAV must not be closed while another thread reads; that thread does it then
        if self._turn.acquire(blocking=False):
            self._reader.close()
            self._turn.release()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, live={self.live})"

    def _begin(self) -> bool:
        """Take the turn to read; False where the source is being closed. Raises VideoError where it is being read already."""
        if self._turn.acquire(blocking=False):
            return True
        if self._stop.is_set():
            return False
        raise VideoError(f"{self.name}: is being read already")

    def _frames(self) -> Iterator[Frame]:
        try:
            if not self._stop.is_set():
                yield from self._run()
        finally:
            self._stop.set()
            self._reader.close()
            self._turn.release()

    def _run(self) -> Iterator[Frame]:
        raise NotImplementedError

    def _read(self) -> Iterator[Frame]:
        """The frames of this connection."""
        for native, placed in self._reader.frames(self._timeline):
            if self._stop.is_set():
                return
            yield self._frame(native, placed)

    def _frame(self, native: av.VideoFrame, placed: float) -> Frame:
        turn = orientation(native)
        size = turn.size(native.height, native.width)
        frame = Frame(
            self._count, placed, time.monotonic(), size, lambda: to_rgb(native, turn), native, native.pts, native.time_base
        )  # fmt: skip
        self._count += 1
        return frame

    def _open_again(self) -> None:
        """Raises VideoError; the old reader is closed in any case."""
        self._reader.close()
        reader = self._connect()
        self._skipped += self._reader.corrupt
        self._reader = reader
