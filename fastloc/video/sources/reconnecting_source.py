"""Connections and cameras: frames as they come, and opened again when they are lost."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue

from fastloc.errors import VideoError
from fastloc.utils.system.panics import as_exception
from fastloc.video.sources.av_base import AvSource
from fastloc.video.sources.av_reader import Reader
from fastloc.video.sources.backoff import delays
from fastloc.video.sources.frame import Frame

__all__ = ["LiveSource"]

_log = logging.getLogger("fastloc.video")


class LiveSource(AvSource):
    """Frames of what has no end. What breaks off, ends or falls silent is opened again; index and time go on.

    A thread of its own reads, for nothing can interrupt a read or a connection under way: `close` and `frames` end at once, and that thread
    with the time limit.

    Args:
        retries: how often to try before giving up, each time anew; None for ever.
        backoff: seconds before the first try, and at most before any.
    """

    def __init__(
        self, reader: Reader, connect: Callable[[], Reader], *, live: bool = True, retries: int | None = None,
        backoff: tuple[float, float] = (0.5, 15.0),
    ) -> None:  # fmt: skip
        super().__init__(reader, connect, live)
        self._retries, self._backoff = retries, backoff
        # None is the end
        self._inbox: SimpleQueue[Frame | Exception | None] = SimpleQueue()
        # one frame waits while the next is decoded
        self._room = threading.Semaphore(1)
        # `_stop` is set too when reading has ended, while frames still wait
        self._closed = threading.Event()

    def frames(self) -> Iterator[Frame]:
        """See `Source.frames`. Raises VideoError after the last of `retries`."""
        if not self._begin():
            return
        threading.Thread(target=self._pump, name="fastloc-read", daemon=True).start()
        try:
            while True:
                item = self._inbox.get()
                if item is None or self._closed.is_set():
                    return
                if isinstance(item, Exception):
                    raise item
                yield item
                self._room.release()
        finally:
            self.close()

    def close(self) -> None:
        """See `Source.close`."""
        self._closed.set()
        super().close()
        self._inbox.put(None)
        self._room.release()

    def _pump(self) -> None:
        try:
            for frame in self._frames():
                self._inbox.put(frame)
                self._room.acquire()
            self._inbox.put(None)
        except BaseException as error:
            self._inbox.put(as_exception(error))

    def _run(self) -> Iterator[Frame]:
        while not self._stop.is_set():
            captured = time.monotonic()
            for frame in self._read():
                captured = frame.captured
                yield frame
            if self._stop.is_set():
                return
            self._return()
            self._timeline.resume(time.monotonic() - captured)

    def _return(self) -> None:
        """Open it again, however often that takes. Raises VideoError after the last try; ends early with `close`."""
        lost, why = time.monotonic(), self._reader.failure or "it ended"
        _log.warning("%s: lost (%s); trying to open it again", self.name, why)
        self._reader.close()
        for tried, wait in enumerate(delays(*self._backoff)):
            if self._retries is not None and tried >= self._retries:
                gone = f"lost after {self._count} frames ({why})"
                raise VideoError(f"{self.name}: {gone}" + (f", and not back after {tried} tries" if tried else ""))
            if self._stop.wait(wait):
                return
            try:
                self._open_again()
            except VideoError as error:
                why = str(error).removeprefix(f"{self.name}: ")
                continue
            self.reconnects += 1
            _log.warning("%s: back after %.1f s", self.name, time.monotonic() - lost)
            return
