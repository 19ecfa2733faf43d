"""Frames that somebody else made: arrays, pictures, tensors, decoded video frames."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastloc.errors import ImageError, VideoError
from fastloc.imaging import images
from fastloc.imaging.pixel_depth import StreamDepth
from fastloc.utils.system.exhaustion import pass_on
from fastloc.video.sources.base import Info
from fastloc.video.sources.frame import Frame
from fastloc.video.sources.timestamps import Timeline

__all__ = ["FRAME_RULE", "FramesOf", "frame_of"]

FRAME_RULE = "uint8 [H, W, 3], as a numpy array, a tensor, a PIL picture, an av.VideoFrame or a fastloc Frame"
# frames a second where nothing says it
RATE = 30.0

Pixels = NDArray[np.uint8]


class FramesOf:
    """A source of the frames that an iterable gives. See `Source`.

    Args:
        items: of what `frame_of` takes. An array or tensor that was given must not be written to afterwards.
        bgr: arrays and tensors are blue, green, red.
        live: frames come at their own pace; their time is then when they came, unless they carry one.
        rate: frames a second of what carries no time and is not live.
    """

    def __init__(self, items: Iterable[Any], *, bgr: bool = False, live: bool = False, rate: float | None = None) -> None:
        self.name, self.live, self.corrupt, self.reconnects = "frames", live, 0, 0
        self._items, self._bgr, self._stop, self._turn = items, bgr, threading.Event(), threading.Lock()
        self._rate = rate or RATE
        self._timeline, self._depth = Timeline(1 / self._rate), StreamDepth()
        count = len(items) if isinstance(items, Sized) else None
        if count == 0:
            raise VideoError(f"{self.name}: there is none in the {type(items).__name__}")
        self.info = Info(rate=None if live else self._rate, count=count)

    def frames(self) -> Iterator[Frame]:
        """Frames in order. Raises VideoError for an item that is no frame, and where there was none at all; what the iterable raises."""
        if not self._turn.acquire(blocking=False):
            # it is being closed at this moment
            if self._stop.is_set():
                return
            raise VideoError(f"{self.name}: are being read already")
        try:
            yield from self._run()
        finally:
            self._let_go()
            self._turn.release()

    def close(self) -> None:
        """End after the frame that is being made; an iterable that waits cannot be interrupted."""
        self._stop.set()
        if self._turn.acquire(blocking=False):
            self._let_go()
            self._turn.release()

    def __repr__(self) -> str:
        return f"FramesOf({type(self._items).__name__})"

    def _run(self) -> Iterator[Frame]:
        index, first = 0, 0.0
        if self._stop.is_set():
            return
        for item in self._items:
            captured = time.monotonic()
            if self._stop.is_set():
                return
            first = first if index else captured
            frame = frame_of(item, index, 0.0, captured, bgr=self._bgr, depth=self._depth)
            if frame is not item:
                frame.time = self._time(frame, captured - first)
            yield frame
            index += 1
        if not index and not self._stop.is_set():
            raise VideoError(f"{self.name}: there was none in the {type(self._items).__name__}")

    def _time(self, frame: Frame, passed: float) -> float:
        if frame.pts is None:
            return passed if self.live else frame.index / self._rate
        # frames in another order than their own are given so on purpose
        self._timeline.expect_restart()
        placed = self._timeline.place(frame.pts, frame.time_base)
        assert placed is not None
        return placed

    def _let_go(self) -> None:
        self._stop.set()
        close = getattr(self._items, "close", None)
        if callable(close) and isinstance(self._items, Iterator):
            close()


def frame_of(
    given: Any, index: int, time: float, captured: float, *, bgr: bool = False, depth: StreamDepth | None = None
) -> Frame:
    """One frame of:

      Frame            itself
      numpy array      uint8 [H, W, 3], or what else `images.load` takes: greys, alpha, 16 bits, floats within [0, 1]
      PIL picture      any mode
      av.VideoFrame    in any pixel format; turned upright
      tensor           uint8 [H, W, 3] on any device, of any library with `__dlpack__`; it stays where it is until `rgb` is read

    Nothing is converted or copied before `rgb` is read. `bgr`: channels of arrays and tensors are blue, green, red. `depth`: of the
    stream that it belongs to. Raises VideoError for what is no frame.
    """
    if isinstance(given, Frame):
        return given
    # by its name, so that PyAV need not be installed
    if type(given).__module__.startswith("av.video"):
        return _from_av(given, index, time, captured)
    size, convert = _reading(given, f"frame {index}", bgr, depth or StreamDepth())
    return Frame(index, time, captured, size, convert, given, bgr=bgr and not isinstance(given, Image.Image))


def _from_av(given: Any, index: int, time: float, captured: float) -> Frame:
    from fastloc.video.sources.av_pixels import orientation, to_rgb

    turn = orientation(given)
    size = turn.size(given.height, given.width)
    return Frame(index, time, captured, size, lambda: to_rgb(given, turn), given, given.pts, given.time_base)


def _reading(given: Any, name: str, bgr: bool, depth: StreamDepth) -> tuple[tuple[int, int], Callable[[], Pixels]]:
    if isinstance(given, Image.Image):
        # an upright size is known only by turning it
        size = (given.height, given.width) if given.getexif().get(0x0112, 1) < 5 else (given.width, given.height)
        return size, lambda: np.asarray(images.load(given, name))
    if isinstance(given, np.ndarray):
        return _size(given, name), lambda: _pixels(given, name, bgr, depth)
    if hasattr(given, "__dlpack__") and hasattr(given, "shape") and hasattr(given, "dtype"):
        return _tensor_size(given, name), lambda: _pixels(_on_host(given, name), name, bgr, depth)
    raise VideoError(f"{name} must be {FRAME_RULE}, got a {type(given).__name__}")


def _size(array: NDArray[Any], name: str) -> tuple[int, int]:
    if array.ndim not in (2, 3) or 0 in array.shape or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise VideoError(f"{name} must be {FRAME_RULE}, got shape {list(array.shape)}")
    return array.shape[0], array.shape[1]


def _tensor_size(tensor: Any, name: str) -> tuple[int, int]:
    shape, kind = list(tensor.shape), str(tensor.dtype)
    if len(shape) != 3 or shape[2] != 3 or 0 in shape or not kind.endswith("uint8"):
        hint = "; permute(1, 2, 0) puts the channels last" if len(shape) == 3 and shape[0] == 3 else ""
        raise VideoError(f"{name} must be {FRAME_RULE}, got a {kind} tensor of shape {shape}{hint}")
    return int(shape[0]), int(shape[1])


def _pixels(array: NDArray[Any], name: str, bgr: bool, depth: StreamDepth) -> Pixels:
    if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3 and not bgr:
        return np.ascontiguousarray(array)
    return np.asarray(images.load(array, name, bgr=bgr, white=depth.of(array, name)))


def _on_host(tensor: Any, name: str) -> NDArray[Any]:
    """A tensor as an array on the host: shared where it lies there, else copied by its own library (torch's cpu(), cupy's get())."""
    try:
        for fetch in ("cpu", "get"):
            if callable(getattr(tensor, fetch, None)):
                tensor = getattr(tensor, fetch)()
                break
        array: NDArray[Any] = tensor if isinstance(tensor, np.ndarray) else np.from_dlpack(tensor)
        return array
    # each library has its own errors
    except Exception as error:
        pass_on(error)
        raise ImageError(f"{name}, a {type(tensor).__name__}, cannot be copied to the host ({type(error).__name__}: {error})") from error
