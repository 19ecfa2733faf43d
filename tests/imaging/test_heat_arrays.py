"""Heatmaps as arrays of a dtype, a size and a part, against their definition in double precision."""

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest

from fastloc.errors import FastlocError
from fastloc.imaging import heat_arrays
from fastloc.imaging.geometry import FITS, Geometry, fit
from fastloc.imaging.heatmaps import heat_of

TEXTS, PATCH = 3, 8
ORDERS = ("grid", "picture", "softmax", "softmax-input", "softmax-grid")


def literal(similarity: Any, geometry: Geometry, order: str, reverse: bool = False, limits: Any = None, size: Any = None) -> Any:
    """Heat [T, H, W] in float64, pixel by pixel, by the words of `heatmaps.ORDERS`; of the picture scaled to `size` the heat of the full
    picture at the place of each pixel's centre."""
    grid = similarity.astype(np.float64)
    full = geometry.picture
    seen = grid[(slice(None), *geometry.seen(grid.shape[1:]))]
    if order == "grid" and limits is None:
        low, high = seen.min((1, 2)), seen.max((1, 2))
    elif order == "picture" and limits is None:
        rows, columns = geometry.covered()
        map_ = surface(grid, geometry, full)[:, rows, columns]
        low, high = map_.min((1, 2)), map_.max((1, 2))
    elif limits is not None:
        low, high = limits.T
    if order == "softmax-grid":
        grid = softmax(grid)
    map_ = surface(grid, geometry, size or full, through=order == "softmax-input")
    if order in ("grid", "picture"):
        map_ = np.clip((map_ - low[:, None, None]) / (high - low)[:, None, None], 0, 1)
    elif order != "softmax-grid":
        map_ = softmax(map_)
    if reverse:
        map_ = 1 - map_
    hidden = np.ones(size or full, bool)
    hidden[Geometry(size or full, geometry.input, geometry.fit, geometry.resized, geometry.corner).covered()] = False
    map_[:, hidden] = 0
    return map_


def softmax(x: Any) -> Any:
    powers = np.exp(40.0 * (x - x.max(0)))
    return powers / powers.sum(0)


def surface(grid: Any, geometry: Geometry, size: tuple[int, int], through: bool = False) -> Any:
    """Bilinear values at the centres of the pixels of a picture of `size`; through: of the input's pixels, and from there."""
    whole = [range(*geometry.seen(grid.shape[1:])[axis].indices(grid.shape[1 + axis])) for axis in (0, 1)]
    if through:
        inner = np.array([[sample(grid, y, x, whole, geometry.input) for x in range(geometry.input[1])] for y in range(geometry.input[0])])
        grid = np.moveaxis(inner, -1, 0)
        whole = [range(*geometry.seen(geometry.input)[axis].indices(geometry.input[axis])) for axis in (0, 1)]
    places = [[(i + 0.5) * geometry.resized[axis] / size[axis] - geometry.corner[axis] for i in range(size[axis])] for axis in (0, 1)]
    map_ = [[sample(grid, y - 0.5, x - 0.5, whole, geometry.input) for x in places[1]] for y in places[0]]
    return np.moveaxis(np.array(map_), -1, 0)


def sample(grid: Any, y: float, x: float, whole: Any, size: Any) -> Any:
    """The bilinear value at a place of the input, whose pixels' centres are at whole numbers."""
    at = []
    for place, cells, side, inside in zip((y, x), grid.shape[1:], size, whole, strict=True):
        place = min(max((place + 0.5) * cells / side - 0.5, inside[0]), inside[-1])
        first = min(math.floor(place), inside[-1])
        at.append((first, min(first + 1, inside[-1]), place - first))
    (top, bottom, down), (left, right, along) = at
    upper = grid[:, top, left] * (1 - along) + grid[:, top, right] * along
    lower = grid[:, bottom, left] * (1 - along) + grid[:, bottom, right] * along
    return upper * (1 - down) + lower * down


def cases(seed: int) -> tuple[Any, Geometry]:
    draw = np.random.default_rng(seed)
    size = tuple(int(side) for side in draw.integers(9, 44, 2))
    geometry = fit(size, 16 if seed % 2 else 24, PATCH, list(FITS)[seed % len(FITS)])
    return draw.normal(size=(TEXTS, *geometry.grid(PATCH))).astype(np.float32), geometry


def whole(heat: Any, dtype: str) -> Any:
    height, width = heat.geometry.picture
    return heat_arrays.array_of(heat, np.dtype(dtype), slice(0, height), slice(0, width))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("seed", range(6))
def test_each_dtype_is_the_exact_heat(order: str, seed: int) -> None:
    """Every fit, an own size and another: bytes are less than a step off, halves within their own precision, floats within rounding."""
    similarity, geometry = cases(seed)
    draw = np.random.default_rng(seed)
    limits = np.stack([[-0.8, 0.7]] * TEXTS) if seed % 3 == 2 and order in ("grid", "picture") else None
    reverse = seed % 4 == 1 and order in ("grid", "picture")
    heat = heat_of(similarity, geometry, order, 40.0 if "softmax" in order else None, reverse, limits)
    for size in (geometry.picture, (int(draw.integers(1, 60)), int(draw.integers(1, 60)))):
        wanted = literal(similarity, geometry, order, reverse, limits, size)
        asked = heat_arrays.heat_at(heat, size)
        off = np.abs(whole(asked, "float32") - wanted).max()
        assert off < 2e-5, f"{size}: float32 is {off} off"
        assert np.array_equal(whole(asked, "float16"), whole(asked, "float32").astype(np.float16))
        steps = whole(asked, "uint8")
        assert steps.dtype == np.uint8
        assert np.abs(steps - 255 * wanted).max() < 0.5 + 1e-2, f"{size}: uint8 is {np.abs(steps - 255 * wanted).max()} steps off"


@pytest.mark.parametrize("dtype", heat_arrays.DTYPES)
def test_tiles_and_threads_make_the_whole(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of any side cover the picture once; slabs of several threads are those of one."""
    similarity, geometry = cases(3)
    heat, size = heat_of(similarity, geometry), geometry.picture
    full = whole(heat, dtype)
    for side in (1, 7, 16, 100):
        made = np.full_like(full, 9)
        for rows, columns in heat_arrays.tiles(size, side):
            made[:, rows, columns] = heat_arrays.array_of(heat, np.dtype(dtype), rows, columns)
        apart = np.abs(made.astype(float) - full)
        assert apart.max() <= (dtype == "uint8"), f"side {side}: {apart.max()}"
    monkeypatch.setattr(heat_arrays, "SHARED", 1)
    monkeypatch.setattr(heat_arrays, "processors", lambda: 3)
    assert np.abs(whole(heat, dtype).astype(float) - full).max() <= (dtype == "uint8")


@pytest.mark.parametrize(
    ("dtype", "order", "scale"), [("uint8", "picture", None), ("float32", "picture", None), ("uint8", "softmax", 40.0)]
)
def test_beside_the_array_little_is_held(dtype: str, order: str, scale: float | None) -> None:
    """Of twelve megapixels and ten texts, two of them equal, less than 9 MB, so that bytes take a quarter of what floats do."""
    similarity = np.random.default_rng(0).normal(size=(10, 28, 28)).astype(np.float32)
    similarity[9] = similarity[7]
    texts = 10 if dtype == "uint8" and order == "picture" else 3
    heat = heat_of(similarity[-texts:], fit((3000, 4000), 448, 16), order, scale)
    tracemalloc.start()
    made = whole(heat, dtype)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert made.nbytes == texts * 3000 * 4000 * made.itemsize
    assert peak - made.nbytes < 9e6, peak - made.nbytes


@pytest.mark.parametrize("dtype", heat_arrays.DTYPES)
@pytest.mark.parametrize("pattern", ["abcab", "aabbc", "abbba", "aaaaa"])
def test_equal_texts_have_one_map(dtype: str, pattern: str) -> None:
    """Whatever their places: those of the distinct texts, each where it was asked for."""
    similarity, geometry = cases(2)
    distinct = {letter: similarity[number] for number, letter in enumerate(dict.fromkeys(pattern))}
    heat = heat_of(np.stack([distinct[letter] for letter in pattern]), geometry, "softmax", 40.0)
    alone = heat_of(np.stack(list(distinct.values())), geometry, "softmax" if len(distinct) > 1 else "picture", 40.0)
    rows, columns = slice(3, 8), slice(1, 9)
    expected = heat_arrays.array_of(alone, np.dtype(dtype), rows, columns)[[list(distinct).index(letter) for letter in pattern]]
    assert np.array_equal(heat_arrays.array_of(heat, np.dtype(dtype), rows, columns), expected)
    if dtype == "float32":
        assert np.array_equal(heat.tile(rows, columns), expected)


def test_strips_are_small_products() -> None:
    """Each pixel once, with both cells of its blend, in products for which OpenBLAS starts no threads."""
    for size, wide in (((3000, 40), 4000), ((360, 40), 480), ((90, 40), 7), ((40, 40), 1)):
        axis = fit(size, (448, 448), PATCH).sampling((56, 56))[0]
        pixels, seen = slice(5, size[0] - 3), 0
        for place, cells, weights in heat_arrays._strips(axis, pixels, wide):
            assert place.start == seen and weights.sum(1) == pytest.approx(1) and cells.stop - cells.start >= 2
            assert len(weights) == 1 or weights.size * wide <= heat_arrays.SMALL_PRODUCT
            seen = place.stop
        assert seen == pixels.stop - pixels.start


def test_a_map_without_contrast_stays_cold_and_raw_ones_are_stretched() -> None:
    flat, geometry = np.full((1, 4, 4), 0.3, np.float32), fit((20, 30), 32, 8)
    assert not whole(heat_of(flat, geometry), "uint8").any()
    raw = heat_of(np.random.default_rng(0).normal(size=(2, 4, 4)).astype(np.float32), geometry, "none")
    steps = whole(heat_arrays.stretched(raw), "uint8")
    assert steps.min() == 0 and steps.max() == 255
    assert not whole(heat_arrays.stretched(heat_of(flat, geometry, "none")), "uint8").any()


def test_what_cannot_be_asked_for() -> None:
    for name in ("float64", "int8", "nothing"):
        with pytest.raises(FastlocError, match="dtype"):
            heat_arrays.dtype_of(name)
    with pytest.raises(FastlocError, match="step"):
        heat_arrays.pixels_of((9, 9), slice(0, 9, 2), slice(None))
    assert heat_arrays.pixels_of((9, 7), slice(-3, None), slice(5, 2)) == (slice(6, 9), slice(5, 5))
