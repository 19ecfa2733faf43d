"""Peaks of texts that compete, without the shares of blocks that cannot hold one: the same as from all pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastloc.imaging import heatmaps
from fastloc.imaging.geometry import Geometry, fit
from fastloc.imaging.readouts import shares
from fastloc.imaging.readouts.blocks import edges_of

SCALES = (1.0, 10.0, 100.0, 1000.0)


def heat_of(seed: int, geometry: Geometry, texts: int = 3, scale: float = 10.0) -> heatmaps.Heat:
    grid = np.random.default_rng(seed).standard_normal((texts, *geometry.grid(16))).astype(np.float32) * 0.1
    return heatmaps.heat_of(grid, geometry, "softmax", scale)


def literal(heat: heatmaps.Heat) -> list[tuple[int, int, float]]:
    rows, columns = heat.geometry.covered()
    found = []
    for each in heat.inside(rows, columns):
        y, x = heatmaps.peak(each)
        found.append((y + rows.start, x + columns.start, float(each.max())))
    return found


def blocks(heat: heatmaps.Heat) -> int:
    (rows, columns), maps = heat.geometry.covered(), heat.maps
    return (len(edges_of(maps.rows[-1], rows)) - 1) * (len(edges_of(maps.columns[-1], columns)) - 1)


@pytest.mark.parametrize("name", ["stretch", "crop", "letterbox"])
@pytest.mark.parametrize("size", [(60, 200), (200, 60), (90, 90)], ids=str)
def test_peaks_are_those_of_all_pixels(name: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "WORTH", 0)
    for seed in range(3):
        for scale in SCALES:
            heat = heat_of(seed, fit(size, 64, 16, name), 4, scale)
            assert shares.peaks(heat) == literal(heat), (seed, scale)


def test_only_blocks_that_can_hold_a_peak_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts that are each alone in a corner of the grid: one block for each, at the sharpest scale."""
    geometry = fit((160, 160), 64, 16)
    grid = np.full((2, 4, 4), -0.5, np.float32)
    grid[0, 0, 0] = grid[1, 3, 3] = 0.5
    # no two shares are the same
    grid += np.arange(16, dtype=np.float32).reshape(4, 4) * np.array([1e-3, -1e-3], np.float32)[:, None, None]
    heat, made = heatmaps.heat_of(grid, geometry, "softmax", 3.0), []
    inside = heatmaps.Heat.inside
    expected = literal(heat)

    def counted(self: Any, rows: slice, columns: slice, *more: Any) -> Any:
        made.append((rows, columns))
        return inside(self, rows, columns, *more)

    monkeypatch.setattr(heatmaps.Heat, "inside", counted)
    assert shares.peaks(heat) == expected
    assert 2 <= len(made) <= 4 < blocks(heat)


@pytest.mark.parametrize("scale", SCALES)
def test_bounds_by_hand(scale: float) -> None:
    """A block whose corners are alike has one share; of others it is one over the powers of each text's least lead."""
    flat = np.broadcast_to(np.array([0.01, 0.02, -0.01])[:, None, None, None, None], (3, 1, 2, 1, 2)).copy()
    powers = np.exp(scale * flat[:, 0, 0, 0, 0])
    tiny = float(np.finfo(np.float32).tiny)
    more = np.exp(2 * scale * 1e-6) * (1 + 3e-5)
    np.testing.assert_allclose(shares._bounds(flat, scale, 1e-6)[:, 0, 0], powers / powers.sum() * more + tiny, rtol=1e-12)
    # one more at a corner for the first text: the others' least lead over it is there
    flat[0, 0, 1, 0, 0] += 0.05
    least = np.array([0.0, 0.02 - 0.06, -0.01 - 0.06])
    found = shares._bounds(flat, scale, 1e-6)
    assert found[0, 0, 0] == pytest.approx(1 / np.exp(scale * least).sum() * more + tiny, rel=1e-12)
    # a share of 0 may be less than the least normal number
    assert shares._bounds(flat * 1e6, 1000.0, 1e-6)[2, 0, 0] == tiny
    # where the margin alone is a power that no float holds, it is e^700
    wide = shares._bounds(flat[:1], scale, 1e6)
    assert wide[0, 0, 0] == pytest.approx(np.exp(700) * (1 + 1e-5), rel=1e-12)


@pytest.mark.parametrize(("name", "size", "worth"), [
    ("stretch", (4, 80), True), ("stretch", (4, 79), False), ("stretch", (79, 4), False), ("crop", (18, 80), True),
    ("crop", (17, 80), False), ("crop", (80, 18), True), ("crop", (80, 17), False),
])  # fmt: skip
def test_small_pictures_are_left_to_their_pixels(name: str, size: tuple[int, int], worth: bool) -> None:
    """Four blocks and five texts are worth it from 320 pixels on, of those that a crop leaves."""
    heat = heat_of(0, fit(size, 32, 16, name), 5)
    assert blocks(heat) == 4 and (shares.peaks(heat) is not None) is worth


def test_not_through_the_input_and_not_without_a_scale() -> None:
    grid, geometry = np.random.default_rng(0).standard_normal((3, 2, 2)).astype(np.float32), fit((300, 300), 32, 16)
    assert shares.peaks(heatmaps.heat_of(grid, geometry, "softmax-input", 10.0)) is None
    assert shares.peaks(heatmaps.heat_of(grid, geometry, "picture")) is None
    assert shares.peaks(heatmaps.heat_of(grid, geometry, "softmax", 10.0)) is not None
