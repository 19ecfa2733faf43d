"""Peaks, boxes and masks of bilinear maps without the maps: along a column of pixels a map is straight between two rows of patches.

A picture of 1080 x 1920 has two million pixels, and a grid of 28 x 28 patches 30 pieces in each of its columns. Where a piece crosses the
threshold follows from its two ends; what is warm is then a list of runs, which boxes and COCO's run lengths are made of. The numbers are
those of `fastloc.Result` up to rounding, and come from products of two numbers each, which no library splits among threads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloc.imaging.axis_sampling import Axis
from fastloc.imaging.heatmaps import COMPETING
from fastloc.imaging.regions import of_runs
from fastloc.results.boxes import kept
from fastloc.results.result import SPECK, Result

__all__ = ["LinearMap", "is_linear"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def is_linear(result: Result) -> bool:
    """True where each heatmap is bilinear in one text's similarity, scaled by its own least and greatest value."""
    alone = result.order == "picture" or (result.order in COMPETING and len(result.texts) == 1)
    return alone and result.limits is None and result.refinement is None and not any(result.flat)


@dataclass(frozen=True, eq=False)
class LinearMap:
    """The heatmap of one text of such a Result.

    values    float64 [h, w], the similarity, or its opposite for a reversed method
    rows, columns    where the picture's pixels lie between patches
    """

    values: Floats
    rows: Axis
    columns: Axis

    @classmethod
    def of(cls, result: Result, index: int) -> LinearMap:
        """The map of text `index`."""
        values = result.similarity[index].astype(np.float64)
        return cls(-values if result.reverse else values, *result.geometry.sampling((values.shape[0], values.shape[1])))

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the picture."""
        return len(self.rows.lower), len(self.columns.lower)

    @cached_property
    def pieces(self) -> tuple[Ints, Ints]:
        """The first and the last row of pixels of each of S straight pieces."""
        inside = self.rows.inside
        cell, weight = self.rows.lower[inside], self.rows.weight[inside]
        # beyond the outermost centres the map is level
        steps = np.flatnonzero(np.diff(cell) | (np.diff((weight == 0).astype(np.int8)) != 0)) + 1
        return inside.start + np.concatenate(([0], steps)), inside.start + np.concatenate((steps - 1, [len(cell) - 1]))

    @cached_property
    def ends(self) -> tuple[Floats, Floats]:
        """Heat [W, S] of every column inside at the first and the last row of each piece."""
        inside = self.columns.inside
        across = _between(self.values.T, self.columns, np.arange(inside.start, inside.stop)).T
        first, last = (_between(across, self.rows, rows).T for rows in self.pieces)
        low, high = min(first.min(), last.min()), max(first.max(), last.max())
        return (first - low) / (high - low), (last - low) / (high - low)

    @cached_property
    def peak(self) -> tuple[int, int]:
        """(x, y) of the greatest heat; in the middle of pixels that share it."""
        (first, last), (top, bottom) = self.ends, self.pieces
        greatest = max(first.max(), last.max())
        x, piece = np.nonzero((first == greatest) | (last == greatest))
        # of a level piece all rows
        low = np.where(first[x, piece] == greatest, top[piece], bottom[piece])
        count = np.where(last[x, piece] == greatest, bottom[piece], top[piece]) - low + 1
        y = np.repeat(low - (np.cumsum(count) - count), count) + np.arange(count.sum())
        ties = np.stack((y, np.repeat(x + self.columns.inside.start, count)), 1)
        ties = ties[np.lexsort((ties[:, 1], ties[:, 0]))]
        at = np.square(ties - ties.mean(axis=0)).sum(axis=1).argmin()
        return int(ties[at, 1]), int(ties[at, 0])

    def similarity(self, x: int, y: int) -> float:
        """The map's own value at a pixel."""
        along = _between(self.values, self.rows, np.array([y]))
        return float(_between(along.T, self.columns, np.array([x]))[0, 0])

    def runs(self, threshold: float) -> tuple[Ints, Ints, Floats]:
        """Starts and ends [n] of the warm runs of the columns, pixel (x, y) at x * (H + 2) + y + 1, and the greatest heat in each."""
        (first, last), (top, bottom) = self.ends, self.pieces
        begins, stops = first >= threshold, last >= threshold
        column, piece = np.nonzero(begins | stops)
        length, cold_above, cold_below = (bottom - top)[piece], ~begins[column, piece], ~stops[column, piece]
        column_start = (column + self.columns.inside.start) * (self.size[0] + 2)
        starts, ends = column_start + top[piece] + 1, column_start + bottom[piece] + 2
        first, last = first[column, piece], last[column, piece]
        for half, edge, side in ((cold_above, starts, 1), (cold_below, ends, -1)):
            # pixels from the cold end on that are still cold: at least that end, at most all but the warm one
            cold, warm = (first, last) if side == 1 else (last, first)
            share = (threshold - cold[half]) / (warm[half] - cold[half])
            edge[half] += side * np.clip(np.ceil(share * length[half]), 1, length[half]).astype(np.int64)
        if not len(starts):
            return starts, ends, np.zeros(0)
        apart = starts[1:] != ends[:-1]
        begin = np.flatnonzero(np.concatenate(([True], apart)))
        return starts[begin], ends[np.concatenate((apart, [True]))], np.maximum.reduceat(np.maximum(first, last), begin)

    def boxes(self, runs: tuple[Ints, Ints, Floats]) -> list[dict[str, Any]]:
        """Boxes of the warm regions, as `Result.boxes` has them."""
        starts, ends, largest = runs
        if not len(starts):
            return []
        found = of_runs(starts, ends, self.size[0] + 2, largest.astype(np.float32))
        x, y = self.peak
        made = []
        # rows and columns have changed places
        for index in kept(found, found.at(y, x), SPECK * math.prod(self.size)):
            y0, x0, y1, x1 = found.boxes[index].tolist()
            made.append({"x0": x0, "y0": y0, "x1": x1, "y1": y1, "value": float(found.value[index])})
        return made

    def rle(self, runs: tuple[Ints, Ints, Floats]) -> str:
        """The `counts` of the mask in COCO's compressed form, which counts down the columns."""
        from pycocotools import mask as coco

        height, width = self.size
        starts, ends = runs[0], runs[1]
        x = starts // (height + 2)
        starts, ends = starts - 1 - 2 * x, ends - 1 - 2 * x
        # a run at a column's foot goes on at the head of the next
        apart = starts[1:] != ends[:-1]
        edges = np.stack((starts[np.concatenate(([True], apart))], ends[np.concatenate((apart, [True]))]), 1).ravel() if len(x) else starts
        counts = np.diff(edges, prepend=0, append=height * width).tolist()
        whole = {"size": [height, width], "counts": counts if counts[-1] else counts[:-1]}
        compressed: bytes = coco.frPyObjects(whole, height, width)["counts"]
        return compressed.decode("ascii")


def _between(values: Floats, axis: Axis, pixels: Ints) -> Floats:
    """Values [cells, n] at pixels of their first axis, [pixels, n]."""
    weight = axis.weight[pixels, None]
    found: Floats = values[axis.lower[pixels]] * (1 - weight) + values[axis.upper[pixels]] * weight
    return found
