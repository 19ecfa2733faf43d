"""Blocks of pixels between two cells along both axes: what is bilinear there is least and greatest at their corners."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloc.imaging.axis_sampling import Axis
from fastloc.imaging.bilinear import blend

__all__ = ["corners_of", "edges_of"]

Floats = NDArray[Any]
Ints = NDArray[np.int64]
# pixels along a side at most
SIDE = 128


def edges_of(axis: Axis, inside: slice) -> Ints:
    """Pixels at which blocks begin along an axis, and the end of the last one."""
    bands = axis.bands(SIDE)
    return np.array([inside.start, *bands[(bands > inside.start) & (bands < inside.stop)], inside.stop])


def corners_of(cells: Floats, down: Axis, tops: Ints, lefts: Ints) -> tuple[Floats, float]:
    """The values [T, n, 2, m, 2] at the corners of blocks; and a margin for the rounding of two values, at a corner and between.

    cells    the rows of the grid at columns of pixels, `Bilinear.across`, which lefts are counted by
    """
    rows, columns = (np.stack([edges[:-1], edges[1:] - 1], 1).ravel() for edges in (tops, lefts))
    corners = blend(cells[..., columns], down, rows, -2).reshape(len(cells), len(tops) - 1, 2, len(lefts) - 1, 2)
    # each of the two is off by less than 8 roundings
    return corners, 32 * float(np.finfo(cells.dtype).eps) * float(np.abs(cells).max())
