"""Pictures of which a model's input is made without all of their pixels, which are made when somebody looks at them.

JPEG files are decoded at a half, a quarter or an eighth of their size, where the input is far smaller: the decoder leaves out the higher
frequencies of each block, for a fraction of the time. Decoded frames of a video are scaled in their own planes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from fastloc.errors import FastlocError, unknown
from fastloc.utils.system.exhaustion import pass_on

__all__ = ["DECODES", "MARGIN", "LatePicture", "ReducedPicture", "ScaledPicture", "check_decode", "divisor"]

Pair = tuple[int, int]

DECODES = ("full", "reduced")
# the reduced picture has at least this many times the pixels a side that the model's resize leaves, so that this resize, which is
# antialiased, decides what the input is made of
MARGIN = 2
# EXIF orientations that bring the file's last column to the left, and its last row to the top
_LEFT, _TOP = (2, 3, 6, 7), (3, 4, 7, 8)
_ORIENTATION = 0x0112


class LatePicture(Image.Image):
    """An RGB picture of a size (width, height) that `make` makes at the first use of its pixels: many pictures are asked for their size
    alone."""

    def __init__(self, size: Pair, make: Callable[[], Image.Image]) -> None:
        super().__init__()
        self._mode, self._size, self._make = "RGB", size, make

    def load(self) -> Any:
        """Make the pixels, once. Raises what `make` raises."""
        if self._im is None:
            self.im = self._make().im
        return super().load()

    def __reduce__(self) -> tuple[Any, ...]:
        return Image.frombytes, ("RGB", self.size, self.tobytes())


class ReducedPicture(LatePicture):
    """An upright RGB picture of full size whose pixels are not decoded yet, and beside it the same picture at 1 / divisor.

    Attributes:
        small: the reduced picture, RGB, upright
        box: the part of it, (left, top, right, bottom) in its pixels, that is the picture: a last block may be cut in the middle
        decode: makes the full picture; called at the first use of its pixels, which raises ImageError where they cannot be decoded
    """

    def __init__(self, small: Image.Image, size: Pair, divisor: int, orientation: int, decode: Callable[[], Image.Image]) -> None:
        super().__init__(size, decode)
        self.small = small
        width, height = size[0] / divisor, size[1] / divisor
        left = small.width - width if orientation in _LEFT else 0.0
        top = small.height - height if orientation in _TOP else 0.0
        self.box = (left, top, left + width, top + height)

    def suffices(self, least: Pair) -> bool:
        """True where the reduced picture has at least (height, width) pixels."""
        return self.small.height >= least[0] and self.small.width >= least[1]


class ScaledPicture(LatePicture):
    """An upright RGB picture of full size whose pixels are not made yet, and which can be had at any other size at once.

    Attributes:
        scaled: gives a new array, float32 [3, h, w] within [0, 255], at a (height, width), by one of `preprocess.INTERPOLATIONS`
    """

    def __init__(self, size: Pair, make: Callable[[], Image.Image], scaled: Callable[[Pair, str], NDArray[np.float32]]) -> None:
        super().__init__(size, make)
        self.scaled = scaled


def check_decode(decode: str) -> None:
    """Raise FastlocError unless it is one of `DECODES`."""
    if decode not in DECODES:
        raise FastlocError(unknown("decode", decode, DECODES))


def divisor(picture: ImageFile.ImageFile, least: Pair) -> int:
    """1, 2, 4 or 8: how much smaller a JPEG of one of Pillow's readers can be decoded with at least (height, width) upright pixels."""
    if picture.format != "JPEG":
        return 1
    height, width = least[::-1] if turned(picture) else least
    ratio = min(picture.width / width, picture.height / height)
    return max(scale for scale in (1, 2, 4, 8) if scale <= max(ratio, 1))


def orientation(picture: Image.Image) -> int:
    """The EXIF orientation, 1 … 8; 1 where there is none that can be read."""
    # a malformed EXIF block says nothing about the pixels, which are fine
    try:
        found = picture.getexif().get(_ORIENTATION, 1)
    except Exception as error:
        pass_on(error)
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def turned(picture: Image.Image) -> bool:
    """True where the orientation exchanges rows and columns."""
    return orientation(picture) >= 5
