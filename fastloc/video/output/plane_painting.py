"""Heat of several texts over a picture's planes: a byte and a half of a pixel, where RGB has three."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

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
    left of the picture; of luma uint32, twice the same, for two pixels side by side."""

    luma: NDArray[np.uint32]
    blue: Words
    red: Words


def plane_paints(colours: Steps, cover: Sequence[int]) -> PlanePaints:
    """The paints of colours, uint8 RGB [256 * n, 3], and of the cover [256] of the heat, 255 for all of it."""
    share = np.tile(np.asarray(cover, np.float64), len(colours) // 256)
    mixed = np.rint(to_yuv(colours) * share[:, None] / 255).astype(np.uint16) << 8
    luma, blue, red = map(np.ascontiguousarray, (mixed | (255 - share).astype(np.uint16)[:, None]).T)
    return PlanePaints(luma.repeat(2).view(np.uint32), blue, red)


def paint_planes(planes: Planes, streams: Sequence[Stream], paints: PlanePaints) -> Planes:
    """New planes: each part is painted over the picture, a pixel as its paints say at its place, [256 * n] for heat 0 … 255 of each text.

    Parts are of a picture of half the size, [H/2, W/2]: heat is read between four pixels, for chroma and for the luma of these four. Each
    stream is read and painted in a thread of its own; together they have all rows once. A cover of 0 leaves a value as it is; another is
    within two levels of the exact mixture.
    """
    painted = planes.blank()
    side_by_side([partial(_paint, planes, painted, *stream, paints) for stream in streams])
    return painted


def _paint(planes: Planes, painted: Planes, within: slice, parts: Iterable[Part], paints: PlanePaints) -> None:
    # rows of chroma, and pairs of rows [H/2, 2, W]: a plane, the one that is painted, its paints, and its columns for one of the part
    layers: list[tuple[Steps, Steps, NDArray[Any], int]] = [
        (_pairs(planes.luma), _pairs(painted.luma), paints.luma, 2),
        (planes.blue[:, None], painted.blue[:, None], paints.blue, 1),
        (planes.red[:, None], painted.red[:, None], paints.red, 1),
    ]
    # kept from part to part: memory that was just read and written is in the cache
    room, copied = np.empty((4, 0), np.uint32), within.start
    for rows, columns, places in parts:
        # the rows that a part covers from side to side are not copied before
        before = rows.start if columns == slice(0, planes.shape[1] // 2) else rows.stop
        if room.shape[1] < places.size:
            room = np.empty((4, places.size), np.uint32)
        for plane, new, table, wide in layers:
            new[copied:before] = plane[copied:before]
            where = slice(columns.start * wide, columns.stop * wide)
            _mix(plane[rows, :, where], new[rows, :, where], table, places, room)
        copied = max(copied, rows.stop)
    for plane, new, *_ in layers:
        new[copied : within.stop] = plane[copied : within.stop]


def _pairs(plane: Steps) -> Steps:
    """Two rows at a time, [H/2, 2, W], not copied."""
    high, wide = plane.shape
    line, step = plane.strides
    return np.lib.stride_tricks.as_strided(plane, (high // 2, 2, wide), (2 * line, line, step))


def _mix(plane: Steps, new: Steps, table: NDArray[Any], places: Places, room: NDArray[np.uint32]) -> None:
    """Paint over values [n, 1 or 2, W], in room for the work.

    Of a value v, 255ths k are left: (v * k + k) / 256 in whole numbers is v for 255, 0 for 0, and less than one from v * k / 255. A word
    has k in its low byte, so that its sum with v * k has it too.
    """
    paint = room[0].view(table.dtype)[: places.size].reshape(places.shape)
    # "wrap" and not "raise", which writes into a copy first
    table.take(places, out=paint, mode="wrap")
    words = paint.view(np.uint16)
    left = room[1].view(np.uint16)[: words.size].reshape(words.shape)
    mixed = room[2:].reshape(-1).view(np.uint16)[: plane.size].reshape(plane.shape)
    np.bitwise_and(words, np.uint16(255), out=left)
    np.copyto(mixed, plane)
    mixed *= left[:, None]
    mixed += words[:, None]
    mixed >>= np.uint16(8)
    np.copyto(new, mixed, casting="unsafe")
