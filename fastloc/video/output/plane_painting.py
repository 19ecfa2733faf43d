"""Heat of several texts over a picture's planes: a byte and a half of a pixel, where RGB has three."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fastloc.imaging.heat_arrays import side_by_side
from fastloc.video.output.warm_parts import Part, Stream, Strongest
from fastloc.video.sources.planes import Planes, to_yuv

__all__ = ["PlanePaints", "paint_planes", "plane_paints"]

Steps = NDArray[np.uint8]
Words = NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class PlanePaints:
    """Colours in planes, and what each step of heat leaves of the picture.

    Attributes:
        colours: uint8 [3, n], luma, blue and red: of each text, or, by_heat, of each step of the heat of all texts, n = 256
        left: [256], of each step of heat, 255 for all of the picture
        by_heat: whether colours are those of steps
    """

    colours: Steps
    left: bytes
    by_heat: bool


def plane_paints(colours: Steps, cover: Sequence[int], by_heat: bool) -> PlanePaints:
    """The paints of colours, uint8 RGB [n, 3], and of the cover [256] of the heat, 255 for all of it."""
    steps = np.ascontiguousarray(np.rint(to_yuv(colours)).astype(np.uint8).T)
    return PlanePaints(steps, bytes(255 - share for share in cover), by_heat)


def paint_planes(planes: Planes, streams: Sequence[Stream], paints: PlanePaints) -> Planes:
    """New planes: each part is painted over the picture, a pixel as its paints say of its strongest text and its heat.

    Parts are of a picture of half the size, [H/2, W/2]: heat is read between four pixels, for chroma and for the luma of these four. Each
    stream is read and painted in a thread of its own; together they have all rows once. A cover of 0 leaves a value as it is; another is
    within one level of the exact mixture of the planes' colours.
    """
    painted = planes.blank()
    side_by_side([partial(_paint, planes, painted, *stream, paints) for stream in streams])
    return painted


def _paint(planes: Planes, painted: Planes, within: slice, parts: Iterable[Part], paints: PlanePaints) -> None:
    # rows of chroma, and pairs of rows [H/2, 2, W] of luma; a plane, and the one that is painted
    (luma, new_luma), *chroma = pairs = [
        (_pairs(planes.luma), _pairs(painted.luma)), (planes.blue, painted.blue), (planes.red, painted.red),
    ]  # fmt: skip
    # kept from part to part: memory that was just read and written is in the cache
    brush, copied = _Brush(paints, 0), within.start
    for rows, columns, strongest in parts:
        # the rows that a part covers from side to side are not copied before
        before = rows.start if columns == slice(0, planes.shape[1] // 2) else rows.stop
        for plane, new in pairs:
            new[copied:before] = plane[copied:before]
        copied = max(copied, rows.stop)
        if brush.pixels < strongest.heat.size:
            brush = _Brush(paints, strongest.heat.size)
        brush.dip(strongest)
        where = rows, slice(None), slice(2 * columns.start, 2 * columns.stop)
        brush.mix_luma(luma[where], new_luma[where])
        brush.mix_chroma(*([plane[rows, columns] for plane in each] for each in zip(*chroma, strict=True)))
    for plane, new in pairs:
        new[copied : within.stop] = plane[copied : within.stop]


def _pairs(plane: Steps) -> Steps:
    """Two rows at a time, [H/2, 2, W], not copied."""
    high, wide = plane.shape
    line, step = plane.strides
    return np.lib.stride_tricks.as_strided(plane, (high // 2, 2, wide), (2 * line, line, step))


class _Brush:
    """Mixes paints with one part of a picture after the other, in memory for so many pixels.

    Of a value v, k 255ths are left, and of a colour c the rest: (v * k + c * (255 - k) + 255) / 256 in whole numbers is v for 255, c for 0,
    and less than one from the exact mixture.
    """

    def __init__(self, paints: PlanePaints, pixels: int) -> None:
        self.paints, self.pixels = paints, pixels
        self._bytes, self._paint = np.empty((2, 3 * pixels), np.uint8), np.empty(3 * pixels, np.uint16)
        self._words, self._twice = np.empty((2, pixels), np.uint16), np.empty((2, pixels), np.uint32)
        self._mixed = np.empty(4 * pixels, np.uint16)

    def dip(self, strongest: Strongest) -> None:
        """Take the paints of a part: what is left [h * w], and the colours [3, h * w] times what they cover, rounded up."""
        heat, count, colours = strongest.heat.tobytes(), strongest.heat.size, self.paints.colours
        self.left, cover = (each[:count] for each in self._words)
        self.paint = self._paint[: 3 * count].reshape(3, count)
        np.copyto(self.left, _looked_up(heat, self.paints.left))
        np.subtract(np.uint16(255), self.left, out=cover)
        if self.paints.by_heat:
            for paint, table in zip(self.paint, colours, strict=True):
                np.copyto(paint, _looked_up(heat, table.tobytes()))
        else:
            found, spare = (each[: 3 * count].reshape(3, count) for each in self._bytes)
            strongest.of(colours, found, spare)
            np.copyto(self.paint, found)
        self.paint *= cover
        self.paint += np.uint16(255)

    def mix_luma(self, plane: Steps, new: Steps) -> None:
        """Mix with values [h, 2, 2 * w], four for each paint."""
        left, paint = (_twice(*each).reshape(len(plane), 1, -1) for each in zip((self.left, self.paint[0]), self._twice, strict=True))
        mixed = self._mixed[: plane.size].reshape(plane.shape)
        np.copyto(mixed, plane)
        _mix(mixed, left, paint)
        np.copyto(new, mixed, casting="unsafe")

    def mix_chroma(self, planes: Sequence[Steps], painted: Sequence[Steps]) -> None:
        """Mix with values of blue and of red, each [h, w]."""
        shape = planes[0].shape
        mixed = self._mixed[: 2 * planes[0].size].reshape(2, *shape)
        for room, plane in zip(mixed, planes, strict=True):
            np.copyto(room, plane)
        _mix(mixed, self.left.reshape(shape), self.paint[1:].reshape(mixed.shape))
        for room, new in zip(mixed, painted, strict=True):
            np.copyto(new, room, casting="unsafe")


def _mix(values: Words, left: Words, paint: Words) -> None:
    values *= left
    values += paint
    values >>= np.uint16(8)


def _looked_up(steps: bytes, table: bytes) -> Steps:
    """The table's byte [256] for each step: faster than numpy's take, which needs numbers of eight bytes."""
    return np.frombuffer(steps.translate(table), np.uint8)


def _twice(words: Words, room: NDArray[np.uint32]) -> Words:
    """Each word twice, side by side."""
    found = room[: words.size]
    np.copyto(found, words)
    found *= np.uint32(0x00010001)
    return found.view(np.uint16)
