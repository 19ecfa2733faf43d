"""A picture to draw on, an array of RGB or planes, and marks that are put on it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastloc.video.sources.planes import GREY, Planes, to_yuv

__all__ = ["Canvas", "Mark", "put"]

Pixels = NDArray[np.uint8]
# uint8 [H, W, 3] RGB, or planes
Canvas = Pixels | Planes
# of a plane: uint16 [h, w], what is left of the picture, 0 … 255, and the colour times its opacity, with half of 255 for rounding
Layer = tuple[NDArray[np.uint16], NDArray[np.uint16]]
# of luma, blue and red
Layers = tuple[Layer, Layer, Layer]


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
        luma, blue, red = mark.layers(left % 2, top % 2)
        _mix(canvas.luma, luma, left, top)
        _mix(canvas.blue, blue, left // 2, top // 2)
        _mix(canvas.red, red, left // 2, top // 2)
    else:
        _paste(canvas, mark.picture, left, top)


def _paste(pixels: Pixels, picture: Image.Image, left: int, top: int) -> None:
    x, y = max(left, 0), max(top, 0)
    part = pixels[y : max(top + picture.height, 0), x : max(left + picture.width, 0)]
    if part.size:
        drawn = Image.fromarray(part)
        drawn.paste(picture, (left - x, top - y), picture)
        part[:] = np.asarray(drawn)


def _mix(plane: Pixels, layer: Layer, left: int, top: int) -> None:
    """Pillow's paste through a mask, to the same bit: a 255th part is (n + n / 256) / 256, in whole numbers, of n with 128 more. It
    works on the plane's own memory, which Pillow copies."""
    high, wide = layer[0].shape
    part = plane[max(top, 0) : max(top + high, 0), max(left, 0) : max(left + wide, 0)]
    y, x = max(-top, 0), max(-left, 0)
    kept, colour = (each[y : y + part.shape[0], x : x + part.shape[1]] for each in layer)
    mixed = part.astype(np.uint16)
    mixed *= kept
    mixed += colour
    mixed += mixed >> np.uint16(8)
    mixed >>= np.uint16(8)
    np.copyto(part, mixed, casting="unsafe")


def _layers(pixels: Pixels, left: int, top: int) -> Layers:
    colours, cover = to_yuv(pixels[..., :3]), pixels[..., 3]
    around = (top, (top + len(pixels)) % 2), (left, (left + pixels.shape[1]) % 2)
    weights = np.pad(cover.astype(np.float64), around)
    total = _sums(weights)
    chroma = (_sums(np.pad(colours[..., axis], around) * weights) / np.maximum(total, 1) for axis in (1, 2))
    blue, red = (_layer(np.where(total > 0, each, GREY), total / 4) for each in chroma)
    return _layer(colours[..., 0], cover), blue, red


def _sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of four, [H, W] -> [H/2, W/2]."""
    rows = values[::2] + values[1::2]
    return rows[:, ::2] + rows[:, 1::2]


def _layer(colours: NDArray[np.float64], cover: NDArray[Any]) -> Layer:
    """The layer of colours 0 … 255 and their opacity 0 … 255, both rounded."""
    steps, share = np.rint(colours).astype(np.uint16), np.rint(cover).astype(np.uint16)
    return np.uint16(255) - share, steps * share + np.uint16(128)
