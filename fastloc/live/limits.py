"""Limits of a client's requests, and checks of a picture before it is decoded."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastloc.errors import FastlocError, ImageError
from fastloc.imaging.picture_formats import check_scans
from fastloc.utils.system.exhaustion import exhausted

__all__ = ["FORMATS", "MOMENT", "WORDS", "Limits", "Violation", "decoded", "measured"]

FORMATS = ("JPEG", "WEBP", "PNG")
# letters of a JSON message; the longest valid request is shorter, however it is escaped
WORDS = 65_536
# a time in ms, of either sign; a double distinguishes whole ones up to here
MOMENT = 2.0**53
# messages a second, of any kind, in multiples of the frames a second: beyond it a client is sent away
FLOOD = 4


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one client.

    Attributes:
        clients: that may be connected at a time
        fps: frames a second
        pixels: of one frame
        message: bytes of one message
        texts: to look for, and as many against which scores are measured
        letters: of one text
        methods: side by side
        idle: seconds without a word after which a client is taken for gone
        pulse: seconds between pings of the server; a client that does not answer one for twice as long is gone
        stuck: seconds that a client may take for taking a message, or the answer to a request
        head: seconds for a request's head, a TLS handshake, and between two requests
        connections: that may be open at a time, of all clients together and before anything is known of them
    """

    clients: int = 4
    fps: float = 30.0
    pixels: int = 1_500_000
    message: int = 2_000_000
    texts: int = 12
    letters: int = 200
    methods: int = 2
    idle: float = 90.0
    pulse: float = 5.0
    stuck: float = 20.0
    head: float = 10.0
    connections: int = 128

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise FastlocError(f"limit {name} must be a number above 0, got {value!r}")


class Violation(FastlocError):
    """A message that fastloc's page never sends: the connection is closed, with this reason and a WebSocket close code."""

    def __init__(self, message: str, code: int = 1008) -> None:
        super().__init__(message)
        self.code = code


def measured(content: bytes, limits: Limits) -> tuple[int, int]:
    """(height, width) of a picture, by its header alone: nothing is decoded.

    Raises ImageError for what is none of `FORMATS` and for more pixels than the limit.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            width, height = picture.size
    # Pillow's readers of broken headers raise whatever they ran into; its bomb check comes before ours for huge sizes
    except Exception as error:
        if isinstance(error, Image.DecompressionBombError):
            raise ImageError(f"the frame must have at most {limits.pixels} pixels, got more") from None
        # a frame may ask for more than there is: it is refused, and the connection stays
        raise ImageError(exhausted(error) or f"the frame must be a picture in {', '.join(FORMATS)}") from None
    if width * height > limits.pixels:
        raise ImageError(f"the frame must have at most {limits.pixels} pixels, got {width} x {height} = {width * height}")
    check_scans(content, "the frame")
    return height, width


def decoded(content: bytes) -> NDArray[np.uint8]:
    """The pixels of a picture that `measured` let through, uint8 [H, W, 3] RGB. Raises ImageError for one that is broken."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            return np.asarray(picture.convert("RGB"))
    except Exception as error:
        raise ImageError(f"the frame cannot be decoded: {exhausted(error) or error}") from None
