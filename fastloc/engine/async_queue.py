"""The asynchronous path: submit a picture, continue, and ask for its result later.

On a GPU everything is enqueued: the frame goes through a pinned buffer and a copy stream while the previous one is computed,
and the similarities come back the same way. On a CPU one worker thread computes. On both, at most `depth` pictures are in
flight; submitting one more waits for the oldest. Any thread may submit, and any may ask for a result.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, NoReturn, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fastloc.errors import FastlocError
from fastloc.imaging.geometry import Geometry
from fastloc.results.prediction import Prediction
from fastloc.results.result import Result
from fastloc.utils.fork_safety import renewed_after_fork
from fastloc.utils.openmp import release_idle_threads
from fastloc.utils.system.lasting_pool import LastingPool
from fastloc.utils.system.panics import contained

Floats = np.ndarray[Any, np.dtype[np.float32]]

DEPTH = 2


class Locating(Protocol):
    """The part of `fastloc.Localizer` that a queue calls."""

    device: torch.device

    def locate(self, images: Sequence[Image.Image], texts: list[str], names: Sequence[str]) -> list[Result]: ...

    def geometry(self, picture: tuple[int, int]) -> Geometry: ...

    def scored_similarity(
        self, pixels: Any, texts: Sequence[str], *, geometry: Geometry | None = None, bgr: bool = False
    ) -> tuple[Tensor, Tensor]: ...

    def prediction(self, geometry: Geometry, prompts: list[str], grid: Floats, cosines: Floats) -> Prediction: ...


class Handle:
    """A submitted picture, whose result is available later. It stays in its process: send its result to another one."""

    def __init__(self, done: Callable[[], bool], wait: Callable[[], Result]) -> None:
        self._done, self._wait = done, wait
        self._result: Result | None = None
        # of several threads one reads the buffers, which the next picture overwrites
        self._lock = renewed_after_fork(threading.Lock())

    def done(self) -> bool:
        """True if `result` would return at once."""
        return self._result is not None or self._done()

    def result(self) -> Result:
        """The result; waits until it is computed. Re-raises the error that locating raised."""
        with self._lock:
            if self._result is None:
                self._result = self._wait()
        return self._result

    def lose(self) -> None:
        """Mark the result as unavailable in a forked child, because the parent computes it. `result` then raises FastlocError."""
        self._done, self._wait = (lambda: True), _lost

    def __reduce__(self) -> NoReturn:
        raise FastlocError("a submitted picture cannot be pickled; send what its result() returns")


def _lost() -> Result:
    raise FastlocError("the picture was submitted before fork(): its result comes in the process that submitted it")


def wait_quietly(handle: Handle) -> None:
    """Wait for completion; exceptions are raised by `result()`, not here."""
    with suppress(Exception):
        handle.result()


class AsyncQueue:
    """The pictures in flight, oldest first."""

    def __init__(self, depth: int = DEPTH) -> None:
        self.depth = depth
        self.under_way: deque[Handle] = deque()
        self.worker: LastingPool | None = None
        self.lanes: list[StagingBuffers] = []
        self.count = 0
        # one submission at a time: those that wait for room would otherwise take each other's
        self.lock = threading.Lock()
        renewed_after_fork(self)

    def submit(self, localizer: Locating, picture: Image.Image, prompts: list[str], name: str) -> Handle:
        """Start locating the prompts in a picture; waits while `depth` pictures are in flight."""
        with self.lock:
            while len(self.under_way) >= self.depth:
                wait_quietly(self.under_way[0])
                self.under_way.popleft()
            begin = self._on_gpu if localizer.device.type == "cuda" else self._on_cpu
            handle = begin(localizer, picture, prompts, name)
            self.under_way.append(handle)
        return handle

    def _at_fork_reinit(self) -> None:
        self.lock = threading.Lock()
        for handle in self.under_way:
            handle.lose()
        self.under_way.clear()
        # a fork copies neither threads nor streams
        self.worker, self.lanes, self.count = None, [], 0

    def _on_cpu(self, localizer: Locating, picture: Image.Image, prompts: list[str], name: str) -> Handle:
        if self.worker is None:
            self.worker = LastingPool(1, thread_name_prefix="fastloc")
            release_idle_threads()
        future: Future[Result] = self.worker.submit(contained, lambda: localizer.locate([picture], prompts, [name])[0])
        return Handle(future.done, future.result)

    def _on_gpu(self, localizer: Locating, picture: Image.Image, prompts: list[str], name: str) -> Handle:
        lane = self.lanes[self.count % self.depth] if len(self.lanes) == self.depth else self._new_lane(localizer.device)
        self.count += 1
        lane.free()
        geometry = localizer.geometry(picture.size[::-1])
        frame = lane.upload(np.asarray(picture))
        event = lane.download(*localizer.scored_similarity(frame[None], prompts, geometry=geometry))

        def wait() -> Result:
            event.synchronize()
            grid, cosines = lane.downloaded()
            assert grid is not None
            assert cosines is not None
            return localizer.prediction(geometry, prompts, grid, cosines).result(picture, name)

        lane.handle = Handle(event.query, wait)
        return lane.handle

    def _new_lane(self, device: torch.device) -> StagingBuffers:
        self.lanes.append(StagingBuffers(device))
        return self.lanes[-1]


class StagingBuffers:
    """Staging buffers for one picture at a time, pinned so that copies run without the host."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.copies: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.pinned: dict[str, Tensor] = {}
        self.back: list[Tensor | None] = []
        self.handle: Handle | None = None

    def free(self) -> None:
        """Wait until the previous picture has left the buffers."""
        if self.handle is not None:
            wait_quietly(self.handle)

    def upload(self, frame: np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
        """The frame on the device, uint8 [H, W, 3]; the current stream waits for it, the host does not."""
        staged = self._buffer("frame", torch.Size(frame.shape), torch.uint8)
        np.copyto(staged.numpy(), frame)
        current = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self.copies):
            there = staged.to(self.device, non_blocking=True)
        current.wait_stream(self.copies)
        # allocated on the copy stream, read on the current one
        there.record_stream(current)
        return there

    def download(self, *tensors: Tensor | None) -> Any:
        """Start copying batches of one [1, ...] to the host; returns the event after which the copies are complete."""
        self.back = []
        for i, each in enumerate(tensors):
            staged = None if each is None else self._buffer(f"result {i}", each.shape[1:], torch.float32)
            if staged is not None and each is not None:
                staged.copy_(each[0], non_blocking=True)
            self.back.append(staged)
        event: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self.device))
        return event

    def downloaded(self) -> tuple[Floats | None, ...]:
        """Copies of the downloaded arrays, float32, which the next picture does not overwrite."""
        return tuple(None if each is None else each.numpy().copy() for each in self.back)

    def _buffer(self, name: str, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        if name not in self.pinned or self.pinned[name].shape != shape:
            self.pinned[name] = torch.empty(shape, dtype=dtype, pin_memory=True)
        return self.pinned[name]
