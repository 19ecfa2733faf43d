"""Heat of several texts over a picture's planes: a byte and a half of a pixel, where RGB has three."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fastloc.imaging.heat_arrays import side_by_side
from fastloc.video.output.warm_parts import Part, Places, Stream
from fastloc.video.sources.planes import Planes, to_yuv

__all__ = ["PlanePaints", "paint_planes", "plane_paints"]

Steps = NDArray[np.uint8]
Words = NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class PlanePaints:
    """A paint of each step of heat for each plane: uint16 [256 * n], the colour times the cover in the high byte, in the low one what is
    left of the picture."""

    luma: Words
    blue: Words
    red: Words


def plane_paints(colours: Steps, cover: Sequence[int]) -> PlanePaints:
    """The paints of colours, uint8 RGB [256 * n, 3], and of the cover [256] of the heat, 255 for all of it."""
    share = np.tile(np.asarray(cover, np.float64), len(colours) // 256)
    mixed = np.rint(to_yuv(colours) * share[:, None] / 255).astype(np.uint16) << 8
    luma, blue, red = (mixed | (255 - share).astype(np.uint16)[:, None]).T
    return PlanePaints(*map(np.ascontiguousarray, (luma, blue, red)))


def paint_planes(planes: Planes, streams: Sequence[Stream], paints: PlanePaints) -> Planes:
    """New planes: each part is painted over the picture, a pixel as its paints say at its place, [256 * n] for heat 0 … 255 of each text.

    Parts are of a picture [H/2, W]: heat is read between two rows of luma, which is where chroma lies, and holds for both; chroma takes
    that of the even columns, where it lies in most videos (H.264's chroma location 0). Each stream is read and painted in a thread of its
    own; together they have all rows once. A cover of 0 leaves a value as it is; another is within two levels of the exact mixture.
    """
    painted = planes.blank()
    side_by_side([partial(_paint, planes, painted, *stream, paints) for stream in streams])
    return painted


def _paint(planes: Planes, painted: Planes, within: slice, parts: Iterable[Part], paints: PlanePaints) -> None:
    # pairs of rows, [H/2, 2, W], and rows of chroma
    layers = [
        (_pairs(planes.luma), _pairs(painted.luma), paints.luma),
        (planes.blue[:, None], painted.blue[:, None], paints.blue),
        (planes.red[:, None], painted.red[:, None], paints.red),
    ]
    # kept from part to part: memory that was just read and written is in the cache
    room, copied = _Room(0), within.start
    for rows, columns, places in parts:
        # what a part covers from side to side is not copied before
        before = rows.start if columns == slice(0, planes.shape[1]) else rows.stop
        for plane, new, _ in layers:
            new[copied:before] = plane[copied:before]
        copied = max(copied, rows.stop)
        if room.pixels < places.size:
            room = _Room(places.size)
        across, coloured = slice((columns.start + 1) // 2, (columns.stop + 1) // 2), room.even(places, columns.start % 2)
        for (plane, new, table), where, at in zip(layers, (columns, across, across), (places, coloured, coloured), strict=True):
            if at.size:
                _mix(plane[rows, :, where], new[rows, :, where], table, at, room)
    for plane, new, _ in layers:
        new[copied : within.stop] = plane[copied : within.stop]


class _Room:
    """Memory for the work on a part of so many places at most."""

    def __init__(self, pixels: int) -> None:
        self.pixels = pixels
        self.words, self.left = np.empty((2, pixels), np.uint16)
        self.mixed, self._places = np.empty(2 * pixels, np.uint16), np.empty(pixels, np.intp)

    def even(self, places: Places, first: int) -> Places:
        """Every second column from the first one on, side by side."""
        some = places[:, first::2]
        found = self._places[: some.size].reshape(some.shape)
        np.copyto(found, some)
        return found


def _pairs(plane: Steps) -> Steps:
    """Two rows at a time, [H/2, 2, W], not copied."""
    high, wide = plane.shape
    line, step = plane.strides
    return np.lib.stride_tricks.as_strided(plane, (high // 2, 2, wide), (2 * line, line, step))


def _mix(plane: Steps, new: Steps, table: Words, places: Places, room: _Room) -> None:
    """Paint over values [n, 1 or 2, W] at places [n, W]. What is left of a value is one 256th part more than the paint says: all of it for
    255, none for 0; what this adds below the whole levels is at most what the paint leaves room for."""
    words, left = (each[: places.size].reshape(places.shape) for each in (room.words, room.left))
    mixed = room.mixed[: plane.size].reshape(plane.shape)
    # "wrap" and not "raise", which writes into a copy first
    table.take(places, out=words, mode="wrap")
    np.bitwise_and(words, np.uint16(255), out=left)
    left += np.uint16(1)
    np.copyto(mixed, plane)
    mixed *= left[:, None]
    mixed += words[:, None]
    mixed >>= np.uint16(8)
    np.copyto(new, mixed, casting="unsafe")
