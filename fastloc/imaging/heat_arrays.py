"""Heatmaps as arrays of the dtype that you ask for: whole, a part at a time, and at another size than the picture's.

Bytes are the cheap form. Where a map is a stretch of the bilinear surface, the stretch to 0 … 255 and the half step that makes the cut a
rounding are done on the patch grid, and a strip of pixels is one product of two small matrices, converted while it lies in a core's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import pairwise, product
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from PIL import Image

from fastloc.errors import FastlocError, unknown
from fastloc.imaging.axis_sampling import Axis
from fastloc.imaging.bilinear import CHUNK, Bilinear
from fastloc.imaging.heatmaps import Heat, is_flat
from fastloc.utils.hardware import processors

__all__ = [
    "DTYPES", "array_of", "dtype_of", "grid_steps", "heat_at", "pixels_of", "scaled", "side_by_side", "stretched", "tiles", "to_steps",
]  # fmt: skip

Floats = NDArray[Any]

DTYPES = ("float32", "float16", "uint8")
# values from which a second thread pays for its start, and the most threads: more wait for memory
SHARED, THREADS = 1 << 25, 4
# multiplications from which OpenBLAS starts threads of its own, which would wait for these
SMALL_PRODUCT = 1 << 18


def dtype_of(name: DTypeLike) -> np.dtype[Any]:
    """The dtype of a name of `DTYPES`, or of anything that numpy takes for one of them. Raises FastlocError for another."""
    try:
        found = np.dtype(name)
    except TypeError:
        raise FastlocError(unknown("dtype", name, DTYPES)) from None
    if found.name not in DTYPES:
        raise FastlocError(unknown("dtype", found.name, DTYPES))
    return found


def heat_at(heat: Heat, size: tuple[int, int]) -> Heat:
    """The same heat on the picture scaled to (height, width): that of the full size at the place where a pixel's centre lies. A map that is
    stretched between its lowest and its highest value takes these from the full size."""
    if size == heat.geometry.picture:
        return heat
    geometry = replace(heat.geometry, picture=size)
    grid = heat.maps.values.shape[1], heat.maps.values.shape[2]
    maps = Bilinear(heat.maps.values, *geometry.steps(grid, through_input=len(heat.maps.rows) > 1))
    return replace(heat, maps=maps, geometry=geometry, cut=heat.cut or heat.low is not None)


def stretched(heat: Heat) -> Heat:
    """Heat of raw similarities, the order "none", stretched between each map's lowest and highest value."""
    low, high = heat.maps.range()
    return replace(heat, low=low, span=np.where(is_flat(low, high), np.inf, high - low).astype(low.dtype))


def pixels_of(size: tuple[int, int], rows: slice, columns: slice) -> tuple[slice, slice]:
    """Rows and columns of a picture (height, width) as slices from a first to a last pixel. Raises FastlocError for a step."""
    for name, part in (("rows", rows), ("columns", columns)):
        if part.step not in (None, 1):
            raise FastlocError(f"{name} must be a slice without a step, got {part.step}; take every so many-th of the array")
    (top, bottom, _), (left, right, _) = rows.indices(size[0]), columns.indices(size[1])
    return slice(top, max(bottom, top)), slice(left, max(right, left))


def array_of(heat: Heat, dtype: np.dtype[Any], rows: slice, columns: slice) -> NDArray[Any]:
    """Heat [T, r, c] of rows and columns of the picture, in one of `DTYPES`; uint8 is heat * 255, rounded.

    float32 has the bits of `Heat.tile`, float16 those of its rounding; uint8 is less than one step from the exact value. Beside the array
    it takes a few MB, whatever the number of pixels and texts. A crop's hidden borders are 0.
    """
    made = np.empty((heat.count, rows.stop - rows.start, columns.stop - columns.start), dtype)
    _fill(heat, made[: len(heat.maps.values)], rows, columns)
    heat.repeat(made)
    return made


def _fill(heat: Heat, out: NDArray[Any], rows: slice, columns: slice) -> None:
    """Write the heat of the maps, each once, into an array of that many."""
    down, along = (slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(heat.geometry.covered(), (rows, columns), strict=True))
    if down.start >= down.stop or along.start >= along.stop:
        out[:] = 0
        return
    inner = out[:, down.start - rows.start : down.stop - rows.start, along.start - columns.start : along.stop - columns.start]
    if inner.shape != out.shape:
        out[:] = 0
    write = _steps if out.dtype == np.uint8 and heat.logit_scale is None else _values
    count = min(processors(), THREADS) if out.size >= SHARED else 1
    edges = np.linspace(down.start, down.stop, count + 1).astype(int).tolist()
    slabs = [slice(*pair) for pair in pairwise(edges)]
    side_by_side([partial(write, heat, inner[:, slab.start - down.start : slab.stop - down.start], slab, along) for slab in slabs])


def side_by_side(works: Sequence[Callable[[], None]]) -> None:
    """Do all of these, the first here and each other one in a thread of its own. Raises what one of them raises."""
    first, *others = works
    if not others:
        first()
        return
    with ThreadPoolExecutor(len(others), thread_name_prefix="fastloc-heat") as pool:
        begun = [pool.submit(other) for other in others]
        first()
        for each in begun:
            each.result()


def tiles(size: tuple[int, int], side: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of tiles of at most `side` pixels a side that cover (height, width), from the left and from the top."""
    starts = product(range(0, size[0], side), range(0, size[1], side))
    return ((slice(y, min(y + side, size[0])), slice(x, min(x + side, size[1]))) for y, x in starts)


def to_steps(heat: Floats) -> NDArray[np.uint8]:
    """uint8 of heat within [0, 1]: heat * 255, rounded; itself where it is uint8."""
    return heat if heat.dtype == np.uint8 else (heat * np.float32(255) + np.float32(0.5)).astype(np.uint8)


def scaled(maps: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Maps float32 [T, H, W] at another (height, width), a pixel the mean of those that it covers, or between its neighbours."""
    return np.stack([np.asarray(Image.fromarray(each).resize(size[::-1], Image.Resampling.BILINEAR)) for each in maps])


def _values(heat: Heat, out: NDArray[Any], rows: slice, columns: slice) -> None:
    if out.dtype == heat.maps.values.dtype:
        heat.fill(out, rows, columns)
        return
    for texts, part, values in heat.parts(rows, columns):
        if out.dtype == np.uint8:
            values *= np.float32(255)
            values += np.float32(0.5)
        np.copyto(out[texts, part.start - rows.start : part.stop - rows.start], values, casting="unsafe")


def _steps(heat: Heat, out: NDArray[np.uint8], rows: slice, columns: slice) -> None:
    """Heat in bytes, of maps that are stretched."""
    scaled = grid_steps(heat)
    # no blend of cells reaches beyond them, so that few maps need the cut
    cut = heat.cut and bool(scaled.min() < 0 or scaled.max() >= 256)
    wide = columns.stop - columns.start
    lines, strips = list(_strips(heat.maps.columns[-1], columns, scaled.shape[1])), list(_strips(heat.maps.rows[-1], rows, wide))
    # of one map at a time: all maps' would be as large as some of the answers
    across = np.empty((scaled.shape[1], wide), np.float32)
    strip = np.empty((max(place.stop - place.start for place, _, _ in strips), wide), np.float32)
    for grid, map_ in zip(scaled, out, strict=True):
        for place, cells, weights in lines:
            np.matmul(grid[:, cells], weights.T, out=across[:, place])
        for place, cells, weights in strips:
            made = np.matmul(weights, across[cells], out=strip[: len(weights)])
            if cut:
                np.clip(made, 0, np.float32(255.5), out=made)
            np.copyto(map_[place], made, casting="unsafe")


def grid_steps(heat: Heat) -> Floats:
    """float32 [T, h, w]: the patch grid, so that a map of it, cut to whole numbers, is heat in steps of 1/255."""
    values: Floats = heat.maps.values.astype(np.float32)
    if heat.low is not None and heat.span is not None:
        values = (values - heat.low) / heat.span
    if heat.reverse:
        values = 1 - values
    scaled: Floats = values * np.float32(255) + np.float32(0.5)
    return scaled


def _strips(axis: Axis, pixels: slice, wide: int) -> Iterator[tuple[slice, slice, NDArray[np.float32]]]:
    """Pixels of an axis a few at a time, counted from the first: their place, the cells that they lie between and the weights of these,
    float32 [n, cells]; so few that a product with `wide` numbers a cell stays in the cache, and in this thread."""
    count, density = pixels.stop - pixels.start, axis.cells / len(axis.lower)
    high = max(CHUNK // wide, 1)
    while high > 1 and high * wide * (high * density + 3) > SMALL_PRODUCT:
        high //= 2
    for start in range(0, count, high):
        place = slice(start, min(start + high, count))
        lower, weight = (each[pixels.start + place.start : pixels.start + place.stop] for each in (axis.lower, axis.weight))
        last = min(int(lower[-1]) + 1, axis.cells - 1)
        # a product over one cell alone is another routine, ten times as slow
        cells = slice(max(min(int(lower[0]), last - 1), 0), last + 1)
        # `Axis.matrix` of these alone: the whole one of a large picture takes more than all else here
        weights, rows = np.zeros((len(lower), cells.stop - cells.start), np.float32), np.arange(len(lower))
        weights[rows, lower - cells.start] = 1 - weight
        weights[rows, np.minimum(lower + 1, axis.cells - 1) - cells.start] += weight.astype(np.float32)
        yield place, cells, weights
