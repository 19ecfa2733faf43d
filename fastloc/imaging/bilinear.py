"""Bilinear maps of patch grids, in one arithmetic: a part of a map, down to one pixel, has the bits that the whole map has there.

Along one axis a pixel between cells a and b is `a + weight * (b - a)`, in the grid's dtype and in three roundings; a map is that along its
columns, then along its rows. Rounding never turns an order around, so from one row of cells to the next a column of pixels rises or falls
all the way, to the last bit. A product of matrices promises neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloc.imaging.axis_sampling import Axis

__all__ = ["CHUNK", "Bilinear", "blend", "products"]

Floats = NDArray[Any]

# pixels that are worked on at a time: they stay in a core's own cache
CHUNK = 1 << 17


def blend(values: Floats, axis: Axis, pixels: slice | NDArray[np.integer[Any]], side: int = -1, offset: int = 0) -> Floats:
    """Values [..., cells] at pixels of the axis, [..., n]; `side` is the values' axis, `offset` the number of their first cell."""
    lower = axis.lower[pixels]
    made: Floats = values.take(np.minimum(lower + 1, axis.seen.stop - 1) - offset, side)
    first = values.take(lower - offset, side)
    weight = axis.weight[pixels].astype(values.dtype)
    made -= first
    made *= weight if side == -1 else weight[:, None]
    made += first
    return made


def products(weights: Floats, steps: Floats, out: Floats | None = None) -> Floats:
    """[..., n, w]: each of n weights times each of the steps [..., w], in the steps' dtype and one rounding; into out where given.

    It is a matrix product with a second column of zeros, which add nothing: three times as fast as numpy's own broadcasting, and as exact.
    """
    pairs, lines = np.zeros((len(weights), 2), steps.dtype), np.zeros((*steps.shape[:-1], 2, steps.shape[-1]), steps.dtype)
    pairs[:, 0], lines[..., 0, :] = weights, steps
    made: Floats = np.matmul(pairs, lines, out=out)
    return made


# arrays have no single truth
@dataclass(frozen=True, eq=False)
class Bilinear:
    """Maps [T, H, W] of grids.

    Attributes:
        values: [T, h, w], float32 or float64
        rows, columns: the axes of the picture; behind another one, of the model's input, that is passed first
    """

    values: Floats
    rows: tuple[Axis, ...]
    columns: tuple[Axis, ...]

    def across(self, texts: slice, columns: slice) -> Floats:
        """[t, h, n]: the rows of the grid at the picture's columns."""
        values = self.values[texts]
        for axis in self.columns[:-1]:
            values = blend(values, axis, slice(None))
        return blend(values, self.columns[-1], columns)

    def down(self, across: Floats, rows: slice) -> tuple[Floats, int]:
        """Of `across` the rows that the last axis is sampled from, [t, n, w], for rows of the picture; and the number of the first."""
        axis = self.rows[-1]
        first, stop = int(axis.lower[rows][0]), min(int(axis.lower[rows][-1]) + 2, axis.seen.stop)
        for earlier in self.rows[:-1]:
            return blend(across, earlier, slice(first, stop), -2), first
        return across[..., first:stop, :], first

    def parts(
        self, rows: slice, columns: slice, together: bool = False, across: Floats | None = None, out: Floats | None = None
    ) -> Iterator[tuple[slice, slice, Floats]]:
        """Parts of the maps of about `CHUNK` pixels: texts, rows and the values [t, n, w] there, which are yours to change.

        together: all texts at a time. The rows and columns are of the picture, inside what the model saw. across: that of all texts and
        the columns, where you have it. out: an array [T, r, c] of the rows and columns, in the grids' dtype, that the values are made in.
        """
        wide, count = columns.stop - columns.start, len(self.values)
        axis = self.rows[-1]
        high = max(CHUNK // (wide * (count if together else 1)), 1)
        steps = np.flatnonzero(np.diff(axis.lower[rows])) + 1
        edges = [rows.start, *(rows.start + steps).tolist(), rows.stop]
        step = count if together else max(CHUNK // (wide * min(high, rows.stop - rows.start)), 1)
        starts = [*(start for band in pairwise(edges) for start in range(*band, high)), rows.stop]
        for text in range(0, count, step):
            texts = slice(text, min(text + step, count))
            cells, offset = self.down(self.across(texts, columns) if across is None else across[texts], rows)
            for first, stop in pairwise(starts):
                cell = int(axis.lower[first]) - offset
                above = cells[:, cell, None]
                made = products(
                    axis.weight[first:stop], cells[:, min(cell + 1, cells.shape[1] - 1)] - above[:, 0],
                    None if out is None else out[texts, first - rows.start : stop - rows.start],
                )  # fmt: skip
                made += above
                yield texts, slice(first, stop), made

    def at(self, text: int, row: int, column: int) -> float:
        """The value of one pixel of a map."""
        cells, first = self.down(self.across(slice(text, text + 1), slice(column, column + 1)), slice(row, row + 1))
        return float(blend(cells, self.rows[-1], slice(row, row + 1), -2, first)[0, 0, 0])

    def range(self) -> tuple[Floats, Floats]:
        """The least and the greatest value of each map, [T, 1, 1]: a column takes them at the first or last pixel beside a cell."""
        rows, ends = self.rows[-1], []
        for text in range(len(self.values)):
            cells, offset = self.down(self.across(slice(text, text + 1), self.columns[-1].inside), rows.inside)
            values = blend(cells, rows, rows.extremes, -2, offset)
            ends.append((values.min(), values.max()))
        found = np.array(ends, self.values.dtype)[:, :, None, None]
        return found[:, 0], found[:, 1]
