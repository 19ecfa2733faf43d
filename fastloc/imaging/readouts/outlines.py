"""The outlines of a mask as polygons whose corners are corners of pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastloc.imaging.readouts.runs import Ints, Runs

__all__ = ["outlines"]


def outlines(runs: Runs) -> list[NDArray[np.int32]]:
    """Polygons int32 [n, 2] of (x, y), by their first corners, row by row; pixels that touch at a corner alone lie in two.

    Clockwise around pixels, the other way around holes, which are polygons of their own. A polygon fills its pixels to their edges: one
    pixel at (0, 0) is (0, 0), (1, 0), (1, 1), (0, 1).
    """
    columns = runs.columns()
    step = runs.size[0] + 1
    left, right = (columns.line + each for each in (0, 1))
    # a column that begins (+1) or ends (-1) at a corner, less the one before it
    keys = np.concatenate([line * step + each for line in (left, right) for each in (columns.start, columns.end)])
    signs = np.repeat([1, -1, -1, 1], len(left))
    keys, place = np.unique(keys, return_inverse=True)
    turn = np.bincount(place, signs, len(keys)).astype(np.int64)
    keys, turn = keys[turn != 0], turn[turn != 0]
    # where two pixels touch at a corner, each has it; the second of them turns down
    twice = np.abs(turn) == 2
    keys, turn = (np.repeat(each, np.abs(turn)) for each in (keys, turn))
    x, y = np.divmod(keys, step)
    by_row = np.lexsort((np.arange(len(x)), x, y))
    across = _pairs(by_row)
    order = np.arange(len(x))
    # of pixels at the lower left and the upper right the left one has the lower edge
    both = np.flatnonzero(np.repeat(twice, np.where(twice, 2, 1)) & (turn == -2))
    order[both[::2]], order[both[1::2]] = both[1::2], both[::2]
    return _walked(np.stack([x, y], 1).astype(np.int32), across, _pairs(order), turn, by_row)


def _pairs(order: Ints) -> Ints:
    """For each corner the other end of its edge, where edges are every two corners in an order."""
    other = np.empty_like(order)
    other[order[::2]], other[order[1::2]] = order[1::2], order[::2]
    return other


def _walked(corners: NDArray[np.int32], across: Ints, down: Ints, turn: Ints, order: Ints) -> list[NDArray[np.int32]]:
    """The polygons along edges, first across, then down, and so on, each begun at its first corner in the order."""
    found, seen = [], np.zeros(len(corners), np.bool_).tolist()
    over, under, turns = across.tolist(), down.tolist(), turn.tolist()
    for first in order.tolist():
        if seen[first]:
            continue
        way, at = [], first
        while not seen[at]:
            beside = over[at]
            seen[at] = seen[beside] = True
            way += [at, beside]
            at = under[beside]
        # clockwise, a hole is the other way round
        found.append(corners[way if turns[first] > 0 else [way[0], *way[:0:-1]]])
    return found
