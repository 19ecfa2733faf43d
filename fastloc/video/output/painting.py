"""Heat of several texts over a frame, four bytes of a pixel at a time: what Pillow's paste through a mask does one byte after the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fastloc.imaging.heat_arrays import side_by_side
from fastloc.video.output.warm_parts import Part, Stream

__all__ = ["least_of", "paint", "paints"]

Steps = NDArray[np.uint8]
# red in the lowest byte
Words = NDArray[np.uint32]

OUTER, INNER = np.uint32(0x00FF00FF), np.uint32(0x0000FF00)


def paints(colours: Steps, cover: Sequence[int]) -> Words:
    """A paint of each step of heat: colours, uint8 [256 * n, 3], times the cover [256] of the heat, and in the highest byte what is left
    of the picture."""
    share = np.tile(np.asarray(cover, np.uint32), len(colours) // 256)
    red, green, blue = ((colours * share[:, None] + 127) // 255).T.astype(np.uint32)
    mixed: Words = red | green << 8 | blue << 16 | (255 - share) << 24
    return mixed


def least_of(table: Words) -> int:
    """The first step of heat that a table of paints shows, 1 … 255."""
    return max(int((table[:256] >> 24 < 255).argmax()), 1)


def paint(pixels: Steps, streams: Sequence[Stream], table: Words) -> Steps:
    """New pixels uint8 [H, W, 3]: each part is painted over the picture, a pixel as the table of `paints` says at its place, [256 * n] for
    heat 0 … 255 of each text. Each stream is read and painted in a thread of its own; together they have all rows once. A cover of 0 leaves
    a pixel as it is; another is within two levels of the exact mixture."""
    pixels = np.ascontiguousarray(pixels)
    painted = np.empty_like(pixels)
    side_by_side([partial(_paint, pixels, painted, *stream, table) for stream in streams])
    return painted


def _paint(pixels: Steps, painted: Steps, within: slice, parts: Iterable[Part], table: Words) -> None:
    # kept from part to part: memory that was just read and written is in the cache
    room, copied = np.empty((4, 0), np.uint32), within.start
    for rows, columns, places in parts:
        if rows.stop > copied:
            painted[copied : rows.stop], copied = pixels[copied : rows.stop], rows.stop
        if room.shape[1] < places.size:
            room = np.empty((4, places.size), np.uint32)
        words, paint, *spare = (each[: places.size].reshape(places.shape) for each in room)
        _read(pixels, rows, columns, words)
        # "wrap" and not "raise", which writes into a copy first
        table.take(places, out=paint, mode="wrap")
        _mix(words, paint, *spare)
        _write(words, painted, rows, columns)
    painted[copied : within.stop] = pixels[copied : within.stop]


def _mix(words: Words, paint: Words, left: Words, inner: Words) -> None:
    """Paint over words, in place; their highest byte is lost. What is left of a byte is one 256th part more than the paint says: all of it
    for 255, none for 0. left, inner: memory for the work."""
    np.right_shift(paint, np.uint32(24), out=left)
    left += np.uint32(1)
    np.bitwise_and(words, INNER, out=inner)
    inner *= left
    inner &= INNER << np.uint32(8)
    words &= OUTER
    words *= left
    words &= OUTER << np.uint32(8)
    words |= inner
    words >>= np.uint32(8)
    words += paint


def _read(pixels: Steps, rows: slice, columns: slice, words: Words) -> None:
    """Write a part of a frame into words; their highest bytes are of no use."""
    words[:, :-1] = _overlapping(pixels, rows, columns)
    _bytes(words)[:, -1] = pixels[rows, columns.stop - 1]


def _write(words: Words, pixels: Steps, rows: slice, columns: slice) -> None:
    """Write words into a part of a frame, from the left: each over the highest byte of the one before it."""
    _overlapping(pixels, rows, columns)[:] = words[:, :-1]
    pixels[rows, columns.stop - 1] = _bytes(words)[:, -1]


def _overlapping(pixels: Steps, rows: slice, columns: slice) -> Words:
    """Words over the frame's own bytes, three bytes apart, one for each pixel of a part but for its last column."""
    line = 3 * pixels.shape[1]
    shape = rows.stop - rows.start, columns.stop - columns.start - 1
    return np.ndarray(shape, "<u4", pixels.data, rows.start * line + 3 * columns.start, (line, 3))


def _bytes(words: Words) -> Steps:
    return words.view(np.uint8).reshape(*words.shape, 4)[..., :3]
