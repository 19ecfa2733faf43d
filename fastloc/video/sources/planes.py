"""A picture in the planes that decoders give and encoders take: luma of every pixel, chroma of every second row and column."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastloc.errors import ImageError
from fastloc.imaging.geometry import size_text

__all__ = ["Planes", "to_rgb", "to_yuv"]

Plane = NDArray[np.uint8]
Floats = NDArray[np.float64]

# luma's share of red and of blue in BT.709, and what is left for green (Rec. ITU-R BT.709-6, 3.2)
RED, BLUE = 0.2126, 0.0722
GREEN = 1 - RED - BLUE
# steps from black to white, and of chroma from one end to the other, of limited range (3.4 and 3.5 there); black, and no colour
LUMA, CHROMA, BLACK, GREY = 219, 224, 16, 128
# libswscale's weights of rows are of 12 bits, so that levels shift by several steps from row to row where one row is made of many: beyond
# three times the rows by lanczos, four by bicubic, and twelve by areas, which come first up to twice the size
SHARP, FAR = 3, 24


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

    def scaled(self, size: tuple[int, int], interpolation: str = "bicubic") -> NDArray[np.float32]:
        """New RGB, float32 [3, h, w] within [0, 255], not rounded: the planes scaled to (height, width) by libswscale, antialiased, and
        then converted. Of a frame far larger that is a tenth of the work of converting all of it and resizing that.

        interpolation: a name of `preprocess.INTERPOLATIONS`; libswscale's bicubic is a little sharper than Pillow's. Frames of more than
        `SHARP` times the rows are first scaled to twice the size by areas, and those beyond `FAR` times are converted and resized.

        Raises ImageError for a frame that cannot be scaled.
        """
        high, wide = self.shape
        if interpolation == "nearest":
            steps = [("POINT", size)]
        elif max(high / size[0], wide / size[1]) > FAR:
            from fastloc.imaging.preprocess import INTERPOLATIONS

            resized = Image.fromarray(self.rgb()).resize(size[::-1], INTERPOLATIONS[interpolation])
            return np.ascontiguousarray(np.asarray(resized, np.float32).transpose(2, 0, 1))
        else:
            steps = [(interpolation.upper(), size)]
            if high > SHARP * size[0]:
                steps.insert(0, ("AREA", (2 * size[0], min(2 * size[1], wide))))
        small = self.native
        for scaler, to in steps:
            small = _scaled(small, to, scaler)
        return to_rgb(*map(_view, small.planes))

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


def to_rgb(luma: Plane, blue: Plane, red: Plane) -> NDArray[np.float32]:
    """Planes uint8 [h, w] of one size, BT.709 in limited range, as RGB within [0, 255], float32 [3, h, w], not rounded."""
    made = np.empty((3, *luma.shape), np.float32)
    # in place, a colour each: new memory costs more than the arithmetic
    for index, plane, zero, scale in (
        (1, luma, BLACK, 255 / LUMA), (2, blue, GREY, 255 / CHROMA * (2 - 2 * BLUE)), (0, red, GREY, 255 / CHROMA * (2 - 2 * RED)),
    ):  # fmt: skip
        made[index] = plane
        made[index] -= np.float32(zero)
        made[index] *= np.float32(scale)
    made[0] += made[1]
    made[2] += made[1]
    # luma is the sum of the three, each with its share
    for index, share in ((0, RED), (2, BLUE)):
        made[1] -= made[index] * np.float32(share)
    made[1] *= np.float32(1 / GREEN)
    np.clip(made, 0, 255, out=made)
    return made


def _scaled(native: Any, size: tuple[int, int], scaler: str) -> Any:
    """The planes of an `av.VideoFrame` at (height, width), chroma as fine as luma, by an `av.video.reformatter.Interpolation`."""
    from av import FFmpegError
    from av.video.reformatter import Interpolation

    try:
        return _KEPT.scaler(scaler).reformat(native, size[1], size[0], "yuv444p", interpolation=Interpolation[scaler], threads=1)
    except (FFmpegError, ValueError) as error:
        # its state is unknown
        _KEPT.scalers.pop(scaler, None)
        raise ImageError(f"a frame cannot be scaled to {size_text(size)} ({type(error).__name__})") from None


class _Kept(threading.local):
    """The weights that libswscale has worked out for a thread's frames, a sixth of the time from a frame to an input; anew where sizes
    change."""

    def __init__(self) -> None:
        self.scalers: dict[str, Any] = {}

    def scaler(self, interpolation: str) -> Any:
        """The `av.video.reformatter.VideoReformatter` of an interpolation."""
        from av.video.reformatter import VideoReformatter

        if interpolation not in self.scalers:
            self.scalers[interpolation] = VideoReformatter()
        return self.scalers[interpolation]


_KEPT = _Kept()


def _view(plane: Any) -> Plane:
    """uint8 [rows, columns] over a plane's own memory, whose lines may be longer."""
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
