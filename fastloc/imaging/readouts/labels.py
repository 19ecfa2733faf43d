"""The most similar text of every pixel: blocks of pixels that one text wins are filled, and the others' pixels are compared."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloc.imaging.bilinear import Bilinear, products
from fastloc.imaging.geometry import Geometry
from fastloc.imaging.heatmaps import BACKGROUND, surface
from fastloc.imaging.readouts.blocks import corners_of, edges_of
from fastloc.imaging.readouts.turning import Turning

__all__ = ["labels"]

Floats = NDArray[Any]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
# values that are compared together: one block has a few thousand pixels, for which calls take longer than the work
PIECE = 1 << 18


def labels(similarity: Floats, geometry: Geometry, order: str = "none", turning: Turning | None = None) -> NDArray[np.int32]:
    """The most similar text of every pixel, int32 [H, W], from similarities [T, h, w] upsampled as the order has it; of equal ones
    the first. `BACKGROUND` (-1) where the model did not look, a crop's borders; with turning also where the heat of that text is cold."""
    maps, inside = surface(similarity, geometry, order), geometry.covered()
    made = np.empty(geometry.picture, np.int32)
    for borders in ((slice(None, inside[0].start),), (slice(inside[0].stop, None),),
                    (slice(None), slice(None, inside[1].start)), (slice(None), slice(inside[1].stop, None))):  # fmt: skip
        made[borders] = BACKGROUND
    if len(maps.rows) == 1:
        _fill(maps, turning, *inside, made)
        return made
    # through the pixels of the model's input there are as many blocks as those
    for _, part, values in maps.parts(*inside, together=True):
        _first(values, range(len(values)), made[part, inside[1]])
    return made


def _fill(maps: Bilinear, turning: Turning | None, rows: slice, columns: slice, chosen: NDArray[np.int32]) -> None:
    """Set labels [H, W] at the rows and columns that the model saw.

    A block lies between two cells along both axes, so the difference of two texts is bilinear on it, and least and greatest at its
    corners: a text that leads at all four by more than rounding leads at every pixel between, and one that is behind at all four is
    nowhere first. A text's heat is bilinear too before it is stretched: one that is warm or cold at all four corners is so between.
    """
    down, along = maps.rows[-1], maps.columns[-1]
    tops, lefts = edges_of(down, rows), edges_of(along, columns)
    cells = maps.across(slice(None), columns)
    corners, margin = corners_of(cells, down, tops, lefts - columns.start)
    lead, rivals = _rivals(corners, margin)
    shown, unclear = lead, rivals.sum(0) > 1
    if turning is not None:
        heated = turning.maps.across(slice(None), columns)
        corners, margin = corners_of(heated, down, tops, lefts - columns.start)
        warm, cold = turning.sides(corners.min((2, 4)), corners.max((2, 4)), margin)
        own_warm, own_cold = (np.take_along_axis(each, lead[None], 0)[0] for each in (warm, cold))
        shown = np.where(own_cold, np.int32(BACKGROUND), lead)
        unclear |= ~own_warm & ~own_cold
    widths, pieces = np.diff(lefts), _pieces(unclear, rivals, tops, lefts)
    for row, (top, bottom) in enumerate(pairwise(tops.tolist())):
        chosen[top:bottom, columns] = np.repeat(shown[row], widths)
        cell, weight = int(down.lower[top]), down.weight[top:bottom]
        between = cell, min(cell + 1, down.seen.stop - 1), weight
        for blocks in pieces.get(row, ()):
            left, right = int(lefts[blocks.start]), int(lefts[blocks.stop])
            part, out = slice(left - columns.start, right - columns.start), chosen[top:bottom, left:right]
            # a text that is behind at a block is so too among those of the blocks beside it
            texts = np.flatnonzero(rivals[:, row, blocks].any(1)).tolist()
            if len(texts) > 1:
                _first(_between(cells, texts, part, *between), texts, out)
            if turning is None:
                continue
            chilled = np.zeros(out.shape, np.bool_)
            for text in texts:
                if warm[text, row, blocks].all():
                    continue
                own = out == text
                if not cold[text, row, blocks].all():
                    # True and not False: greater
                    np.greater(own, turning.warm(_between(heated, [text], part, *between)[0], text), out=own)
                chilled |= own
            # all bits of -1: a copy through a mask takes fifty times as long
            out |= np.negative(chilled.view(np.int8))


def _pieces(unclear: Bools, rivals: Bools, tops: Ints, lefts: Ints) -> dict[int, list[slice]]:
    """Of each row of blocks those side by side whose pixels are compared together: unclear ones [n, m], as many as have about `PIECE`
    values of their rivals [T, n, m]. tops, lefts: where the blocks begin, and the end of the last one."""
    change = np.diff(np.pad(unclear, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    (rows, firsts), (_, stops) = np.nonzero(change > 0), np.nonzero(change < 0)
    pixels = (lefts[stops] - lefts[firsts]) * (tops[rows + 1] - tops[rows])
    found: dict[int, list[slice]] = {}
    for row, first, stop, count in zip(rows.tolist(), firsts.tolist(), stops.tolist(), pixels.tolist(), strict=True):
        # of all texts, where that is little
        values = count * (len(rivals) if count * len(rivals) <= PIECE else int(rivals[:, row, first:stop].any(1).sum()))
        parts = min(max(-(-values // PIECE), 1), stop - first)
        edges = (first + (stop - first) * each // parts for each in range(parts + 1))
        found.setdefault(row, []).extend(slice(*pair) for pair in pairwise(edges))
    return found


def _between(cells: Floats, texts: list[int], part: slice, upper: int, lower: int, weight: Floats) -> Floats:
    """[t, n, w]: the values of texts between two rows of cells, at rows of these weights."""
    above, below = (cells[:, cell, part].take(texts, 0) for cell in (upper, lower))
    below -= above
    values = products(weight, below)
    values += above[:, None]
    return values


def _rivals(corners: Floats, margin: float) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Of each block [n, m] the text that leads at its first corner, and bool [T, n, m]: the texts that may be first at some pixel."""
    count, high, _, wide, _ = corners.shape
    rivals: NDArray[np.bool_] = np.ones((count, high, wide), np.bool_)
    leads = np.empty(corners.shape[1:], np.int32)
    _first(corners, range(count), leads)
    for y, x in ((0, 0), (0, 1), (1, 0), (1, 1)):
        lead = np.take_along_axis(corners, leads[None, :, y, None, :, x, None], 0)
        rivals &= (lead - corners).min((2, 4)) <= margin
    return leads[:, 0, :, 0], rivals


def _first(values: Floats, texts: Sequence[int], out: NDArray[np.int32]) -> None:
    """The text of the first of the greatest of values [n, ...] of n texts in order, into out; it is faster than argmax over them."""
    numbers = np.asarray(texts, np.min_scalar_type(texts[-1]))
    best, which = values[0], np.full(values.shape[1:], numbers[0])
    for number, rival in zip(numbers[1:], values[1:], strict=True):
        # a later text has a higher number, so that the largest one is that of the last that rose
        np.maximum(which, (rival > best).view(np.uint8) * number, out=which)
        if number != numbers[-1]:
            best = np.maximum(best, rival)
    out[...] = which
