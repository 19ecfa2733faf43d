"""Connected regions of a mask, in numpy alone: importing scipy's labelling takes longer than a first heatmap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloc.imaging.readouts.runs import Ints, Runs

__all__ = ["Regions", "of_runs"]


@dataclass(frozen=True)
class Regions:
    """The regions of a mask [H, W], in the order of their first pixels, row by row; diagonal neighbours belong together.

    Attributes:
        boxes: int64 [n, 4]: left, top, right and bottom, the last two exclusive
        area: int64 [n], in pixels
        value: float32 [n], the largest heat in each
    """

    boxes: Ints
    area: Ints
    value: NDArray[np.float32]
    runs: Runs
    belongs: Ints  # the region of each run

    def at(self, x: int, y: int) -> int:
        """The region of a pixel of the mask."""
        line, place = (x, y) if self.runs.down else (y, x)
        step = _step(self.runs)
        starts = self.runs.line * step + self.runs.start
        return int(self.belongs[np.searchsorted(starts, line * step + place, "right") - 1])

    def mask(self, index: int) -> NDArray[np.bool_]:
        """bool [H, W]: the pixels of one region."""
        own, runs = self.belongs == index, self.runs
        made = np.zeros(runs.size, np.bool_)
        Runs(runs.size, runs.down, runs.line[own], runs.start[own], runs.end[own], runs.largest[own]).columns().fill(made)
        return made


def of_runs(runs: Runs) -> Regions:
    """The regions of a mask that is True somewhere."""
    step, most = _step(runs), np.iinfo(np.int64).max
    belongs = _connected(runs.line * step + runs.start, runs.line * step + runs.end, step)
    first = _each(np.minimum, belongs, runs.start if runs.down else runs.line, most)
    last = _each(np.maximum, belongs, runs.end if runs.down else runs.line + 1, 0)
    left = _each(np.minimum, belongs, runs.line if runs.down else runs.start, most)
    right = _each(np.maximum, belongs, runs.line + 1 if runs.down else runs.end, 0)
    area = _each(np.add, belongs, runs.end - runs.start, 0)
    value = _each(np.maximum, belongs, runs.largest, -np.inf)
    order = np.argsort(_each(np.minimum, belongs, _places(runs), most)) if runs.down else np.arange(len(area))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return Regions(np.stack([left, first, right, last], 1)[order], area[order], value[order], runs, place[belongs])


def _step(runs: Runs) -> int:
    """Distance between lines in one line that joins them, so that runs of neighbours do not touch around its ends."""
    return runs.size[0 if runs.down else 1] + 2


def _places(runs: Runs) -> Ints:
    """The place of the first pixel of each run of columns, row by row."""
    return runs.start * runs.size[1] + runs.line


def _each(join: np.ufunc, belongs: Ints, values: NDArray[Any], start: float) -> Any:
    """The values of each region's runs, joined."""
    joined = np.full(int(belongs.max()) + 1, start, values.dtype)
    join.at(joined, belongs, values)
    return joined


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
