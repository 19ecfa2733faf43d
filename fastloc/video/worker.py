"""The processing of one frame of a stream, with the texts of that moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from itertools import groupby, islice
from operator import attrgetter
from typing import Any

from fastloc.errors import FastlocError, VideoError
from fastloc.results.prediction import Prediction
from fastloc.utils.fork_safety import renewed_after_fork
from fastloc.utils.system.lasting_pool import LastingPool
from fastloc.utils.system.panics import contained
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
        decode: see `Locator`.
        background: texts that maps="background" holds the others against; by default `temporal.BACKGROUND`.

    Raises: TextError, FastlocError for what is wrong with any of them.
    """

    def __init__(
        self, texts: str | Sequence[str] | None, localizer: Any = None, *, every: int = 1, smooth: float = 0.0,
        maps: str | Sequence[float] = "frame", background: Sequence[str] = (), decode: str = "full",
    ) -> None:  # fmt: skip
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise FastlocError(f"every must be a whole number, 1 or more, got {every!r}; the model runs on one of so many frames")
        self.locator = Locator(localizer, decode)
        self.temporal = Temporal(smooth, maps, self.locator.logit_scale)
        if background and self.temporal.maps != "background":
            raise FastlocError(f"maps must be 'background' where background texts are set, got {maps!r}")
        self.every = every
        self.background = tuple(background or BACKGROUND) if self.temporal.maps == "background" else ()
        if self.background and not background:
            self.locator.acquaint(BACKGROUND)
        self.prompts = self.locator.prepare(texts, self.background)
        self.counters, self.timings = Counters(), Timings()
        self._encoder: LastingPool | None = None
        self._lock = threading.Lock()
        self._asked, self._closed = 0, False
        self._last: tuple[Prediction, Prompts] | None = None
        self._since = 0
        renewed_after_fork(self)

    def set_texts(self, texts: str | Sequence[str]) -> Future[tuple[str, ...]]:
        """Encode other texts in a thread of their own and swap them in between two frames; until then the old ones are used.

        Of several requests the last one counts. Returns: the texts once they are in use; its `result()` raises TextError for what cannot
        be used, and then the old ones stay. Closing cancels what has not begun.

        Raises: VideoError once the stream or pipeline is closed.
        """
        with self._lock:
            if self._closed:
                raise VideoError("texts must be set before the stream or pipeline is closed; open another one with these texts")
            self._asked += 1
            if self._encoder is None:
                self._encoder = LastingPool(1, thread_name_prefix="fastloc-texts")
            return self._encoder.submit(contained, self._swap, self._asked, texts)

    def _swap(self, number: int, texts: str | Sequence[str]) -> tuple[str, ...]:
        with self._lock:
            newest = number == self._asked
        if newest:
            # one assignment: a frame sees the old texts or the new ones
            self.prompts = self.locator.prepare(texts, self.background)
        return self.prompts.texts

    def answer(self, frame: Frame) -> StreamResult:
        """Locate the texts in a frame, or give it the last map. Raises what the frame's conversion or the model raises."""
        (found,) = self.answers([frame])
        return found

    def answers(self, frames: Sequence[Frame], batch: int = 1) -> Iterator[StreamResult]:
        """`answer` of consecutive frames, in order, with one set of texts; at most `batch` frames go through the model at once.

        A frame that fails raises at its turn, after the answers of those before it.
        """
        prompts = self.prompts
        fresh = self._fresh(frames, prompts)
        located = self._located([frame for frame, new in zip(frames, fresh, strict=True) if new], prompts, batch)
        for frame, new in zip(frames, fresh, strict=True):
            if new:
                prediction, took = next(located)
                start = time.perf_counter()
                prediction = self.temporal.apply(prediction, frame.time, prompts)
                took += time.perf_counter() - start
                self._last, self._since = (prediction, prompts), 0
                self.counters.add("located")
                self.timings.add("inference", took)
                yield StreamResult(frame, prediction, took)
            else:
                assert self._last is not None
                self._since += 1
                self.counters.add("reused")
                yield StreamResult(frame, self._last[0], 0.0, reused=True)

    def _fresh(self, frames: Sequence[Frame], prompts: Prompts) -> list[bool]:
        """True for each frame that the model runs on, False for those that get the last map."""
        size = None if self._last is None or self._last[1] is not prompts else self._last[0].geometry.picture
        since, fresh = self._since, []
        for frame in frames:
            reused = size == frame.size and since < self.every - 1
            size, since = frame.size, since + 1 if reused else 0
            fresh.append(not reused)
        return fresh

    def _located(self, frames: Sequence[Frame], prompts: Prompts, batch: int) -> Iterator[tuple[Prediction, float]]:
        """The similarities of each frame, and the seconds that they took."""
        for _, group in groupby(frames, key=attrgetter("size")):
            same = iter(group)
            while part := list(islice(same, batch)):
                start = time.perf_counter()
                try:
                    found = self.locator.locate_all(part, prompts)
                except Exception:
                    if len(part) == 1:
                        raise
                    # a fault of one frame is not one of its neighbours
                    yield from self._located(part, prompts, 1)
                else:
                    took = (time.perf_counter() - start) / len(part)
                    yield from ((prediction, took) for prediction in found)

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
            self._closed = True
            if self._encoder is not None:
                self._encoder.shutdown(wait=False, cancel_futures=True)
