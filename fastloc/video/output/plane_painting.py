"""Heat of several texts over a picture's planes: a byte and a half of a pixel, where RGB has three."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloc.imaging.heat_arrays import side_by_side
from fastloc.video.output.warm_parts import Part, Stream
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


def paint_planes(planes: Planes, luma: Sequence[Stream], chroma: Sequence[Stream], paints: PlanePaints) -> Planes:
    """New planes: each part is painted over the picture, a pixel as its paints say at its place, [256 * n] for heat 0 … 255 of each text.

    luma, chroma: as many streams, of the parts at the picture's size and at half of it. Each of both is painted in a thread of its own;
    together they have all rows once. A cover of 0 leaves a value as it is; another is within two levels of the exact mixture.
    """
    painted = planes.blank()
    bright = [(planes.luma, painted.luma, paints.luma)]
    coloured = [(planes.blue, painted.blue, paints.blue), (planes.red, painted.red, paints.red)]
    side_by_side([partial(_both, (bright, *one), (coloured, *other)) for one, other in zip(luma, chroma, strict=True)])
    return painted


def _both(*halves: tuple[Any, slice, Iterable[Part]]) -> None:
    for half in halves:
        _paint(*half)


def _paint(layers: Sequence[tuple[Steps, Steps, Words]], within: slice, parts: Iterable[Part]) -> None:
    """Paint the parts in each layer: a plane, the one that is painted, and the paints."""
    # kept from part to part: memory that was just read and written is in the cache
    room, copied = np.empty((3, 0), np.uint16), within.start
    for rows, columns, places in parts:
        if room.shape[1] < places.size:
            room = np.empty((3, places.size), np.uint16)
        words, mixed, left = (each[: places.size].reshape(places.shape) for each in room)
        for plane, painted, table in layers:
            painted[copied : rows.stop] = plane[copied : rows.stop]
            # "wrap" and not "raise", which writes into a copy first
            table.take(places, out=words, mode="wrap")
            np.copyto(mixed, plane[rows, columns])
            _mix(mixed, words, left)
            np.copyto(painted[rows, columns], mixed, casting="unsafe")
        copied = max(copied, rows.stop)
    for plane, painted, _ in layers:
        painted[copied : within.stop] = plane[copied : within.stop]


def _mix(mixed: Words, words: Words, left: Words) -> None:
    """Paint over values, in place. What is left of a value is one 256th part more than the paint says: all of it for 255, none for 0; what
    it adds below the whole levels is at most what the paint leaves room for. left: memory for the work."""
    np.bitwise_and(words, np.uint16(255), out=left)
    left += np.uint16(1)
    mixed *= left
    mixed += words
    mixed >>= np.uint16(8)
