"""The pull form: a source is read, located and handed out, each in its own thread, with little in between."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Any, NoReturn

from fastloc.errors import FastlocError, ImageError, VideoError, unknown
from fastloc.results.batch_choice import AUTO, BatchChoice
from fastloc.utils.fork_safety import renewed_after_fork
from fastloc.utils.system.panics import as_exception
from fastloc.video.channel import POLICIES, Channel
from fastloc.video.counters import Counters
from fastloc.video.sources.base import Source
from fastloc.video.sources.frame import Frame
from fastloc.video.stream_result import StreamResult
from fastloc.video.worker import Worker

__all__ = ["Stream", "stream"]

# frames that wait before the model and results that wait behind it, where every frame counts
ROOM = 2
# seconds that closing waits for a thread which is in the middle of a frame
PATIENCE = 10.0


def stream(
    source: Any, texts: str | Sequence[str] | None, localizer: Any = None, *, policy: str | None = None, every: int = 1,
    smooth: float = 0.0, maps: str | Sequence[float] = "frame", background: Sequence[str] = (), batch: int | str = 1,
    decode: str = "full", **opening: Any,
) -> Stream:  # fmt: skip
    """Locate texts in a video while it comes.

        for found in fastloc.stream("clip.mp4", ["a dog"]):
            print(found.time, found.result.points())

    Args:
        source: a file, an address (rtsp://, http:// …), a camera (0, "camera:0"), an iterable of frames, or a `Source`: see `open_source`.
        texts: one prompt or several; None for all the texts that an exported file has.
        localizer: a `fastloc.Localizer`, a `fastloc.OnnxLocalizer`, or a function of (picture, texts) that returns a Result; by default
            the embedded model.
        policy: "every": each frame once, in order, however long it takes; "newest": a frame that waits is replaced by the next, and so is
            a result that you have not taken. By default "every" for what is stored and "newest" for what is live.
        every: the model runs on every so many-th frame; those between get its map.
        smooth: half-life in seconds of the exponential mean of the similarity grid.
        maps: what heat 0 and 1 stand for, see `temporal.MAPS`, or two similarities (low, high).
        background: texts that maps="background" holds the others against.
        batch: frames that go through the model at once, or "auto" to measure in the first seconds what is fastest; more than one for
            policy="every" alone, where a result comes once the frames of its batch are there. In float32 similarities of another batch
            differ in their last bits.
        decode: "full": each frame is converted to RGB, and resized as a picture is; or "reduced": frames of HD files (8 bits, 4:2:0,
            BT.709, upright) are scaled to the model's input in the decoder's own planes, which takes a tenth of the time. Places stay
            exact; similarities move a little.
        opening: more arguments of `open_source`: bgr, live, rate …

    Returns: an iterator of `StreamResult`, which is a context manager too; leaving the loop early and dropping it closes the source.

    Raises: VideoError for a source that cannot be opened, TextError, FastlocError for the other arguments; while iterating, VideoError for
        a source that fails for good, after what came before it, and what the model raises.
    """
    if policy is not None and policy not in POLICIES:
        raise FastlocError(unknown("policy", policy, POLICIES))
    from fastloc.video.sources.open_source import open_source

    opened = open_source(source, **opening)
    try:
        _check_batch(batch, policy or _usual(opened))
        worker = Worker(texts, localizer, every=every, smooth=smooth, maps=maps, background=background, decode=decode)
        if batch != AUTO:
            worker.locator.check_batch(int(batch))
    except BaseException:
        opened.close()
        raise
    return Stream(opened, worker, policy, batch)


class Stream:
    """Results of a source's frames, in order. See `stream`.

    Attributes:
        source: where frames come from
        policy: "every" or "newest"
    """

    def __init__(self, source: Source, worker: Worker, policy: str | None = None, batch: int | str = 1) -> None:
        self.source, self.policy = source, policy or _usual(source)
        self._worker = worker
        self._run = _Run(source, worker, self.policy == "newest", batch)
        # the threads know the run alone, so that a stream without references can end them
        self._finalizer = weakref.finalize(self, _Run.close, self._run)

    def __iter__(self) -> Iterator[StreamResult]:
        return self

    def __next__(self) -> StreamResult:
        self._run.start()
        found = self._run.outbox.get()
        return self._worker.deliver(found)

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts of the next frame."""
        return self._worker.prompts.texts

    def set_texts(self, texts: str | Sequence[str]) -> Future[tuple[str, ...]]:
        """Ask for other texts from now on: they are encoded aside and swapped in between two frames. See `Worker.set_texts`."""
        return self._worker.set_texts(texts)

    @property
    def batch(self) -> BatchChoice | None:
        """The frames a call of the model, and why; None while batch="auto" has not measured, which is done before the first result."""
        return self._run.batch

    @property
    def counters(self) -> Counters:
        """Numbers of frames so far."""
        counters = self._worker.counters
        counters.corrupt = self.source.corrupt + self._run.unusable
        counters.reconnects = self.source.reconnects
        return counters

    def timings(self) -> dict[str, dict[str, float]]:
        """Percentiles in seconds of "age", "inference" and "convert", see `Timings`."""
        return self._worker.timings.percentiles()

    def close(self) -> None:
        """Let go of the source and of what waits; iterating then ends. May be called from another thread, and twice."""
        self._finalizer()

    def __reduce__(self) -> NoReturn:
        raise VideoError("a stream cannot be pickled: its source is open in this process; open it in the other one")

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Run:
    """The two threads of a stream and the channels between them: captured frames, then results."""

    def __init__(self, source: Source, worker: Worker, newest: bool, batch: int | str) -> None:
        self.source, self.worker, self.newest = source, worker, newest
        self.inbox: Channel[Frame] = Channel(newest, ROOM)
        self.batch: BatchChoice | None = None
        self.frames = 1
        if newest:
            self.use(BatchChoice(1, {}, "the newest frame waits for no other"))
        elif batch != AUTO:
            self.use(BatchChoice(int(batch), {}, "your choice"))
        self.outbox: Channel[StreamResult] = Channel(newest, ROOM)
        self.unusable = 0
        self.threads: list[threading.Thread] = []
        self.lock = threading.Lock()
        self.forked = False
        renewed_after_fork(self)

    def _at_fork_reinit(self) -> None:
        # decoders, connections and threads stay with the parent: there is nothing to start here, and nothing to close
        self.lock, self.threads, self.forked = threading.Lock(), [threading.current_thread()], True
        # also where all results were there already
        self.outbox.fail(VideoError(f"{self.source.name}: was opened before fork(); open it in the process that reads it"))

    def use(self, batch: BatchChoice) -> None:
        # as many as make a batch, beside those that get the map of one before them; the next are read while these are located
        self.batch, self.frames = batch, batch.batch * self.worker.every if batch.batch > 1 else 1
        self.inbox.room = max(self.inbox.room, self.frames)

    def start(self) -> None:
        with self.lock:
            if self.threads:
                return
            for work in (self._capture, self._locate):
                self.threads.append(threading.Thread(target=work, name=f"fastloc{work.__name__.replace('_', '-')}", daemon=True))
            # within the lock: whoever closes the stream waits for threads, which must have been started
            try:
                for thread in self.threads:
                    thread.start()
            except (RuntimeError, MemoryError) as error:
                # the one that runs already ends, and there is no result to wait for
                self.threads = [thread for thread in self.threads if thread.ident is not None] or [threading.current_thread()]
                self.inbox.end(drop=True)
                self.outbox.end(error)
                self.source.close()
                raise

    def close(self) -> None:
        if self.forked:
            return
        with self.lock:
            # a stream that was never begun must not begin now
            begun, self.threads = self.threads, self.threads or [threading.current_thread()]
        self.source.close()
        self.worker.counters.add("dropped", len(self.inbox.end(drop=True)) + len(self.outbox.end(drop=True)))
        for thread in begun:
            if thread is not threading.current_thread():
                thread.join(PATIENCE)
        self.worker.close()

    def _capture(self) -> None:
        error: BaseException | None = None
        try:
            for frame in self.source.frames():
                self.worker.counters.add("captured")
                # a frame that will be located is converted here, beside the model; one that may be skipped is not
                if not self.newest and not self._usable(frame):
                    continue
                if self.inbox.put(frame) is not None:
                    self.worker.counters.add("dropped")
        # whatever it is: without it the stream would look as if it had come to its end
        except BaseException as raised:
            error = as_exception(raised)
        finally:
            self.inbox.end(error)

    def _locate(self) -> None:
        error: BaseException | None = None
        left = 0
        try:
            while True:
                frames = [frame for frame in self.inbox.take(self.frames) if self._usable(frame)]
                left = len(frames)
                if self.batch is None and frames:
                    self.use(self.worker.locator.choose_batch(frames[0], self.worker.prompts))
                for found in self.worker.answers(frames, 1 if self.batch is None else self.batch.batch):
                    left -= 1
                    if self.outbox.put(found) is not None:
                        self.worker.counters.add("dropped")
        except StopIteration:
            pass
        except BaseException as raised:
            error = as_exception(raised)
            # of the frame's batch, those behind it
            self.worker.counters.add("dropped", max(left - 1, 0))
        finally:
            self.source.close()
            # the capturing thread may be waiting for room
            self.worker.counters.add("dropped", len(self.inbox.end(drop=True)))
            self.outbox.end(error)

    def _usable(self, frame: Frame) -> bool:
        if frame.converted or not self.worker.locator.reads_pixels(frame):
            return True
        try:
            self.worker.convert(frame)
        except (ImageError, VideoError):
            self.unusable += 1
            return False
        return True


def _usual(source: Source) -> str:
    return "newest" if source.live else "every"


def _check_batch(batch: Any, policy: str) -> None:
    if batch == AUTO:
        return
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise FastlocError(f"batch must be {AUTO!r} or a whole number, 1 or more, got {batch!r}; the model takes so many frames a call")
    if batch > 1 and policy == "newest":
        raise FastlocError(f"batch must be 1 for policy 'newest', which waits for no frame, got {batch}; use policy='every'")
