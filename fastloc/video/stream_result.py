"""The result that a stream hands to its caller: one frame, its times, and the similarities found in it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from PIL import Image

from fastloc.imaging.reduced_picture import LatePicture
from fastloc.results.prediction import Prediction
from fastloc.results.result import Result
from fastloc.video.sources.frame import Frame

__all__ = ["StreamResult"]


# two results are never compared by value
@dataclass(eq=False, repr=False)
class StreamResult:
    """One frame's answer. Times are in seconds.

    Attributes:
        frame: the frame: `frame.rgb`, uint8 [H, W, 3], and `frame.native`, what the source handed out
        located: the similarities, smoothed, and how they become heat: what `result` is made of
        inference: how long locating took; 0 where `reused`
        reused: whether the map is that of a frame before (every=N)
        age: from when the frame came in until its result was handed over; None before that
    """

    frame: Frame
    located: Prediction
    inference: float
    reused: bool = False
    age: float | None = None

    @property
    def index(self) -> int:
        """The frame's place in its source, from 0, counted before any is skipped."""
        return self.frame.index

    @property
    def time(self) -> float:
        """Presentation time of the frame, seconds since the source's first one."""
        return self.frame.time

    @property
    def captured(self) -> float:
        """Time at which the frame came in, seconds on `time.monotonic`."""
        return self.frame.captured

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts that were looked for."""
        return self.located.texts

    @cached_property
    def result(self) -> Result:
        """The `fastloc.Result`, made on first use: it takes the frame's pixels to the host, but for a decoder's planes. They become a
        picture at its first use: points and drawings need none."""
        picture: LatePicture | None = None if self.frame.converted else self.frame.picture
        if picture is None:
            pixels = self.frame.rgb
            picture = LatePicture((pixels.shape[1], pixels.shape[0]), lambda: Image.fromarray(pixels))
        return self.located.result(picture)

    def __repr__(self) -> str:
        return f"StreamResult({self.frame!r}, {', '.join(map(repr, self.texts))}{', reused' if self.reused else ''})"
