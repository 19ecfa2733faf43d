"""A decoded frame, in whatever pixel format and orientation, as upright RGB."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from fastloc.errors import ImageError
from fastloc.video.sources.planes import Planes

__all__ = ["Orientation", "orientation", "planes_of", "to_rgb"]

# AVCOL_SPC_UNSPECIFIED
UNTAGGED = 2
# larger than these is high definition, which is BT.709
SD_HEIGHT, SD_WIDTH = 576, 1024

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Orientation:
    """The steps from a decoded picture to an upright one: rows and columns exchanged, then columns and rows reversed."""

    transposed: bool = False
    mirrored: bool = False
    flipped: bool = False

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) once it is upright."""
        return (width, height) if self.transposed else (height, width)

    def apply(self, pixels: Pixels) -> Pixels:
        """uint8 [H, W, C] upright, contiguous."""
        if self.transposed:
            pixels = pixels.swapaxes(0, 1)
        return np.ascontiguousarray(pixels[:: -1 if self.flipped else 1, :: -1 if self.mirrored else 1])


UPRIGHT = Orientation()


def orientation(frame: av.VideoFrame) -> Orientation:
    """Orientation by the frame's display matrix [[a, b, u], [c, d, v], [x, y, w]]: (p, q) is shown at (ap + cq + x, bp + dq + y).
    Angles between are shown at the nearest right one. (ISO/IEC 14496-12, 6.2.2; FFmpeg's display.h.)
    """
    try:
        # not `frame.side_data`: that list and its frame hold each other, and every frame would stay until the collector of cycles comes
        side_data: Any = SideDataContainer(frame)  # type: ignore[call-arg]  # its stub has no __init__
        matrix = side_data.get("DISPLAYMATRIX")
    # PyAV refuses the list as soon as it holds a kind that it does not know
    except ValueError:
        return _by_angle(frame.rotation)
    if matrix is None:
        return UPRIGHT
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(False, a < 0, d < 0)
    return Orientation(True, c < 0, b < 0)


def _by_angle(degrees: int) -> Orientation:
    """Counterclockwise."""
    turns = round(degrees / 90) % 4
    return (UPRIGHT, Orientation(True, False, True), Orientation(False, True, True), Orientation(True, True, False))[turns]


def to_rgb(frame: av.VideoFrame, turn: Orientation = UPRIGHT) -> Pixels:
    """uint8 [H, W, 3], upright, by the frame's own matrix and range; transparency over white.

    Without a stated matrix: BT.709 for frames wider than 1024 or higher than 576, else BT.601, as players do. High dynamic range is not
    mapped to a screen's: it comes out flat. Raises ImageError for a frame that cannot be converted.
    """
    kinds = {"src_colorspace": Colorspace.ITU709} if _high_definition(frame) else {}
    see_through = any(component.is_alpha for component in frame.format.components)
    try:
        # one thread: a second one costs more than it brings below 4K
        converted: Any = frame.reformat(format="rgba" if see_through else "rgb24", threads=1, **kinds)
        pixels: Pixels = converted.to_ndarray()
    except (av.FFmpegError, ValueError) as error:
        raise ImageError(f"a frame in {frame.format.name} cannot be converted to RGB ({type(error).__name__})") from None
    return turn.apply(_over_white(pixels) if see_through else pixels)


def planes_of(frame: av.VideoFrame) -> Planes | None:
    """The frame's own planes, not copied, where they are what `Planes` says by the reading of `to_rgb`; None for every other frame: another
    pixel format, matrix or range, an odd side, or one that has to be turned."""
    plain = frame.format.name == "yuv420p" and frame.color_range != ColorRange.JPEG and not (frame.height % 2 or frame.width % 2)
    if not plain or not (frame.colorspace == Colorspace.ITU709 or _high_definition(frame)) or orientation(frame) != UPRIGHT:
        return None
    # lines that are stored from the last one on
    return Planes.over(frame) if all(plane.line_size >= plane.width for plane in frame.planes) else None


def _high_definition(frame: av.VideoFrame) -> bool:
    # of formats that are RGB already the matrix is never read
    return frame.colorspace == UNTAGGED and (frame.height > SD_HEIGHT or frame.width > SD_WIDTH)


def _over_white(pixels: Pixels) -> Pixels:
    alpha = pixels[..., 3:].astype(np.uint16)
    if alpha.min() == 255:
        return pixels[..., :3]
    shown = (pixels[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255
    return shown.astype(np.uint8)
