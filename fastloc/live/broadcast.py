"""A source on the server's side that all clients share: one thread reads it, and each client gets the newest frame it can take."""

from __future__ import annotations

import functools
import io
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from fastloc.errors import FastlocError
from fastloc.live.session import Session, Waiting
from fastloc.utils.system.panics import as_exception
from fastloc.video.sources.base import Source
from fastloc.video.sources.frame import Frame
from fastloc.web_server.rate import Rate

__all__ = ["Broadcast"]

# long side of the pictures that are sent, and their quality as JPEGs
SIDE, QUALITY = 1280, 80


class Broadcast:
    """Args:
        opened: opens the source; once more each time a file has ended, so that it runs in a circle at its own pace.
        fps: frames a second that are handed on at most.

    Frames of a file are read only while somebody looks. Raises what `opened` raises.
    """

    def __init__(self, opened: Callable[[], Source], fps: float) -> None:
        self._opened, self._rate = opened, Rate(fps, burst=2)
        self._source = opened()
        self.live = self._source.live
        # clients do not see a file's folder
        self.name = self._source.name if self.live else Path(self._source.name).name
        self.problem = ""
        self._sessions: list[Session] = []
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="fastloc-live-hub", daemon=True)
        self._thread.start()

    def add(self, session: Session) -> None:
        """Add a client's session, which gets every frame from now on."""
        with self._changed:
            self._sessions.append(session)
            self._changed.notify_all()
        if self.problem:
            self._tell(session)

    def remove(self, session: Session) -> None:
        """Hand it no more."""
        with self._changed:
            if session in self._sessions:
                self._sessions.remove(session)

    @property
    def clients(self) -> int:
        """Number of clients that it hands frames to."""
        return len(self._sessions)

    @property
    def facts(self) -> dict[str, Any]:
        """Facts of the source that are sent to clients."""
        source = self._source
        return {"name": self.name, "live": self.live, "corrupt": source.corrupt, "reconnects": source.reconnects}

    def close(self) -> None:
        """Let go of the source, and end the thread."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
            source = self._source
        source.close()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        passed = 0.0
        try:
            while not self._ended:
                before = passed
                passed = self._play(self._source, passed)
                if self.live and not self._ended:
                    raise FastlocError(f"{self.name} has ended")
                if passed == before and not self._ended:
                    raise FastlocError(f"{self.name} has no frames")
                if not self._ended:
                    self._source.close()
                    self._reopen()
        # a fault of a decoder ends the source, and is reported like the others
        except BaseException as raised:
            error = as_exception(raised)
            self.problem = str(error) if isinstance(error, (FastlocError, OSError)) else f"{self.name} cannot be read: {error!r}"
            with self._changed:
                sessions = list(self._sessions)
            for session in sessions:
                self._tell(session)

    def _reopen(self) -> None:
        opened = self._opened()
        with self._changed:
            self._source, ended = opened, self._ended
        # `close` came meanwhile, and let go of the one before
        if ended:
            opened.close()

    def _tell(self, session: Session) -> None:
        session.outbox.say(type="problem", field="source", message=self.problem, asked={})

    def _play(self, source: Source, passed: float) -> float:
        """Hand on the source's frames, from `passed` seconds on. Returns the second at which the next round begins."""
        start, last, step = time.monotonic() - passed, passed, 0.0
        for frame in source.frames():
            if not self.live:
                start += self._pause(start + passed + frame.time - time.monotonic())
            if self._ended:
                break
            step, last = max(passed + frame.time - last, 1 / 60), passed + frame.time
            if self._rate.allows():
                self._publish(frame, last)
        return last + step

    def _pause(self, seconds: float) -> float:
        """Wait until a file's frame is due, and then for a client. Returns the seconds without a client."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended, timeout=max(seconds, 0))
            began = time.monotonic()
            self._changed.wait_for(lambda: self._ended or bool(self._sessions))
            return time.monotonic() - began

    def _publish(self, frame: Frame, at: float) -> None:
        """Offer the frame to every client; it is made into a JPEG once at most, in the turn of the first one."""
        captured = frame.captured if self.live else time.monotonic()
        shown = Frame(frame.index, at, captured, frame.size, lambda: frame.rgb)
        waiting = Waiting(shown, {"id": frame.index, "time": 1000 * at}, functools.cache(lambda: _jpeg(shown)))
        with self._changed:
            sessions = list(self._sessions)
        for session in sessions:
            session.offer(waiting)


def _jpeg(frame: Frame) -> bytes:
    picture = Image.fromarray(frame.rgb)
    picture.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
