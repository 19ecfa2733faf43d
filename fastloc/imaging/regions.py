"""Connected regions of a mask, in numpy alone: importing scipy's labelling takes longer than a first heatmap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Regions", "of_runs", "regions"]

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Regions:
    """The regions of a mask [H, W], in the order of their first pixels, row by row; diagonal neighbours belong together.

    boxes   int64 [n, 4]: left, top, right and bottom, the last two exclusive
    area    int64 [n], in pixels
    value   float32 [n], the largest heat in each
    """

    boxes: Ints
    area: Ints
    value: NDArray[np.float32]
    # where runs of pixels in a row begin, how far rows lie apart there, and the region of each run
    starts: Ints
    step: int
    belongs: Ints

    def at(self, x: int, y: int) -> int:
        """The region of a pixel of the mask."""
        return int(self.belongs[np.searchsorted(self.starts, y * self.step + x + 1, "right") - 1])


def regions(mask: NDArray[np.bool_], heat: NDArray[np.float32]) -> Regions:
    """The regions of a mask that is True somewhere, with the heat [H, W] in them."""
    wide = mask.shape[1]
    # with a cold column on either side, rows can lie in one line without their runs meeting
    step = wide + 2
    line = np.zeros((len(mask), step), np.bool_)
    line[:, 1:-1] = mask
    changes = np.flatnonzero(line.ravel()[1:] != line.ravel()[:-1]) + 1
    return of_runs(changes[::2], changes[1::2], step, _largest(heat, changes, step))


def of_runs(starts: Ints, ends: Ints, step: int, largest: NDArray[np.float32]) -> Regions:
    """The regions of a mask's runs of pixels, [n] each, and the largest heat in each: pixel x of row y lies at y * step + x + 1."""
    belongs = _connected(starts, ends, step)
    boxes = np.stack([
        _each(np.minimum, belongs, starts % step - 1, step), _each(np.minimum, belongs, starts // step, int(ends[-1])),
        _each(np.maximum, belongs, ends % step - 1, 0), _each(np.maximum, belongs, starts // step + 1, 0),
    ], 1)  # fmt: skip
    area = _each(np.add, belongs, ends - starts, 0)
    value = _each(np.maximum, belongs, largest, -np.inf)
    return Regions(boxes, area, value, starts, step, belongs)


def _each(join: np.ufunc, belongs: Ints, values: NDArray[Any], start: float) -> Any:
    """The values of each region's runs, joined."""
    joined = np.full(int(belongs.max()) + 1, start, values.dtype)
    join.at(joined, belongs, values)
    return joined


def _largest(heat: NDArray[np.float32], changes: Ints, step: int) -> NDArray[np.float32]:
    """The largest heat of each run."""
    line = np.zeros((len(heat), step), heat.dtype)
    line[:, 1:-1] = heat
    # every second piece lies between runs
    largest: NDArray[np.float32] = np.maximum.reduceat(line.ravel(), changes)[::2]
    return largest


def _connected(starts: Ints, ends: Ints, step: int) -> Ints:
    """The region of each run, counted in the order of their first runs."""
    upper, lower = _touching(starts, ends, step)
    # each run points to an earlier one of its region, in the end to the first
    first = np.arange(len(starts))
    while (first[upper] != first[lower]).any():
        one, other = first[upper], first[lower]
        np.minimum.at(first, np.maximum(one, other), np.minimum(one, other))
        while (first[first] != first).any():
            first = first[first]
    order: Ints = np.cumsum(first == np.arange(len(first))) - 1
    return order[first]


def _touching(starts: Ints, ends: Ints, step: int) -> tuple[Ints, Ints]:
    """Pairs of runs, one below the other, that have pixels side by side or corner to corner."""
    # of the row below, runs that end no earlier than this one begins, and begin no later than it ends
    low = np.searchsorted(ends, starts + step, "left")
    counts = np.searchsorted(starts, ends + step, "right") - low
    upper = np.repeat(np.arange(len(starts)), counts)
    before = np.repeat(np.cumsum(counts) - counts, counts)
    return upper, np.repeat(low, counts) + np.arange(len(upper)) - before
