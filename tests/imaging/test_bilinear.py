"""Bilinear maps: parts of any size have the whole map's bits, and are no larger than they may be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastloc.imaging import bilinear
from fastloc.imaging.bilinear import Bilinear, products
from fastloc.imaging.geometry import FITS, fit

RNG = np.random.default_rng(0)


def made(name: str, texts: int, picture: tuple[int, int], size: int = 24, through_input: bool = False, dtype: Any = np.float32) -> Bilinear:
    geometry = fit(picture, size, 8, name)
    grid = geometry.grid(8)
    rows, columns = geometry.steps(grid, through_input)
    return Bilinear(RNG.standard_normal((texts, *grid)).astype(dtype), rows, columns)


def whole(maps: Bilinear) -> Any:
    out = np.zeros((len(maps.values), len(maps.rows[-1].lower), len(maps.columns[-1].lower)), maps.values.dtype)
    rows, columns = maps.rows[-1].inside, maps.columns[-1].inside
    for texts, part, values in maps.parts(rows, columns):
        out[texts, part, columns] = values
    return out


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_are_numpy_s_own(shape: tuple[int, ...], dtype: Any) -> None:
    weights, steps = RNG.random(5), RNG.standard_normal(shape).astype(dtype)
    expected = weights.astype(dtype)[:, None] * steps[..., None, :]
    out = np.empty_like(expected)
    for found in (products(weights, steps), products(weights, steps, out)):
        assert found.dtype == dtype and np.array_equal(found, expected)
    assert np.array_equal(out, expected)


@pytest.mark.parametrize("through_input", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FITS)
def test_one_pixel_has_the_bits_of_the_whole_map(name: str, dtype: Any, through_input: bool) -> None:
    maps = made(name, 3, (13, 29), through_input=through_input, dtype=dtype)
    expected = whole(maps)
    vertical, horizontal = fit((13, 29), 24, 8, name).resampling(maps.values.shape[1:], through_input)
    stated = vertical @ maps.values.astype(np.float64) @ horizontal.T
    np.testing.assert_allclose(expected, stated, rtol=0, atol=1e-12 if dtype == np.float64 else 2e-6)
    rows, columns = (range(len(axis.lower))[axis.inside] for axis in (maps.rows[-1], maps.columns[-1]))
    for row in {rows[0], rows[1], rows[len(rows) // 2], rows[-1]}:
        for column in {columns[0], columns[len(columns) // 2], columns[-2], columns[-1]}:
            assert [maps.at(text, row, column) for text in range(3)] == expected[:, row, column].tolist()
    least, most = maps.range()
    inside = expected[:, rows.start : rows.stop, columns.start : columns.stop]
    assert least.dtype == dtype and np.array_equal(least, inside.min((1, 2), keepdims=True))
    assert np.array_equal(most, inside.max((1, 2), keepdims=True))


# 2 rows of cells on 12 pixels: the first nine lie behind the first
PARTS = [
    (400, False, [(0, 5, 2, 9)]), (400, True, [(0, 5, 2, 9)]), (140, False, [(0, 2, 2, 9), (2, 4, 2, 9), (4, 5, 2, 9)]),
    (40, False, [(text, text + 1, *rows) for text in range(5) for rows in ((2, 6), (6, 9))]),
    (5, False, [(text, text + 1, row, row + 1) for text in range(5) for row in range(2, 9)]),
    (100, True, [(0, 5, 2, 4), (0, 5, 4, 6), (0, 5, 6, 8), (0, 5, 8, 9)]), (5, True, [(0, 5, row, row + 1) for row in range(2, 9)]),
]  # fmt: skip


@pytest.mark.parametrize(("most", "together", "expected"), PARTS, ids=lambda value: str(value)[:20])
def test_parts_of_10_columns_have_so_many_pixels(most: int, together: bool, expected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = made("stretch", 5, (12, 16), 16)
    full = whole(maps)
    monkeypatch.setattr(bilinear, "CHUNK", most)
    found = []
    for texts, rows, values in maps.parts(slice(2, 9), slice(4, 14), *([True] if together else [])):
        found.append((texts.start, texts.stop, rows.start, rows.stop))
        assert np.array_equal(values, full[texts, rows, 4:14])
    assert found == expected
    # into an array of these rows and columns
    out = np.full((5, 7, 10), np.nan, np.float32)
    for texts, rows, values in maps.parts(slice(2, 9), slice(4, 14), together, None, out):
        assert np.shares_memory(values, out) and values.shape == out[texts, rows.start - 2 : rows.stop - 2].shape
    assert np.array_equal(out, full[:, 2:9, 4:14])


def test_a_chunk_is_half_a_megabyte_of_float32() -> None:
    assert bilinear.CHUNK * 4 == 512 * 1024


def test_no_more_rows_than_are_sampled() -> None:
    """Rows 6 to 8 of 24 lie between the cells 0 and 1 of three."""
    maps = made("stretch", 2, (24, 24))
    across = maps.across(slice(0, 2), slice(0, 24))
    for rows, expected in ((slice(6, 9), (0, 2)), (slice(14, 15), (1, 3)), (slice(20, 24), (2, 3)), (slice(0, 24), (0, 3))):
        cells, first = maps.down(across, rows)
        assert first == expected[0] and np.array_equal(cells, across[:, slice(*expected)])
