"""The processing of one frame of a stream, with the texts of that moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from fastloc.errors import FastlocError
from fastloc.results.prediction import Prediction
from fastloc.utils.fork_safety import renewed_after_fork
from fastloc.video.counters import Counters, Timings
from fastloc.video.locator import Locator, Prompts
from fastloc.video.sources.frame import Frame
from fastloc.video.stream_result import StreamResult
from fastloc.video.temporal import BACKGROUND, Temporal

__all__ = ["Worker"]


class Worker:
    """The model, the texts and the memory of one stream; one thread at a time calls `answer`.

    Args:
        texts, localizer: see `Locator`.
        every: every how many frames the model runs; those between get the last map.
        smooth, maps: see `Temporal`.
        background: texts that maps="background" holds the others against; by default `temporal.BACKGROUND`.

    Raises: TextError, FastlocError for what is wrong with any of them.
    """

    def __init__(
        self, texts: str | Sequence[str] | None, localizer: Any = None, *, every: int = 1, smooth: float = 0.0,
        maps: str | Sequence[float] = "frame", background: Sequence[str] = (),
    ) -> None:  # fmt: skip
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise FastlocError(f"every must be a whole number, 1 or more, got {every!r}; the model runs on one of so many frames")
        self.locator = Locator(localizer)
        self.temporal = Temporal(smooth, maps, self.locator.logit_scale)
        if background and self.temporal.maps != "background":
            raise FastlocError(f"maps must be 'background' where background texts are set, got {maps!r}")
        self.every = every
        self.background = tuple(background or BACKGROUND) if self.temporal.maps == "background" else ()
        if self.background and not background:
            self.locator.acquaint(BACKGROUND)
        self.prompts = self.locator.prepare(texts, self.background)
        self.counters, self.timings = Counters(), Timings()
        self._encoder: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._asked = 0
        self._last: tuple[Prediction, Prompts] | None = None
        self._since = 0
        renewed_after_fork(self)

    def set_texts(self, texts: str | Sequence[str]) -> Future[tuple[str, ...]]:
        """Encode other texts in a thread of their own and swap them in between two frames; until then the old ones are used.

        Of several requests the last one counts. Returns: the texts once they are in use; its `result()` raises TextError for what cannot
        be used, and then the old ones stay.
        """
        with self._lock:
            self._asked += 1
            if self._encoder is None:
                self._encoder = ThreadPoolExecutor(1, thread_name_prefix="fastloc-texts")
            return self._encoder.submit(self._swap, self._asked, texts)

    def _swap(self, number: int, texts: str | Sequence[str]) -> tuple[str, ...]:
        with self._lock:
            newest = number == self._asked
        if newest:
            # one assignment: a frame sees the old texts or the new ones
            self.prompts = self.locator.prepare(texts, self.background)
        return self.prompts.texts

    def answer(self, frame: Frame) -> StreamResult:
        """Locate the texts in a frame, or give it the last map. Raises what the frame's conversion or the model raises."""
        prompts, last = self.prompts, self._last
        if last is not None and last[1] is prompts and last[0].geometry.picture == frame.size and self._since < self.every - 1:
            self._since += 1
            self.counters.add("reused")
            return StreamResult(frame, last[0], 0.0, reused=True)
        start = time.perf_counter()
        located = self.temporal.apply(self.locator.locate(frame, prompts), frame.time, prompts)
        took = time.perf_counter() - start
        self._last, self._since = (located, prompts), 0
        self.counters.add("located")
        self.timings.add("inference", took)
        return StreamResult(frame, located, took)

    def deliver(self, found: StreamResult) -> StreamResult:
        """Take down that the result is handed over now."""
        found.age = found.frame.age
        self.counters.add("delivered")
        self.timings.add("age", found.age)
        return found

    def convert(self, frame: Frame) -> None:
        """Make the frame's pixels, timed. Raises ImageError where they cannot be made."""
        start = time.perf_counter()
        _ = frame.rgb
        self.timings.add("convert", time.perf_counter() - start)

    def _at_fork_reinit(self) -> None:
        # texts that were being encoded stay with the parent
        self._lock, self._encoder = threading.Lock(), None

    def close(self) -> None:
        """Let the thread that encodes texts go."""
        with self._lock:
            if self._encoder is not None:
                self._encoder.shutdown(wait=False, cancel_futures=True)
