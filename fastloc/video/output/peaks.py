"""Peaks of maps, without the maps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastloc.imaging.heatmaps import COMPETING
from fastloc.results.result import Point, Result
from fastloc.video.output.heat_rendering import extremes_of, limits_of, matrices_of, order_of, reduced

__all__ = ["peaks_of"]

Floats = NDArray[np.float32]


def peaks_of(result: Result) -> list[Point]:
    """`result.points()` at a fraction of the cost, in the texts' order; values of the order "none" are within [0, 1] too.

    A pixel off at most where a map has one highest place. Where limits cut heat off, or texts compete, it is that of `reduced`.
    """
    rows, columns = matrices_of(result)
    down, along = extremes_of(result)
    # the highest value of a bilinear map is at one of these
    corners = rows[down] @ (result.similarity @ columns[along].T)
    limits = limits_of(result)
    low, high = (corners.min(axis=(1, 2)), corners.max(axis=(1, 2))) if limits is None else limits.T
    best = corners.min(axis=(1, 2)) if result.reverse else corners.max(axis=(1, 2))
    values = np.where(high > low, (best - low) / np.where(high > low, high - low, 1), 0)
    if order_of(result) in COMPETING or (result.limits is not None and not ((values > 0) & (values < 1)).all()):
        return _enlarged(reduced(result), result.geometry.picture)
    inside = result.geometry.covered()
    found = []
    for text, grid, corner, peak, value in zip(result.texts, result.similarity, corners, best, values, strict=True):
        row, column = np.argwhere(corner == peak)[0]
        # beyond the border patch's centre a map is flat: its middle, as `Result` has it
        y = _middle(rows @ (grid @ columns[along[column]]), int(down[row]), inside[0])
        x = _middle(rows[down[row]] @ grid @ columns.T, int(along[column]), inside[1])
        found.append(Point(text, x, y, float(1 - value if result.reverse else value), float(peak)))
    return found


def _middle(line: Floats, at: int, inside: slice) -> int:
    """The middle one of the pixels inside that are as high as the one at `at`; a row or column of a map."""
    same = np.flatnonzero(np.abs(line[inside] - line[at]) <= 4 * np.finfo(np.float32).eps * np.abs(line[at])) + inside.start
    return int(same[np.abs(same - same.mean()).argmin()])


def _enlarged(small: Result, size: tuple[int, int]) -> list[Point]:
    """The points of a reduced result, on a picture of this size."""
    down, across = size[0] / small.picture.height, size[1] / small.picture.width
    return [
        Point(each.text, int((each.x + 0.5) * across), int((each.y + 0.5) * down), each.value, each.similarity) for each in small.points()
    ]
