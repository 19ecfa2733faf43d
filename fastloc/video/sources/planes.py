"""A picture in the planes that decoders give and encoders take: luma of every pixel, chroma of every second row and column."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Planes", "to_yuv"]

Plane = NDArray[np.uint8]
Floats = NDArray[np.float64]

# luma's share of red and of blue in BT.709, and what is left for green (Rec. ITU-R BT.709-6, 3.2)
RED, BLUE = 0.2126, 0.0722
GREEN = 1 - RED - BLUE
# steps from black to white, and of chroma from one end to the other, of limited range (3.4 and 3.5 there); black, and no colour
LUMA, CHROMA, BLACK, GREY = 219, 224, 16, 128


@dataclass(frozen=True, eq=False)
class Planes:
    """An upright picture, 8 bits, YUV 4:2:0, BT.709 in limited range: what `VideoWriter` encodes as it is.

    Attributes:
        luma: uint8 [H, W], both even
        blue, red: uint8 [H/2, W/2], the differences of blue and of red from luma
        native: the `av.VideoFrame` whose memory these are
        new: True where `blank` or `copy` made them: the frame is no decoder's, and an encoder may have it
    """

    luma: Plane
    blue: Plane
    red: Plane
    native: Any
    new: bool = False

    @classmethod
    def over(cls, native: Any) -> Planes:
        """The planes of an `av.VideoFrame` of the format yuv420p, not copied."""
        luma, blue, red = map(_view, native.planes)
        return cls(luma, blue, red, native)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the picture."""
        return self.luma.shape[0], self.luma.shape[1]

    @property
    def all(self) -> tuple[Plane, Plane, Plane]:
        """Luma, blue and red."""
        return self.luma, self.blue, self.red

    def blank(self) -> Planes:
        """New planes of this size, whose values are not set."""
        from av import VideoFrame
        from av.video.reformatter import ColorRange, Colorspace

        made = VideoFrame(self.shape[1], self.shape[0], "yuv420p")
        made.colorspace, made.color_range = Colorspace.ITU709, ColorRange.MPEG
        return replace(Planes.over(made), new=True)

    def copy(self) -> Planes:
        """The same picture in memory of its own."""
        made = self.blank()
        for old, new in zip(self.all, made.all, strict=True):
            new[:] = old
        return made

    def rgb(self) -> NDArray[np.uint8]:
        """uint8 [H, W, 3]."""
        from av.video.reformatter import Colorspace

        # an untagged frame is BT.709 too: the matrix was chosen when the planes were taken
        pixels: Plane = self.native.reformat(format="rgb24", src_colorspace=Colorspace.ITU709, threads=1).to_ndarray()
        return pixels


def to_yuv(colours: NDArray[Any]) -> Floats:
    """RGB [..., 3] within [0, 255] as float64 luma and differences of blue and red [..., 3], BT.709 in limited range, not rounded."""
    red, green, blue = np.moveaxis(np.asarray(colours, np.float64) / 255, -1, 0)
    luma = RED * red + GREEN * green + BLUE * blue
    differences = ((blue - luma) / (2 - 2 * BLUE), (red - luma) / (2 - 2 * RED))
    return np.stack([BLACK + LUMA * luma, *(GREY + CHROMA * difference for difference in differences)], axis=-1)


def _view(plane: Any) -> Plane:
    """uint8 [rows, columns] over a plane's own memory, whose lines may be longer."""
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
