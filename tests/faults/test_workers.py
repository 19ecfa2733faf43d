"""Threads and tasks that others wait for: whatever a library does in one, who waits gets one clear error, and the next call works."""

from __future__ import annotations

import asyncio
import errno
import io
import re
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import fastloc
from fastloc.engine.async_queue import AsyncQueue
from fastloc.errors import FastlocError, VideoError
from fastloc.utils.system.lasting_pool import LastingPool
from fastloc.utils.system.panics import as_exception, contained
from fastloc.video.pipeline import Pipeline
from fastloc.video.stream import stream

FRAME = np.zeros((48, 64, 3), np.uint8)
# seconds; what does not hang takes a fraction of one
PATIENCE = 10


class Panic(BaseException):
    """As a library in Rust raises it: no Exception."""


ENDS = [Panic("planted"), SystemExit(3)]


def test_only_what_is_no_exception_is_replaced() -> None:
    usual = ValueError("x")
    assert as_exception(usual) is usual
    made = as_exception(Panic("two\nwords"))
    assert str(made) == "a library ended the work (Panic: two words)" and isinstance(made.__cause__, Panic)

    def ends(error: BaseException) -> None:
        raise error

    with pytest.raises(ValueError, match="x"):
        contained(ends, usual)
    with pytest.raises(FastlocError, match=r"\(SystemExit: 3\)"):
        contained(ends, SystemExit(3))
    assert contained(lambda x, y: x + y, 1, y=2) == 3


class Localizer:
    """Finds nothing, and raises its `fault` first."""

    method = "stand-in"

    def __init__(self) -> None:
        self.fault: BaseException | None = None
        self.device, self.batch = torch.device("cpu"), 8

    def __call__(self, picture: Image.Image, texts: Any) -> Any:
        from fastloc.imaging.geometry import fit
        from fastloc.results.result import Result

        self._raise()
        geometry = fit(picture.size[::-1], (48, 64), 8)
        return Result(picture=picture, texts=tuple(texts), similarity=np.zeros((len(texts), 6, 8), np.float32), geometry=geometry,
                      order="picture")  # fmt: skip

    def locate(self, pictures: Any, texts: Any, names: Any) -> list[Any]:
        self._raise()
        return [f"result {index}" for index, _ in enumerate(pictures)]

    def place(self, picture: Image.Image) -> Any:
        return SimpleNamespace(input=(48, 64))

    def encode_texts(self, texts: Any) -> Any:
        return tuple(texts)

    def _raise(self) -> None:
        fault, self.fault = self.fault, None
        if fault is not None:
            raise fault


@pytest.mark.parametrize("fault", ENDS, ids=repr)
def test_a_pipeline_s_thread(fault: BaseException) -> None:
    localizer = Localizer()
    with Pipeline(["cat"], localizer, policy="every") as pipeline:
        localizer.fault = fault
        with pytest.raises(FastlocError, match="a library ended the work"):
            pipeline.submit(FRAME).result(PATIENCE)
        assert pipeline.submit(FRAME).result(PATIENCE).index == 1


def test_a_pipeline_s_thread_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    with Pipeline(["cat"], Localizer(), policy="every") as pipeline:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", _no_thread)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                pipeline.submit(FRAME)
        assert pipeline.submit(FRAME).result(PATIENCE).texts == ("cat",)


def _no_thread(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize("fault", ENDS, ids=repr)
def test_a_stream_does_not_seem_to_have_ended(fault: BaseException) -> None:
    """Neither where the model's thread is ended by something, nor where the source's is."""
    localizer = Localizer()
    localizer.fault = fault
    with stream([FRAME] * 3, ["cat"], localizer) as found, pytest.raises(FastlocError, match="a library ended the work"):
        list(found)

    def frames() -> Iterator[Any]:
        yield FRAME
        raise fault

    with stream(frames(), ["cat"], Localizer()) as found:
        assert next(found).index == 0
        with pytest.raises(FastlocError, match="a library ended the work"):
            next(found)


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError("planted")], ids=repr)
def test_a_stream_whose_threads_do_not_start_does_not_wait(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(thread: threading.Thread) -> None:
        raise error

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    with stream([FRAME] * 3, ["cat"], Localizer()) as found:
        for _ in range(2):
            with pytest.raises(type(error), match=r"can't start new thread|planted"):
                next(found)


@pytest.mark.parametrize("fault", ENDS, ids=repr)
def test_an_engine_s_queue(fault: BaseException) -> None:
    localizer, queue, picture = Localizer(), AsyncQueue(), Image.new("RGB", (64, 48))
    localizer.fault = fault
    with pytest.raises(FastlocError, match="a library ended the work"):
        queue.submit(localizer, picture, ["cat"], "").result()
    assert queue.submit(localizer, picture, ["cat"], "").result() == "result 0"


@pytest.mark.parametrize("fault", [*ENDS, MemoryError("planted")], ids=repr)
def test_a_service_s_batches(fault: BaseException) -> None:
    from fastloc.serve.batcher import Batcher

    localizer: Any = Localizer()
    picture = Image.new("RGB", (64, 48))

    async def main() -> None:
        batcher = Batcher(8, 0.0, lambda size: None)
        try:
            localizer.fault = fault
            with pytest.raises(MemoryError if isinstance(fault, MemoryError) else FastlocError, match=r"planted|SystemExit"):
                await asyncio.wait_for(batcher.locate(localizer, [picture], ["cat"]), PATIENCE)
            assert await asyncio.wait_for(batcher.locate(localizer, [picture], ["cat"]), PATIENCE) == ["result 0"]
        finally:
            batcher.close()

    asyncio.run(main())


def test_an_error_of_a_batch_s_maker_reaches_who_waits() -> None:
    from fastloc.serve.batcher import Batcher

    localizer: Any = Localizer()
    picture = Image.new("RGB", (64, 48))
    counted: list[int] = []

    def count(size: int) -> None:
        counted.append(size)
        if len(counted) == 1:
            raise ZeroDivisionError("planted")

    async def main() -> None:
        batcher = Batcher(1, 0.0, count)
        try:
            asked = [asyncio.create_task(batcher.locate(localizer, [picture], ["cat"])) for _ in range(2)]
            found = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), PATIENCE)
            assert found[0] == ["result 0"] and isinstance(found[1], ZeroDivisionError)
            assert await asyncio.wait_for(batcher.locate(localizer, [picture], ["cat"]), PATIENCE) == ["result 0"]
        finally:
            batcher.close()

    asyncio.run(main())


class Client:
    """A session as the live page's engine sees it."""

    def __init__(self, fault: BaseException | None = None) -> None:
        self.fault, self.ready, self.worked, self.said = fault, True, threading.Event(), SimpleQueue[Any]()
        self.outbox = SimpleNamespace(say=lambda **words: self.said.put(words))

    def work(self, clients: int) -> None:
        self.ready = False
        if self.fault is not None:
            raise self.fault
        self.worked.set()

    def close(self) -> None:
        pass


@pytest.mark.parametrize("fault", ENDS, ids=repr)
def test_the_live_page_s_engine(fault: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    from fastloc.live.scheduler import Engine
    from fastloc.web_server.fault_log import FaultLog

    engine = Engine(FaultLog("fastloc: live"))
    try:
        broken: Any = Client(fault)
        engine.add(broken)
        engine.wake()
        assert "could not be located" in broken.said.get(timeout=PATIENCE)["message"]
        other: Any = Client()
        engine.add(other)
        engine.wake()
        assert other.worked.wait(PATIENCE)
    finally:
        engine.close()


class Source:
    """A camera that gives a frame and then does as it likes."""

    name, live, corrupt, reconnects = "camera", True, 0, 0

    def __init__(self, then: Callable[[], object]) -> None:
        self.then, self.closed = then, threading.Event()

    def frames(self) -> Iterator[Any]:
        from fastloc.video.sources.frame import Frame

        yield Frame(0, 0.0, 0.0, (48, 64), lambda: FRAME)
        self.then()

    def close(self) -> None:
        self.closed.set()


def _lost() -> None:
    raise VideoError("camera: lost after 1 frames")


def _unplugged() -> None:
    raise OSError(errno.ENODEV, "No such device")


def _panics() -> None:
    raise Panic("planted")


@pytest.mark.parametrize(
    ("then", "message"),
    [(_lost, "camera: lost after 1 frames"), (_unplugged, "No such device"), (_panics, "a library ended the work"),
     (lambda: None, "camera has ended")],
)  # fmt: skip
def test_a_camera_that_vanishes_is_said_to_all_clients(then: Callable[[], None], message: str) -> None:
    from fastloc.live.broadcast import Broadcast

    go = threading.Event()

    def waits() -> None:
        go.wait(PATIENCE)
        then()

    hub = Broadcast(lambda: Source(waits), 30)  # type: ignore[arg-type, return-value]
    said: SimpleQueue[Any] = SimpleQueue()
    session: Any = SimpleNamespace(offer=lambda waiting: None, outbox=SimpleNamespace(say=lambda **words: said.put(words)))
    hub.add(session)
    go.set()
    assert message in said.get(timeout=PATIENCE)["message"]
    # who comes later hears of it too
    hub.add(session)
    assert message in said.get(timeout=PATIENCE)["message"]
    hub.close()


def test_a_camera_that_hangs_holds_nobody_up() -> None:
    from fastloc.live.broadcast import Broadcast

    released = threading.Event()
    source = Source(lambda: released.wait(PATIENCE))
    hub = Broadcast(lambda: source, 30)  # type: ignore[arg-type, return-value]
    # what waits for a device cannot be interrupted; its thread is left alone
    hub._thread.join = lambda timeout=None: None  # type: ignore[method-assign]
    hub.close()
    assert source.closed.is_set()
    released.set()


@pytest.mark.parametrize("then", [_lost, _unplugged, _panics])
def test_a_camera_that_vanishes_ends_a_stream_with_its_reason(then: Callable[[], None]) -> None:
    from fastloc.video.sources.reconnecting_source import LiveSource

    # the thread that reads, without a device
    source: Any = SimpleNamespace(_frames=Source(then).frames, _inbox=SimpleQueue(), _room=threading.Semaphore(1))
    LiveSource._pump(source)
    assert source._inbox.get_nowait().index == 0
    assert isinstance(source._inbox.get_nowait(), Exception)


@pytest.mark.parametrize("stream_error", [OSError(errno.ENOSPC, "No space left on device"), ValueError("I/O operation on closed file")])
def test_a_log_that_cannot_be_written_ends_no_thread(stream_error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastloc.web_server.fault_log import FaultLog

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise stream_error

    monkeypatch.setattr(sys, "stderr", Full())
    FaultLog("fastloc: live").note("a frame could not be located", ZeroDivisionError("planted"))


def test_texts_that_panic_leave_the_old_ones_in_use() -> None:
    localizer = Localizer()
    with Pipeline(["cat"], localizer, policy="every") as pipeline:
        prepare, pipeline._worker.locator.prepare = pipeline._worker.locator.prepare, _panic  # type: ignore[method-assign]
        asked = pipeline.set_texts(["dog"])
        with pytest.raises(FastlocError, match="a library ended the work"):
            asked.result(PATIENCE)
        assert pipeline.texts == ("cat",)
        pipeline._worker.locator.prepare = prepare  # type: ignore[method-assign]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert pipeline.set_texts(["dog"]).result(PATIENCE) == ("dog",)


def _panic(*given: object) -> Any:
    raise Panic("planted")


class Fatal:
    """A call that its thread does not survive, with a pool of which it counts as one more idle thread."""

    def __init__(self, pool: LastingPool | None = None) -> None:
        self.pool = pool

    def run(self, *_: object) -> None:
        if self.pool is not None:
            self.pool._idle_semaphore.release()
        raise MemoryError


@pytest.mark.parametrize("idle", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_pool_goes_on_after_the_death_of_a_thread(threads: int, idle: bool, caplog: pytest.LogCaptureFixture) -> None:
    with LastingPool(threads) as pool:
        assert pool.submit(lambda: 1).result(PATIENCE) == 1
        for _ in range(3):
            taken = set(pool._threads)
            pool._work_queue.put(Fatal(pool if idle else None))
            until = time.monotonic() + PATIENCE
            while all(thread.is_alive() for thread in taken) and time.monotonic() < until:
                time.sleep(0.001)
            both = threading.Barrier(threads)
            assert sorted(each.result(PATIENCE) for each in [pool.submit(both.wait, PATIENCE) for _ in range(threads)]) == [*range(threads)]
        assert len(pool._threads) == threads
    assert not any(thread.is_alive() for thread in pool._threads)
    with pytest.raises(RuntimeError, match="shutdown"):
        pool.submit(lambda: 1)


def test_pools_that_last_are_of_the_kind_that_goes_on() -> None:
    """A pool that an object keeps may lose a thread at its first call, and has many more to answer."""
    kept = re.compile(r"self\.\w+ *(?::[^=\n]*)?=[^\n]*\bThreadPoolExecutor\(")
    assert kept.search("self._pool: Any = ThreadPoolExecutor(1)") and kept.search("self.n, self.pool = n, ThreadPoolExecutor(n)")
    files = sorted(Path(fastloc.__file__).parent.rglob("*.py"))
    assert len(files) > 300 and not [str(file) for file in files if kept.search(file.read_text(encoding="utf-8"))]
