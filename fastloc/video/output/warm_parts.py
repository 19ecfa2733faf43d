"""Heat in bytes where it shows: the parts of a picture that are warm enough to be painted, a few rows at a time.

No blend of cells is warmer than the warmest of them, so that the patch grid alone says which parts and which texts can be left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloc.imaging import heatmaps
from fastloc.imaging.axis_sampling import Axis
from fastloc.imaging.heat_arrays import grid_steps, heat_at
from fastloc.results.result import Result
from fastloc.video.output.heat_rendering import heat_of, limits_of, matrices_of

__all__ = ["Part", "parts_of", "warm_parts"]

Floats = NDArray[Any]
Steps = NDArray[np.uint8]
# rows and columns of pixels, texts, and their heat [texts, rows, columns], which is good until the next part
Part = tuple[slice, slice, list[int], Steps]

# pixels of a part, which stay in the cache
CHUNK = 1 << 16


def warm_parts(result: Result, size: tuple[int, int], least: int) -> Iterator[Part]:
    """Parts of `heat_of(result, size)`, which hold every pixel and text of at least so many steps, 1 … 255, and few others.

    The pixels of two parts differ; the texts of each are in order.
    """
    if limits_of(result) is None:
        yield from parts_of(heat_of(result, size))
        return
    how = result.similarity, result.geometry, result.order, result.logit_scale, result.reverse, result.limits
    heat = heat_at(heatmaps.heat_of(*how), size)
    steps, inside = grid_steps(heat), heat.geometry.covered()
    (down, along), (rows, columns) = (axes[-1] for axes in (heat.maps.rows, heat.maps.columns)), matrices_of(result, size)
    cut = heat.cut and bool(steps.min() < 0 or steps.max() >= 256)
    # [T, h, w]: between a cell and the next ones; half a step is lost in rounding at most
    warm: NDArray[np.bool_] = _larger(_larger(steps, 1), 2) >= least - 0.5
    across = np.matmul(steps, columns.T)
    strip, bytes_ = np.empty(CHUNK, np.float32), np.empty((len(steps), CHUNK), np.uint8)
    tops, lefts = (_borders(axis, pixels) for axis, pixels in zip((down, along), inside, strict=True))
    for cell, left, right in _runs(np.logical_or.reduce(warm)):
        high, wide = slice(tops[cell], tops[cell + 1]), slice(lefts[left], lefts[right])
        # a product over one cell alone is another routine, ten times as slow
        cells = slice(max(min(cell, down.cells - 2), 0), cell + 2)
        texts = np.flatnonzero(warm[:, cell, left:right].any(axis=1)).tolist()
        for part in _cut(high, wide):
            shape = tuple(each.stop - each.start for each in part)
            values = strip[: math.prod(shape)].reshape(shape)
            made = bytes_[: len(texts), : values.size].reshape(-1, *shape)
            for out, text in zip(made, texts, strict=True):
                np.matmul(rows[part[0], cells], across[text, cells, part[1]], out=values)
                if cut:
                    np.clip(values, 0, np.float32(255.5), out=values)
                np.copyto(out, values, casting="unsafe")
            yield *part, texts, made


def parts_of(heats: Steps) -> Iterator[Part]:
    """All of the heats [T, H, W], a few rows at a time."""
    for rows, columns in _cut(slice(0, heats.shape[1]), slice(0, heats.shape[2])):
        yield rows, columns, list(range(len(heats))), heats[:, rows, columns]


def _larger(steps: Floats, axis: int) -> Floats:
    """The larger of each cell and the next one on an axis; the last one has none."""
    after = np.minimum(np.arange(steps.shape[axis]) + 1, steps.shape[axis] - 1)
    larger: Floats = np.maximum(steps, steps.take(after, axis))
    return larger


def _runs(warm: NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    """(row, first, last + 1) of warm cells [h, w] side by side, and of cold ones between two of them, which are not worth a part's end."""
    around = np.pad(warm, ((0, 0), (1, 1))).astype(np.int8)
    around[:, 1:-1] |= around[:, :-2] & around[:, 2:]
    change = np.diff(around, axis=1)
    (row, first), (_, stop) = np.nonzero(change > 0), np.nonzero(change < 0)
    return list(zip(row.tolist(), first.tolist(), stop.tolist(), strict=True))


def _borders(axis: Axis, inside: slice) -> list[int]:
    """The first pixel inside that lies at or behind each cell's centre, and the end of the pixels."""
    borders: list[int] = (np.searchsorted(axis.lower[inside], np.arange(axis.cells + 1)) + inside.start).tolist()
    return borders


def _cut(rows: slice, columns: slice) -> Iterator[tuple[slice, slice]]:
    """Parts of at most `CHUNK` pixels."""
    wide = min(columns.stop - columns.start, CHUNK)
    high = CHUNK // max(wide, 1)
    starts = product(range(rows.start, rows.stop, high), range(columns.start, columns.stop, max(wide, 1)))
    return ((slice(y, min(y + high, rows.stop)), slice(x, min(x + wide, columns.stop))) for y, x in starts)
