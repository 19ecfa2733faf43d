"""Heat down the columns of a picture, where texts do not compete.

From one row of cells to the next a column of heat rises or falls all the way, to the last bit (see `fastloc.imaging.bilinear`; scaling
and cutting keep the order too). So its first and last pixel there say what lies between: the peak is at one of them, and pixels that reach
a threshold are one run, whose end a search of a few steps finds. A picture of 12 megapixels has some 100,000 such pieces.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
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
        # the heat there, of each column the first and the last row of one piece after the other; a cold place before and after each
        rows = np.stack((self._top, self._bottom), 1).ravel()
        made = self._of(blend(self._cells, self._axis, rows, -2, self._offset))
        self._stride = len(rows) + 1
        self._ends = np.full(made.shape[1] * self._stride + 1, -np.inf, made.dtype)
        self._ends[:-1].reshape(-1, self._stride)[:, 1:] = made.T

    @classmethod
    def each(cls, heat: Heat) -> Iterator[Columns]:
        """The maps one by one."""
        return (cls(heat, text) for text in range(len(heat.maps.values)))

    def peak(self) -> tuple[int, int, float]:
        """(row, column) of the greatest heat, of several pixels the one nearest to their centre; and that heat."""
        value = float(self._ends.max())
        return *self.runs(value).middle((self._rows.start, self._columns.start)), value

    def runs(self, threshold: float) -> Runs:
        """The runs of columns that reach the threshold."""
        warm = self._ends >= threshold
        # a run begins and ends in a piece, or between two
        changes = np.flatnonzero(warm[1:] != warm[:-1]) + 1
        column = changes[::2] // self._stride
        first, last = (changes[each::2] - column * self._stride - 1 - each for each in (0, 1))
        start, end = self._top[first // 2], self._bottom[last // 2] + 1
        inner = np.flatnonzero(first % 2)
        start[inner] = self._changes(column[inner], first[inner] // 2, True, threshold)
        inner = np.flatnonzero(last % 2 == 0)
        end[inner] = self._changes(column[inner], last[inner] // 2, False, threshold)
        largest = np.maximum.reduceat(self._ends, changes)[::2] if len(changes) else self._ends[:0]
        return Runs(self._heat.geometry.picture, True, column + self._columns.start, start, end, largest)

    def _changes(self, column: Ints, piece: Ints, rising: bool, threshold: float) -> Ints:
        """The first row of each piece whose side of the threshold is that of the piece's last row, not that of its first."""
        # between `low`, still on the first side, and `high`
        low, high = self._top[piece], self._bottom[piece]
        one, other = (self._ends[column * self._stride + 2 * piece + 1 + each].astype(np.float64) for each in (0, 1))
        # heat is straight there, except above the first cell's centre
        place = self._axis.lower[high] + self._axis.weight[high] - self._axis.lower[low] - self._axis.weight[low]
        guess = high - ((other - threshold) / (other - one) * place / self._step).astype(np.int64)
        left, turn = np.flatnonzero(high - low > 1), 0
        while len(left):
            below, above = low[left], high[left]
            # the guess and the row beside it first, then halves
            tried = np.clip(guess[left] if turn < 2 else (below + above) // 2, below + 1, above - 1)
            reached = (self._at(tried, column[left]) >= threshold) == rising
            high[left[reached]], low[left[~reached]] = tried[reached], tried[~reached]
            guess[left] = np.where(reached, tried - 1, tried + 1)
            left, turn = left[high[left] - low[left] > 1], turn + 1
        return high

    @cached_property
    def _step(self) -> float:
        """Distance of rows of pixels, in cells."""
        place = self._axis.lower[self._rows] + self._axis.weight[self._rows]
        return float(np.diff(place).max(initial=0)) or 1.0

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
