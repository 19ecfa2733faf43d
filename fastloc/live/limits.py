"""How much a client may ask for, and what a picture must be before it is decoded."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastloc.errors import FastlocError, ImageError

__all__ = ["FORMATS", "Limits", "Rate", "Violation", "decoded", "measured"]

FORMATS = ("JPEG", "WEBP", "PNG")
# messages a second, of any kind, in multiples of the frames a second: beyond it a client is sent away
FLOOD = 4


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may do.

    clients   how many there may be at a time
    fps       frames a second
    pixels    of one frame
    message   bytes of one message
    texts     to look for, and as many against which scores are measured
    letters   of one text
    methods   side by side
    idle      seconds without a word after which a client is taken for gone
    """

    clients: int = 4
    fps: float = 30.0
    pixels: int = 1_500_000
    message: int = 2_000_000
    texts: int = 12
    letters: int = 200
    methods: int = 2
    idle: float = 90.0

    def __post_init__(self) -> None:
        for name in ("clients", "fps", "pixels", "message", "texts", "letters", "methods", "idle"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise FastlocError(f"limit {name} is {value!r}; a number above 0 is wanted")


class Violation(FastlocError):
    """What no page of ours does: the connection is closed, with this reason and a WebSocket close code."""

    def __init__(self, message: str, code: int = 1008) -> None:
        super().__init__(message)
        self.code = code


class Rate:
    """At most `rate` a second on the average, `burst` of them at once."""

    def __init__(self, rate: float, burst: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate, self.burst, self._clock = rate, max(burst or rate / 4, 2.0), clock
        self._left, self._at = self.burst, clock()

    def allows(self) -> bool:
        """Whether one more may come now; it is then counted."""
        now = self._clock()
        self._left, self._at = min(self.burst, self._left + (now - self._at) * self.rate), now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def measured(content: bytes, limits: Limits) -> tuple[int, int]:
    """(height, width) of a picture, by its header alone: nothing is decoded.

    Raises ImageError for what is none of `FORMATS` and for more pixels than the limit.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            width, height = picture.size
    # Pillow's readers of broken headers raise whatever they ran into; its bomb check comes before ours for huge sizes
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        if isinstance(error, Image.DecompressionBombError):
            raise ImageError(f"the frame has more than {limits.pixels} pixels, which is the limit") from None
        raise ImageError(f"the frame is no picture in {', '.join(FORMATS)}") from None
    if width * height > limits.pixels:
        raise ImageError(f"the frame is {width} x {height}, {width * height} pixels; the limit is {limits.pixels}")
    return height, width


def decoded(content: bytes) -> NDArray[np.uint8]:
    """The pixels of a picture that `measured` let through, uint8 [H, W, 3] RGB. Raises ImageError for one that is broken."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise ImageError(f"the frame cannot be decoded: {error}") from None
