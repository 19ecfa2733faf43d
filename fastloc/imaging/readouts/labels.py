"""The most similar text of every pixel: blocks of pixels that one text wins are filled, and the others' pixels are compared."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloc.imaging.axis_sampling import Axis
from fastloc.imaging.bilinear import Bilinear, blend
from fastloc.imaging.geometry import Geometry
from fastloc.imaging.heatmaps import BACKGROUND, surface

__all__ = ["labels"]

Floats = NDArray[Any]
Ints = NDArray[np.int64]
# pixels along a side of a block at most
SIDE = 64


def labels(similarity: Floats, geometry: Geometry, order: str = "none") -> NDArray[np.int32]:
    """The most similar text of every pixel, int32 [H, W], from similarities [T, h, w] upsampled as the order has it; of equal ones
    the first. `BACKGROUND` (-1) where the model did not look, a crop's borders."""
    maps, inside = surface(similarity, geometry, order), geometry.covered()
    made = np.empty(geometry.picture, np.int32)
    for borders in ((slice(None, inside[0].start),), (slice(inside[0].stop, None),),
                    (slice(None), slice(None, inside[1].start)), (slice(None), slice(inside[1].stop, None))):  # fmt: skip
        made[borders] = BACKGROUND
    _fill(maps, *inside, made)
    return made


def _fill(maps: Bilinear, rows: slice, columns: slice, chosen: NDArray[np.int32]) -> None:
    """Set labels [H, W] at the rows and columns that the model saw.

    A block lies between two cells along both axes, so the difference of two texts is bilinear on it, and least and greatest at its
    corners: a text that leads at all four by more than rounding leads at every pixel between, and one that is behind at all four is
    nowhere first.
    """
    if len(maps.rows) > 1:
        # through the pixels of the model's input there are as many blocks as those
        for _, part, values in maps.parts(rows, columns, together=True):
            chosen[part, columns] = _first(values)
        return
    down, along = maps.rows[-1], maps.columns[-1]
    tops, lefts = _edges(down, rows), _edges(along, columns)
    cells = maps.across(slice(None), columns)
    lead, rivals = _rivals(cells, down, tops, lefts - columns.start)
    widths, contested = np.diff(lefts), rivals.sum(0) > 0
    for row, (top, bottom) in enumerate(pairwise(tops.tolist())):
        chosen[top:bottom, columns] = np.repeat(lead[row], widths)
        cell, weight = int(down.lower[top]), down.weight[top:bottom].astype(cells.dtype)[:, None]
        below = min(cell + 1, down.seen.stop - 1)
        for block in np.flatnonzero(contested[row]).tolist():
            left, right = int(lefts[block]), int(lefts[block + 1])
            part = slice(left - columns.start, right - columns.start)
            texts = np.flatnonzero(rivals[:, row, block])
            above = cells[texts, cell, part]
            values = (cells[texts, below, part] - above)[:, None] * weight
            values += above[:, None]
            chosen[top:bottom, left:right] = texts[_first(values)]


def _edges(axis: Axis, inside: slice) -> Ints:
    """Where blocks begin along an axis, and where the last one ends."""
    bands = axis.bands(SIDE)
    return np.array([inside.start, *bands[(bands > inside.start) & (bands < inside.stop)], inside.stop])


def _rivals(cells: Floats, down: Axis, tops: Ints, lefts: Ints) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Of each block [n, m] the text that leads at its first corner, and bool [T, n, m]: the texts that may be first at some pixel, where
    they are several."""
    rows, columns = (np.stack([edges[:-1], edges[1:] - 1], 1).ravel() for edges in (tops, lefts))
    count, high, wide = len(cells), len(tops) - 1, len(lefts) - 1
    corners = blend(cells[..., columns], down, rows, -2).reshape(count, high, 2, wide, 2)
    # each of the two values of a difference is off by less than 8 roundings, at a corner and between
    margin = 32 * np.finfo(cells.dtype).eps * np.abs(cells).max()
    rivals: NDArray[np.bool_] = np.ones((count, high, wide), np.bool_)
    leads = corners.argmax(0)
    for y, x in ((0, 0), (0, 1), (1, 0), (1, 1)):
        lead = np.take_along_axis(corners, leads[None, :, y, None, :, x, None], 0)
        rivals &= (lead - corners).min((2, 4)) <= margin
    several: NDArray[np.bool_] = rivals & (rivals.sum(0) > 1)
    return leads[:, 0, :, 0].astype(np.int32), several


def _first(values: Floats) -> NDArray[np.intp]:
    """The first of the greatest of values [T, ...]; on many small maps it is faster than their argmax."""
    best, found = values[0], np.zeros(values.shape[1:], np.intp)
    for index in range(1, len(values)):
        found[values[index] > best] = index
        best = np.maximum(best, values[index])
    return found
