"""Heat in bytes where it shows: the parts of a picture that are warm enough to be painted, a few rows at a time; of each pixel the
strongest text and its heat.

No blend of cells is warmer than the warmest of them, so that the patch grid alone says which parts and which texts can be left out. Between
four cells the difference of two texts is bilinear too, and least at one of them: a text that another one leads at all four is nowhere the
strongest there, and its heat is not made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloc.imaging import heatmaps
from fastloc.imaging.axis_sampling import Axis
from fastloc.imaging.heat_arrays import grid_steps, heat_at
from fastloc.results.result import Result
from fastloc.video.output.heat_rendering import heat_of, limits_of, matrices_of, order_of

__all__ = ["MOST", "Part", "Places", "Stream", "parts_of", "warm_parts"]

Floats = NDArray[Any]
Steps = NDArray[np.uint8]
Bools = NDArray[np.bool_]
# 256 * the number of the strongest text, at most MOST - 1, + its heat 0 … 255
Places = NDArray[np.intp]
# rows and columns of pixels, and the places [rows, columns], which are good until the next part
Part = tuple[slice, slice, Places]
# rows of the picture, and the parts of them, from the top
Stream = tuple[slice, Iterable[Part]]
# (row, first, last + 1) of cells side by side
Run = tuple[int, int, int]
# (first row, last + 1, first column, last + 1) of cells
Block = tuple[int, int, int, int]

# texts that have numbers of their own
MOST = 256
# pixels of a part, which stay in the cache with all that is made of them
CHUNK = 1 << 16
# cold pixels that are painted along rather than that another part begins, whose calls take time of their own
PART = 1 << 13
# heat that is left of the rounding to bytes, so that less than a step more is no more
TOP = np.float32(255.5)
# steps of heat that two texts must be apart for one to lead, beside what float32 rounds
APART = 1 / 64


def warm_parts(result: Result, size: tuple[int, int], least: int, threads: int = 1) -> list[Stream]:
    """Parts of the picture at a size (H, W), for each thread those of its own rows, that hold every pixel whose strongest heat is of so
    many steps at least, 1 … 255, and few others.

    Heat is that of `heat_of(result, size)` up to rounding, of equal texts the first. Where it is less than `least`, so is the part's, of
    any text. The pixels of two parts differ.
    """
    if limits_of(result) is None:
        return parts_of(heat_of(result, size), threads)
    cells = _cells(result, size, least)
    return [(rows, _parts(cells, runs)) for rows, runs in _shared(cells, size[0], threads)]


def parts_of(heats: Steps, threads: int = 1) -> list[Stream]:
    """The strongest of all heats [T, H, W], a few rows at a time."""
    edges = np.linspace(0, heats.shape[1], threads + 1).astype(int).tolist()
    return [(slice(*pair), _parts_of(heats, slice(*pair))) for pair in pairwise(edges)]


def _parts_of(heats: Steps, rows: slice) -> Iterator[Part]:
    wide, texts = heats.shape[2], range(len(heats))
    room = _Room(max(CHUNK, wide))
    for part in _cut(rows, wide):
        yield part, slice(0, wide), _strongest(texts, heats[:, part], room)


@dataclass(frozen=True, eq=False)
class _Cells:
    """Heat between the cells of a grid.

    Attributes:
        rows: float32 [H, h], the weights of the cells in each row of pixels
        across: float32 [T, h, W], the rows of cells at all columns of pixels, in steps of heat + 1/2
        rivals: [T, h, w], texts that may be the strongest one at some pixel between a cell and the next ones, and warm
        tops, lefts: the first pixel at or behind each cell's centre, and the end of the pixels
        cut: bool [T, h], True where heat is cut off at 0 or at 255 between a row of cells and the next
    """

    rows: Floats
    across: Floats
    rivals: Bools
    tops: list[int]
    lefts: list[int]
    cut: Bools


def _cells(result: Result, size: tuple[int, int], least: int) -> _Cells:
    # the ends of each map's stretch are found sooner than its heat
    how = result.similarity, result.geometry, order_of(result), None, result.reverse, limits_of(result)
    heat = heat_at(heatmaps.heat_of(*how), size)
    steps, inside = grid_steps(heat), heat.geometry.covered()
    # cells may lie beyond the ends of all pixels of the full size
    cut: Bools = np.logical_or.reduce((steps < 0) | (steps >= 256), axis=2)
    cut[:, :-1] |= cut[:, 1:]
    if result.limits is None and size == result.geometry.picture:
        cut.fill(False)
    rows, columns = matrices_of(result, size)
    tops, lefts = (_borders(axes[-1], pixels) for axes, pixels in zip((heat.maps.rows, heat.maps.columns), inside, strict=True))
    return _Cells(rows, np.matmul(steps, columns.T), _rivals(steps, least, bool(cut.any())), tops, lefts, cut)


def _rivals(steps: Floats, least: int, cut: bool) -> Bools:
    """The rivals of `_Cells`, of the grids [T, h, w] in steps of heat + 1/2."""
    texts, corners = np.arange(len(steps))[:, None, None], _corners(steps)
    most = corners.max(0)
    # half a step is lost in rounding at most
    warm: Bools = most >= least - 0.5
    lead = np.where(warm, corners.sum(0), -np.inf).argmax(0)
    behind = (np.take_along_axis(corners, lead[None, None], 1) - corners).min(0)
    # an earlier text of the same whole step is the strongest one; so it is where both are cut off
    rounding = APART + 8 * float(np.finfo(steps.dtype).eps * np.abs(steps).max())
    rivals: Bools = behind < rounding + (texts < lead)
    if cut:
        rivals |= (texts < lead) & (most >= 255)
    rivals &= warm
    return rivals


def _corners(steps: Floats) -> Floats:
    """[4, T, h, w]: each cell, and the next ones along each axis and along both; the last one is its own next."""
    down, along = (np.minimum(np.arange(cells) + 1, cells - 1) for cells in steps.shape[1:])
    below = steps[:, down]
    return np.stack([steps, steps[:, :, along], below, below[:, :, along]])


def _parts(cells: _Cells, runs: Sequence[Run]) -> Iterator[Part]:
    pixels = max(CHUNK, cells.across.shape[2])
    room, strip, heats = _Room(pixels), np.empty(pixels, np.float32), np.empty((len(cells.across), pixels), np.uint8)
    for top, end, left, right in _blocks(cells, runs):
        # a product over one cell alone is another routine, ten times as slow
        around = slice(max(min(top, cells.rows.shape[1] - 2), 0), end + 1)
        columns = slice(cells.lefts[left], cells.lefts[right])
        texts = np.flatnonzero(cells.rivals[:, top:end, left:right].any(axis=(1, 2))).tolist()
        cut: list[bool] = np.logical_or.reduce(cells.cut[:, top:end], axis=1).tolist()
        for rows in _cut(slice(cells.tops[top], cells.tops[end]), columns.stop - columns.start):
            shape = rows.stop - rows.start, columns.stop - columns.start
            values = strip[: shape[0] * shape[1]].reshape(shape)
            made, weights = heats[: len(texts), : values.size].reshape(-1, *shape), cells.rows[rows, around]
            for out, text in zip(made, texts, strict=True):
                np.matmul(weights, cells.across[text, around, columns], out=values)
                if cut[text]:
                    np.clip(values, 0, TOP, out=values)
                np.copyto(out, values, casting="unsafe")
            yield rows, columns, _strongest(texts, made, room)


class _Room:
    """Memory for the work on a part of so many pixels at most: what was just written lies in the cache, new memory does not."""

    def __init__(self, pixels: int) -> None:
        self.bytes, self.words, self.places = np.empty((3, pixels), np.uint8), np.empty((2, pixels), np.uint16), np.empty(pixels, np.intp)


def _strongest(texts: Sequence[int], heats: Steps, room: _Room) -> Places:
    """256 * the number of the first text with the highest heat, + that heat, of heats [n, ...] of n texts in order; in the room."""
    shape, count = heats.shape[1:], heats[0].size
    best, which, rises = (each[:count].reshape(shape) for each in room.bytes)
    number, step = (each[:count].reshape(shape) for each in room.words)
    found = room.places[:count].reshape(shape)
    np.copyto(best, heats[0])
    which.fill(min(texts[0], MOST - 1))
    for text, heat in zip(texts[1:], heats[1:], strict=True):
        # a later text has a higher number, so that the largest one is that of the last that rose
        np.greater(heat, best, out=rises.view(np.bool_))
        rises *= np.uint8(min(text, MOST - 1))
        np.maximum(which, rises, out=which)
        np.maximum(best, heat, out=best)
    # operations on arrays of two dtypes are much slower than a copy before
    np.copyto(number, which)
    np.copyto(step, best)
    number *= np.uint16(256)
    number |= step
    np.copyto(found, number)
    return found


def _runs(warm: Bools) -> list[Run]:
    """Runs of warm cells [h, w] side by side, and of cold ones between two of them, which are not worth a part's end."""
    around = np.pad(warm, ((0, 0), (1, 1))).astype(np.int8)
    around[:, 1:-1] |= around[:, :-2] & around[:, 2:]
    change = np.diff(around, axis=1)
    (row, first), (_, stop) = np.nonzero(change > 0), np.nonzero(change < 0)
    return list(zip(row.tolist(), first.tolist(), stop.tolist(), strict=True))


def _blocks(cells: _Cells, runs: Sequence[Run]) -> list[Block]:
    """Blocks that cover the runs, which are in order: runs of one row, and rows one below the other, are one block where the cold cells
    between cost less than another part. No two blocks touch the same cell."""

    def pixels(block: Block) -> int:
        top, end, left, right = block
        return (cells.tops[end] - cells.tops[top]) * (cells.lefts[right] - cells.lefts[left])

    blocks: list[Block] = []
    # rows of cells that have one block, which may grow, and the warm pixels in it
    growing, warm = False, 0
    for row, found in groupby(runs, key=itemgetter(0)):
        line = [(row, row + 1, first, stop) for _, first, stop in found]
        hull = (row, row + 1, line[0][2], line[-1][3])
        here = sum(map(pixels, line))
        if pixels(hull) - here > PART:
            blocks += line
            growing = False
            continue
        if growing and blocks[-1][1] == row:
            top, _, left, right = blocks[-1]
            joined = (top, row + 1, min(left, hull[2]), max(right, hull[3]))
            if pixels(joined) <= min(warm + here + PART, CHUNK):
                blocks[-1], warm = joined, warm + here
                continue
        blocks.append(hull)
        growing, warm = True, here
    return blocks


def _shared(cells: _Cells, high: int, threads: int) -> list[tuple[slice, list[Run]]]:
    """Rows of the picture of this height for each thread, and the runs of warm cells there, of about as many pixels."""
    tops, lefts, found = cells.tops, cells.lefts, _runs(np.logical_or.reduce(cells.rivals))
    runs = [(row, first, stop) for row, first, stop in found if tops[row] < tops[row + 1] and lefts[first] < lefts[stop]]
    pixels = np.zeros(len(tops) - 1)
    for row, first, stop in runs:
        pixels[row] += (tops[row + 1] - tops[row]) * (lefts[stop] - lefts[first])
    # rows of cells that each thread ends before
    ends = [0, *np.searchsorted(pixels.cumsum(), np.arange(1, threads) * (pixels.sum() / threads)).tolist(), len(pixels)]
    edges = [0, *(tops[end] for end in ends[1:-1]), high]
    return [
        (slice(*rows), [run for run in runs if start <= run[0] < stop])
        for rows, (start, stop) in zip(pairwise(edges), pairwise(ends), strict=True)
    ]


def _borders(axis: Axis, inside: slice) -> list[int]:
    """The first pixel inside that lies at or behind each cell's centre, and the end of the pixels."""
    borders: list[int] = (np.searchsorted(axis.lower[inside], np.arange(axis.cells + 1)) + inside.start).tolist()
    return borders


def _cut(rows: slice, wide: int) -> Iterator[slice]:
    """Rows in parts of about as many, of at most `CHUNK` pixels where one row has no more."""
    count = rows.stop - rows.start
    parts = max(-(-count // max(CHUNK // max(wide, 1), 1)), 1)
    return (slice(*pair) for pair in pairwise(rows.start + count * part // parts for part in range(parts + 1)))
