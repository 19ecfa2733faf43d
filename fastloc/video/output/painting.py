"""Heat of several texts over a frame, four bytes of a pixel at a time: what Pillow's paste through a mask does one byte after the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from fastloc.video.output.warm_parts import Part

__all__ = ["MOST", "least_of", "paint", "paints"]

Steps = NDArray[np.uint8]
# red in the lowest byte
Words = NDArray[np.uint32]

# texts that have colours of their own
MOST = 256
OUTER, INNER = np.uint32(0xFF00FF), np.uint32(0x00FF00)


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


def paint(pixels: Steps, parts: Iterable[Part], table: Words) -> Steps:
    """New pixels uint8 [H, W, 3]: in each part the highest heat of a pixel, of the first text that has it, is painted over the picture as
    the table of `paints` says, [256 * n] for heat 0 … 255 of each; texts from `MOST` on have the last one's. A cover of 0 leaves a pixel as
    it is; another is within two levels of the exact mixture."""
    pixels = np.ascontiguousarray(pixels)
    painted = pixels.copy()
    for rows, columns, texts, heats in parts:
        words = _read(pixels, rows, columns)
        _mix(words, table.take(_strongest(texts, heats), mode="wrap"))
        _write(words, painted, rows, columns)
    return painted


def _strongest(texts: Sequence[int], heats: Steps) -> NDArray[np.uint16]:
    """256 * the index of the first text with the highest heat, + that heat."""
    colours = [np.uint8(min(text, MOST - 1)) for text in texts]
    best, which = heats[0], np.full(heats.shape[1:], colours[0])
    for colour, heat in zip(colours[1:], heats[1:], strict=True):
        # a later text has a higher index, so that the largest one is that of the last that rose
        np.maximum(which, (heat > best).view(np.uint8) * colour, out=which)
        best = np.maximum(best, heat)
    place: NDArray[np.uint16] = which.astype(np.uint16)
    place <<= 8
    place |= best
    return place


def _mix(words: Words, paint: Words) -> None:
    """Paint over words, in place; their highest byte is lost. A product rounds up, so that 255 of 256 parts of a byte are all of it."""
    left = paint >> 24
    inner = words & INNER
    inner *= left
    inner += np.uint32(0x00FF00)
    inner >>= 8
    inner &= INNER
    words &= OUTER
    words *= left
    words += OUTER
    words >>= 8
    words &= OUTER
    words += inner
    words += paint


def _read(pixels: Steps, rows: slice, columns: slice) -> Words:
    """A part of a frame as words; their highest bytes are of no use."""
    part = pixels[rows, columns]
    words = np.empty(part.shape[:2], "<u4")
    words[:, :-1] = _overlapping(pixels, rows, columns)
    _bytes(words)[:, -1] = part[:, -1]
    return words


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
