"""One frame of a stream, which costs nothing until its pixels are read: a frame that is skipped is never converted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastloc.imaging.reduced_picture import ScaledPicture
from fastloc.utils.fork_safety import renewed_after_fork
from fastloc.video.sources.planes import Planes

__all__ = ["Frame"]

Pixels = NDArray[np.uint8]


class Frame:
    """One frame as it came in.

    Attributes:
        index: its place in the source, from 0, counted before any frame is skipped
        time: seconds since the source's first frame, by the source's own clock (presentation time)
        captured: when it came in, seconds on this process' `time.monotonic`
        size: (height, width) of the upright frame
        native: what the source handed out: an `av.VideoFrame`, an array, a tensor on a device
        bgr: whether the channels of `native` are blue, green, red; `rgb` is never so
        pts, time_base: the source's own timestamp and its unit in seconds, None where it has none
        convert: makes the pixels, uint8 [H, W, 3] RGB, upright; called once at most, at the first read of `rgb`
    """

    def __init__(
        self, index: int, time: float, captured: float, size: tuple[int, int], convert: Callable[[], Pixels], native: Any = None,
        pts: int | None = None, time_base: Fraction | None = None, bgr: bool = False,
    ) -> None:  # fmt: skip
        self.index, self.time, self.captured, self.size = index, time, captured, size
        self.native, self.pts, self.time_base, self.bgr = native, pts, time_base, bgr
        self._convert, self._lock = convert, renewed_after_fork(threading.Lock())
        self._rgb: Pixels | None = None

    @property
    def age(self) -> float:
        """Seconds since it came in."""
        return time.monotonic() - self.captured

    @property
    def rgb(self) -> Pixels:
        """The pixels, uint8 [H, W, 3], on the host. Raises ImageError where they cannot be made."""
        with self._lock:
            if self._rgb is None:
                self._rgb = self._convert()
            return self._rgb

    @property
    def planes(self) -> Planes | None:
        """The decoder's own planes, not copied and not to be written into, where they are as `Planes` says; None for every other frame, an
        array, or one that came from another process."""
        # by its name, so that PyAV need not be installed
        if not type(self.native).__module__.startswith("av.video"):
            return None
        from fastloc.video.sources.av_pixels import planes_of

        return planes_of(self.native)

    @property
    def picture(self) -> ScaledPicture | None:
        """The picture of which a model's input is made by scaling `planes`, and whose RGB pixels are `rgb`; None where there are none."""
        planes = self.planes
        if planes is None:
            return None
        return ScaledPicture((self.size[1], self.size[0]), lambda: Image.fromarray(self.rgb), planes.scaled)

    @property
    def converted(self) -> bool:
        """True once the pixels were read."""
        return self._rgb is not None

    def __reduce__(self) -> tuple[Any, ...]:
        # decoders' frames and devices' tensors stay in their process; the pixels go
        return _of_pixels, (self.index, self.time, self.captured, self.size, self.rgb, self.pts, self.time_base)

    def __repr__(self) -> str:
        height, width = self.size
        return f"Frame({self.index}, {self.time:.3f} s, {width} x {height})"


def _of_pixels(
    index: int, time: float, captured: float, size: tuple[int, int], rgb: Pixels, pts: int | None, time_base: Fraction | None
) -> Frame:
    return Frame(index, time, captured, size, lambda: rgb, rgb, pts, time_base)
