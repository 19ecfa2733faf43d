"""The push form: the caller owns the loop and hands frames in; a thread locates."""

from __future__ import annotations

import itertools
import threading
import time
import weakref
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, NoReturn

from fastloc.errors import FastlocError, VideoError, unknown
from fastloc.imaging.pixel_depth import StreamDepth
from fastloc.utils.described import Described
from fastloc.utils.fork_safety import renewed_after_fork
from fastloc.utils.system.panics import as_exception
from fastloc.video.channel import POLICIES, Channel
from fastloc.video.counters import Counters
from fastloc.video.sources.frame import Frame
from fastloc.video.stream_result import StreamResult
from fastloc.video.worker import Worker

__all__ = ["FrameDropped", "Handle", "Pipeline"]


class FrameDropped(VideoError):
    """The result of a frame that a newer one replaced, or that was waiting when the pipeline was closed."""


class Handle:
    """A frame that was handed in."""

    def __init__(self, future: Future[StreamResult], worker: Worker, pipeline: Pipeline) -> None:
        self._future, self._worker = future, worker
        # which is closed once neither it nor a handle of it is held
        self._pipeline = pipeline
        self._lock = threading.Lock()
        self._found: StreamResult | None = None
        renewed_after_fork(self)

    def done(self) -> bool:
        """True once `result` returns or raises at once."""
        return self._future.done()

    @property
    def dropped(self) -> bool:
        """True if a newer frame took this one's place."""
        return self._future.done() and isinstance(self._future.exception(), FrameDropped)

    def result(self, timeout: float | None = None) -> StreamResult:
        """The result, waited for. Raises FrameDropped, TimeoutError (of concurrent.futures), and what locating raised."""
        dropped = self._future.exception(timeout)
        if isinstance(dropped, FrameDropped):
            # a new one: by its traceback the future's own would hold the caller's variables, and by these the handle itself
            raise FrameDropped(*dropped.args)
        found = self._future.result()
        with self._lock:
            if self._found is None:
                self._found = self._worker.deliver(found)
        return self._found

    def __reduce__(self) -> NoReturn:
        raise VideoError("a frame that was handed in cannot be pickled; send what its result() returns")

    def _at_fork_reinit(self) -> None:
        self._lock, self._future = threading.Lock(), Future()
        self._future.set_exception(FrameDropped("the frame was handed in before fork(): its result comes in the process that did so"))


class Pipeline(Described):
    """Frames in, results out, in a thread of its own.

        with Pipeline(["a dog"], localizer) as pipeline:
            handle = pipeline.submit(frame)     # returns at once
            found = handle.result()             # or ask handle.done() in your loop

    Args:
        texts, localizer, every, smooth, maps, background, decode: as for `fastloc.stream`.
        policy: "newest": a frame that still waits is replaced by the next one, and its handle raises FrameDropped; "every": `submit` waits
            while `room` frames do.
        bgr: arrays are blue, green, red, as OpenCV's are.

    It pickles as these arguments with the texts of now, and begins anew where it is unpickled.

    Raises: TextError, FastlocError for what is wrong with any of them.
    """

    def __init__(
        self, texts: str | Sequence[str] | None, localizer: Any = None, *, policy: str = "newest", every: int = 1, smooth: float = 0.0,
        maps: str | Sequence[float] = "frame", background: Sequence[str] = (), bgr: bool = False, room: int = 2,
        decode: str = "full",
    ) -> None:  # fmt: skip
        self._describe(locals())
        if policy not in POLICIES:
            raise FastlocError(unknown("policy", policy, POLICIES))
        self._worker = Worker(texts, localizer, every=every, smooth=smooth, maps=maps, background=background, decode=decode)
        self._policy, self._room = policy, room
        self._count, self._bgr, self._depth = itertools.count(), bgr, StreamDepth()
        self._begun = time.monotonic()
        self._lock = threading.Lock()
        self._open()
        renewed_after_fork(self)

    def _open(self) -> None:
        self._inbox: Channel[tuple[Frame, Future[StreamResult]]] = Channel(self._policy == "newest", self._room)
        self._thread: threading.Thread | None = None
        # the thread knows these two alone, so that a pipeline without references can end it
        self._finalizer = weakref.finalize(self, _end, self._inbox, self._worker)

    def _description(self) -> dict[str, Any]:
        return {**self._arguments, "texts": self.texts}

    def _at_fork_reinit(self) -> None:
        # the thread stays with the parent, and so do the frames that wait for it
        self._lock = threading.Lock()
        closed = not self._finalizer.alive
        self._finalizer.detach()
        self._open()
        if closed:
            self._finalizer()

    def submit(self, frame: Any, time: float | None = None) -> Handle:
        """Hand in a frame: uint8 [H, W, 3], a PIL picture, a tensor on a device, or a `Frame`; and its time in seconds, by default now.

        Any thread may hand in frames. Once the pipeline is closed they are dropped: their handles raise FrameDropped. Raises VideoError for
        what is no frame.
        """
        given = frame if isinstance(frame, Frame) else self._frame(frame, time)
        future: Future[StreamResult] = Future()
        with self._lock:
            # one thread alone: a second one would answer frames beside it, out of order
            if self._thread is None:
                thread = threading.Thread(target=_work, args=(self._worker, self._inbox), name="fastloc-pipeline", daemon=True)
                thread.start()
                # one that could not be started is tried again with the next frame
                self._thread = thread
        self._worker.counters.add("captured")
        late = self._inbox.put((given, future))
        if late is not None:
            _drop(late[1], self._worker, "the pipeline is closed" if late[1] is future else "a newer frame took its place")
        return Handle(future, self._worker, self)

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts of the next frame."""
        return self._worker.prompts.texts

    def set_texts(self, texts: str | Sequence[str]) -> Future[tuple[str, ...]]:
        """See `Worker.set_texts`."""
        return self._worker.set_texts(texts)

    @property
    def counters(self) -> Counters:
        """Numbers of frames so far."""
        return self._worker.counters

    def timings(self) -> dict[str, dict[str, float]]:
        """Percentiles in seconds, see `Timings`."""
        return self._worker.timings.percentiles()

    def close(self) -> None:
        """Drop what waits, and wait for the frame under way."""
        self._finalizer()
        with self._lock:
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _frame(self, given: Any, at: float | None) -> Frame:
        from fastloc.video.sources.iterables import frame_of

        now = time.monotonic()
        return frame_of(given, next(self._count), now - self._begun if at is None else at, now, bgr=self._bgr, depth=self._depth)


def _end(inbox: Channel[tuple[Frame, Future[StreamResult]]], worker: Worker) -> None:
    for _, future in inbox.end(drop=True):
        _drop(future, worker, "the pipeline is closed")
    worker.close()


def _drop(future: Future[StreamResult], worker: Worker, why: str) -> None:
    worker.counters.add("dropped")
    future.set_exception(FrameDropped(f"the frame was not located: {why}"))


def _work(worker: Worker, inbox: Channel[tuple[Frame, Future[StreamResult]]]) -> None:
    while True:
        try:
            frame, future = inbox.get()
        except StopIteration:
            return
        try:
            future.set_result(worker.answer(frame))
        # whoever holds the handle waits for an answer, whatever it is
        except BaseException as error:
            future.set_exception(as_exception(error))
