"""A mask as its runs of pixels: of the millions of pixels of a picture a few thousand begin or end one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ints", "Runs", "counted"]

Ints = NDArray[np.int64]


# arrays have no single truth
@dataclass(frozen=True, eq=False)
class Runs:
    """Runs of True pixels, each as long as it can be, by line and place.

    Attributes:
        size: (height, width) of the mask
        down: True where the lines are columns, False where they are rows
        line: int64 [n], the row or the column
        start, end: int64 [n], places along it, the end exclusive
        largest: float [n], the largest heat in each
    """

    size: tuple[int, int]
    down: bool
    line: Ints
    start: Ints
    end: Ints
    largest: NDArray[Any]

    @classmethod
    def of(cls, mask: NDArray[np.bool_], heat: NDArray[Any]) -> Runs:
        """The runs of the rows of a mask [H, W], with the heat [H, W] in them."""
        # with a cold column on either side rows can lie in one line without their runs meeting
        high, wide = mask.shape
        step = wide + 2
        line = np.zeros((high, step), np.bool_)
        line[:, 1:-1] = mask
        changes = np.flatnonzero(line.ravel()[1:] != line.ravel()[:-1]) + 1
        padded = np.zeros((high, step), heat.dtype)
        padded[:, 1:-1] = heat
        # every second piece lies between runs
        largest = np.maximum.reduceat(padded.ravel(), changes)[::2] if len(changes) else np.zeros(0, heat.dtype)
        rows = changes[::2] // step
        return cls((high, wide), False, rows, changes[::2] - rows * step - 1, changes[1::2] - rows * step - 1, largest)

    def middle(self, origin: tuple[int, int] = (0, 0)) -> tuple[int, int]:
        """(row, column) of the pixel nearest to the centre of all, counted from the origin: `fastloc.imaging.heatmaps.peak` of ties."""
        before, above = origin if self.down else origin[::-1]
        start, end, line = self.start - before, self.end - before, self.line - above
        count = end - start
        total = int(count.sum())
        # sums of whole numbers are exact
        along, across = int((count * (start + end - 1)).sum()) // 2 / total, int((count * line).sum()) / total
        places = np.concatenate([np.clip(int(along) + each, start, end - 1) for each in (0, 1)])
        lines = np.concatenate([line, line])
        rows, columns = (places, lines) if self.down else (lines, places)
        y, x = (along, across) if self.down else (across, along)
        best = np.lexsort((columns, rows, np.square(rows - y) + np.square(columns - x)))[0]
        return int(rows[best]) + origin[0], int(columns[best]) + origin[1]

    def fill(self, mask: NDArray[np.bool_]) -> None:
        """Set the pixels of the runs of columns in a mask [H, W] that is False."""
        # a run begins and ends where a column changes
        bits = mask.view(np.uint8)
        bits[self.start, self.line] = 1
        inner = self.end < len(mask)
        bits[self.end[inner], self.line[inner]] = 1
        top = int(self.start.min(initial=len(mask)))
        for row in range(top + 1, int(self.end.max(initial=top))):
            np.bitwise_xor(bits[row], bits[row - 1], out=bits[row])
        bottom = int(self.end.max(initial=0))
        if bottom < len(mask):
            bits[bottom] = 0

    def columns(self) -> Runs:
        """The same pixels as runs of columns, without their heat."""
        if self.down:
            return self
        height, width = self.size
        step = width + 1
        # between two rows pixels change where one of them alone has a run; equal ends cancel
        ends = np.concatenate([(self.line + below) * step + each for below in (0, 1) for each in (self.start, self.end)])
        pairs = np.sort(ends).reshape(-1, 2)
        border, x = np.divmod(counted(pairs[:, 0], pairs[:, 1]), step)
        changes = np.sort(x * (height + 1) + border).reshape(-1, 2)
        line = changes[:, 0] // (height + 1)
        start, end = (changes - line[:, None] * (height + 1)).T
        return Runs(self.size, True, line, start, end, np.zeros(len(line), np.float32))


def counted(starts: Ints, ends: Ints) -> Ints:
    """All whole numbers from each start up to its end, one span behind the other."""
    count = ends - starts
    shift = starts - (np.cumsum(count) - count)
    return np.repeat(shift, count) + np.arange(int(count.sum()))
