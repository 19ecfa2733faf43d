"""Heat down the columns of a picture, where texts do not compete.

From one row of cells to the next a column of heat rises or falls all the way, to the last bit (see `fastloc.imaging.bilinear`; scaling
and cutting keep the order too). So its first and last pixel there say what lies between: the peak is at one of them, and pixels that reach
a threshold are one run, whose end a search of a few steps finds. A picture of 12 megapixels has some 100,000 such pieces.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloc.imaging.bilinear import blend
from fastloc.imaging.heatmaps import Heat
from fastloc.imaging.readouts.runs import Ints, Runs

__all__ = ["Columns"]

Floats = NDArray[Any]


class Columns:
    """One map of a `Heat` without logit_scale."""

    def __init__(self, heat: Heat, text: int) -> None:
        self._heat, self._text = heat, slice(text, text + 1)
        self._axis, (self._rows, self._columns) = heat.maps.rows[-1], heat.geometry.covered()
        cells, self._offset = heat.maps.down(heat.maps.across(self._text, self._columns), self._rows)
        self._cells = cells[0]
        lower = self._axis.lower[self._rows]
        steps = np.flatnonzero(np.diff(lower)) + 1
        # the first and the last row of pixels of each of S pieces
        self._top: Ints = self._rows.start + np.concatenate(([0], steps))
        self._bottom: Ints = self._rows.start + np.concatenate((steps - 1, [len(lower) - 1]))
        # the heat [S, W] of every column there
        self._first, self._last = (self._of(blend(self._cells, self._axis, rows, -2, self._offset)) for rows in (self._top, self._bottom))

    @classmethod
    def each(cls, heat: Heat) -> Iterator[Columns]:
        """The maps one by one."""
        return (cls(heat, text) for text in range(len(heat.maps.values)))

    def peak(self) -> tuple[int, int, float]:
        """(row, column) of the greatest heat, of several pixels the one nearest to their centre; and that heat."""
        value = float(max(self._first.max(), self._last.max()))
        return *self.runs(value).middle((self._rows.start, self._columns.start)), value

    def runs(self, threshold: float) -> Runs:
        """The runs of columns that reach the threshold."""
        begins, stops = self._first >= threshold, self._last >= threshold
        column, piece = np.nonzero((begins | stops).T)
        warm = np.maximum(self._first[piece, column], self._last[piece, column])
        start, end = self._top[piece], self._bottom[piece] + 1
        crossing = np.flatnonzero(begins[piece, column] != stops[piece, column])
        rising = stops[piece[crossing], column[crossing]]
        change = self._changes(piece[crossing], column[crossing], rising, threshold)
        start[crossing[rising]], end[crossing[~rising]] = change[rising], change[~rising]
        # runs of neighbouring pieces are one
        size, line = self._heat.geometry.picture, column + self._columns.start
        if not len(line):
            return Runs(size, True, line, start, end, warm)
        apart = (start[1:] != end[:-1]) | (line[1:] != line[:-1])
        begin = np.flatnonzero(np.concatenate(([True], apart)))
        return Runs(size, True, line[begin], start[begin], end[np.concatenate((apart, [True]))], np.maximum.reduceat(warm, begin))

    def _changes(self, piece: Ints, column: Ints, rising: NDArray[np.bool_], threshold: float) -> Ints:
        """The first row of each crossing piece whose side of the threshold is that of the piece's last row."""
        # between `low`, still on the first side, and `high`
        low, high = self._top[piece], self._bottom[piece]
        one, other = (each[piece, column].astype(np.float64) for each in (self._first, self._last))
        place = self._axis.lower + self._axis.weight
        at = place[low] + (threshold - one) / (other - one) * (place[high] - place[low])
        guess = np.searchsorted(place[self._rows], at) + self._rows.start
        left, turn = np.flatnonzero(high - low > 1), 0
        while len(left):
            below, above = low[left], high[left]
            # the guess and the row beside it first, then halves
            tried = np.clip(guess[left] if turn < 2 else (below + above) // 2, below + 1, above - 1)
            reached = (self._at(tried, column[left]) >= threshold) == rising[left]
            high[left[reached]], low[left[~reached]] = tried[reached], tried[~reached]
            guess[left] = np.where(reached, tried - 1, tried + 1)
            left, turn = left[high[left] - low[left] > 1], turn + 1
        return high

    def _at(self, rows: Ints, columns: Ints) -> Floats:
        """The heat of pixels; columns are counted from the first that the model saw."""
        lower = self._axis.lower[rows]
        values: Floats = self._cells[np.minimum(lower + 1, self._axis.seen.stop - 1) - self._offset, columns]
        above = self._cells[lower - self._offset, columns]
        values -= above
        values *= self._axis.weight[rows].astype(values.dtype)
        values += above
        return self._of(values)

    def _of(self, values: Floats) -> Floats:
        heat: Floats = self._heat.of(values[None], self._text)[0]
        return heat
