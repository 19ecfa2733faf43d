"""A picture to draw on, an array of RGB or planes, and marks that are put on it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastloc.video.sources.planes import GREY, Planes, to_yuv

__all__ = ["Canvas", "Mark", "put"]

Pixels = NDArray[np.uint8]
# uint8 [H, W, 3] RGB, or planes
Canvas = Pixels | Planes
# luma and its opacity; blue, red, and theirs: of mode L
Layers = tuple[Image.Image, Image.Image, Image.Image, Image.Image, Image.Image]


class Mark:
    """A small picture, RGBA, that is put on others; for planes it is converted once for each place of its left top among four pixels."""

    def __init__(self, picture: Image.Image) -> None:
        self.picture = picture
        self._layers: dict[tuple[int, int], Layers] = {}

    @property
    def width(self) -> int:
        """Pixels."""
        return self.picture.width

    @property
    def height(self) -> int:
        """Pixels."""
        return self.picture.height

    def layers(self, left: int, top: int) -> Layers:
        """The mark in planes, where it begins so many pixels, 0 or 1, behind a sample of chroma: that has the mean opacity of its four
        pixels, and the mean of their colours as far as they are opaque."""
        if (left, top) not in self._layers:
            self._layers[left, top] = _layers(np.asarray(self.picture), left, top)
        return self._layers[left, top]


def put(canvas: Canvas, mark: Mark, left: int, top: int) -> None:
    """Paste a mark over the canvas at a position, as far as it lies within."""
    if isinstance(canvas, Planes):
        luma, cover, blue, red, mean = mark.layers(left % 2, top % 2)
        _paste(canvas.luma, luma, cover, left, top)
        _paste(canvas.blue, blue, mean, left // 2, top // 2)
        _paste(canvas.red, red, mean, left // 2, top // 2)
    else:
        _paste(canvas, mark.picture, mark.picture, left, top)


def _paste(pixels: Pixels, picture: Image.Image, cover: Image.Image, left: int, top: int) -> None:
    x, y = max(left, 0), max(top, 0)
    part = pixels[y : max(top + picture.height, 0), x : max(left + picture.width, 0)]
    if part.size:
        drawn = Image.fromarray(part)
        drawn.paste(picture, (left - x, top - y), cover)
        part[:] = np.asarray(drawn)


def _layers(pixels: Pixels, left: int, top: int) -> Layers:
    colours, cover = to_yuv(pixels[..., :3]), pixels[..., 3]
    around = (top, (top + len(pixels)) % 2), (left, (left + pixels.shape[1]) % 2)
    weights = np.pad(cover.astype(np.float64), around)
    total = _sums(weights)
    chroma = (_sums(np.pad(colours[..., axis], around) * weights) / np.maximum(total, 1) for axis in (1, 2))
    blue, red = (_image(np.where(total > 0, each, GREY)) for each in chroma)
    return _image(colours[..., 0]), Image.fromarray(np.ascontiguousarray(cover)), blue, red, _image(total / 4)


def _sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of four, [H, W] -> [H/2, W/2]."""
    rows = values[::2] + values[1::2]
    return rows[:, ::2] + rows[:, 1::2]


def _image(values: NDArray[np.float64]) -> Image.Image:
    return Image.fromarray(np.rint(values).astype(np.uint8))
