"""Points, boxes, masks, outlines and labels are those of the full-size maps, pixel by pixel, ties included."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco

import literal_readouts as literal
from fastloc.imaging import heatmaps
from fastloc.imaging.geometry import FITS, fit
from fastloc.imaging.readouts import shares
from fastloc.imaging.readouts.turning import turning_of
from fastloc.results.result import Result


def drawn(seed: int) -> Result:
    """A result of a random grid, geometry and order; of three in four values repeat, or are whole steps, so that pixels tie."""
    noise = np.random.default_rng(seed)
    name, order = list(FITS)[seed % len(FITS)], list(heatmaps.ORDERS)[(seed + seed // len(FITS)) % len(heatmaps.ORDERS)]
    # now and then one pixel wide or high; "crop" and "aspect" take no longer ones than 32:1
    sides = noise.integers(1, 240, 2) if noise.random() < 0.9 else noise.integers(1, 30, 2)
    height, width = int(sides[0]), int(np.clip(sides[1], -(-sides[0] // 32), 32 * sides[0]))
    geometry = fit((height, width), 16 * int(noise.integers(1, 9)), 16, name)
    texts = int(noise.integers(1, 9))
    grid = noise.standard_normal((texts, *geometry.grid(16))).astype(np.float32) * 0.1
    kind = seed % 4
    if kind == 1:
        grid = np.round(grid * 20) / 20
    elif kind == 2:
        grid[noise.integers(0, texts, texts // 2)] = grid[0]
    elif kind == 3:
        grid[:, : grid.shape[1] // 2 + 1] = grid[:, :1, :1]
    reverse = order in ("grid", "picture") and bool(noise.integers(2))
    cut = order in ("grid", "picture") and noise.random() < 0.3
    limits = np.sort(noise.standard_normal((texts, 2)).astype(np.float32) * 0.1, 1) if cut else None
    return Result(
        picture=Image.new("RGB", (width, height)), texts=tuple(map(str, range(texts))), similarity=grid, geometry=geometry, order=order,
        logit_scale=float(noise.choice([10.0, 100.0])), reverse=reverse, limits=limits,
    )  # fmt: skip


def check(result: Result, thresholds: tuple[float, ...]) -> None:
    points = result.points()
    assert [(point.x, point.y, point.value) for point in points] == literal.peaks(result)
    upsampled = heatmaps.upsample(result.similarity.astype(np.float64), result.geometry, result.order)
    assert [point.similarity for point in points] == [each[point.y, point.x] for point, each in zip(points, upsampled, strict=True)]
    np.testing.assert_array_equal(result.labels(), labels_of(result))
    for threshold in thresholds:
        masks = literal.masks(result, threshold)
        np.testing.assert_array_equal(result.masks(threshold), masks)
        assert result.boxes(threshold) == literal.boxes(result, threshold)
        assert result.boxes(threshold, min_area=1) == literal.boxes(result, threshold, 1)
        np.testing.assert_array_equal(result.labels(threshold), literal.cooled(result, threshold))
        for mask, run_lengths, polygons in zip(masks, result.rle(threshold), result.polygons(threshold), strict=True):
            encoded = coco.encode(np.asfortranarray(mask.view(np.uint8)))
            assert run_lengths == {"size": encoded["size"], "counts": encoded["counts"].decode()}
            check_outlines(polygons, mask)


def labels_of(result: Result) -> NDArray[np.int32]:
    return literal.labels(-result.similarity if result.reverse else result.similarity, result.geometry, None, result.order)


def check_outlines(polygons: list[NDArray[np.int32]], mask: NDArray[np.bool_]) -> None:
    """A pixel is inside as often as edges to its left go up less those that go down: once in the mask, nowhere else."""
    edges = np.zeros((mask.shape[0], mask.shape[1] + 1), np.int64)
    for polygon in polygons:
        for (x, y), (other, below) in zip(polygon.tolist(), np.roll(polygon, -1, 0).tolist(), strict=True):
            assert (x == other) != (y == below), "edges go across or down, and corners turn"
            if x == other:
                edges[min(y, below) : max(y, below), x] += 1 if y > below else -1
    np.testing.assert_array_equal(edges.cumsum(1)[:, :-1], mask)


@pytest.mark.slow("a thousand random results", quick=1)
@pytest.mark.parametrize("part", [range(20), *(range(20 + 98 * i, 118 + 98 * i) for i in range(10))], ids=["first", *"0123456789"])
def test_readouts_are_those_of_the_maps(part: range) -> None:
    for seed in part:
        result = drawn(seed)
        # a threshold that pixels hold themselves, too
        own = float(result.heatmaps[0].ravel()[seed % result.heatmaps[0].size])
        try:
            check(result, (0.5, own) if seed % 2 else (0.25,))
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {result.order}, {result.geometry}") from error


@pytest.mark.slow("300 texts")
def test_many_texts_and_repeated_ones_and_float64_similarities() -> None:
    result = drawn(0)
    grid = np.random.default_rng(0).standard_normal((300, *result.similarity.shape[1:])).astype(np.float32)
    grid[100:200] = grid[:100]
    for order in ("picture", "softmax"):
        check(replace(result, texts=tuple(map(str, range(300))), similarity=grid, order=order, reverse=False, limits=None), (0.9,))


def test_flat_maps_and_one_pixel() -> None:
    for size in ((1, 1), (1, 40), (50, 3)):
        geometry = fit(size, 48, 16)
        for order in heatmaps.ORDERS:
            for grid in (np.full((2, 3, 3), 0.25, np.float32), np.stack([np.full((3, 3), 0.1), np.full((3, 3), 0.2)]).astype(np.float32)):
                result = Result(
                    picture=Image.new("RGB", size[::-1]), texts=("one", "two"), similarity=grid, geometry=geometry, order=order,
                    logit_scale=10.0,
                )  # fmt: skip
                check(result, (0.0, 0.5))


def test_shares_that_vanish_have_their_peaks() -> None:
    geometry, noise = fit((150, 200), 48, 16), np.random.default_rng(0)
    # the last text's share is nowhere a normal number of float32, and of the one before it is 0 in places
    grid = noise.standard_normal((4, 3, 3)).astype(np.float32) * 0.1 - np.array([0, 0, 0.5, 0.85], np.float32)[:, None, None]
    for scale in (10.0, 100.0, 1000.0):
        result = Result(
            picture=Image.new("RGB", (200, 150)), texts=tuple("abcd"), similarity=grid, geometry=geometry, order="softmax",
            logit_scale=scale,
        )  # fmt: skip
        assert shares.peaks(result._heat) is not None
        assert [(point.x, point.y, point.value) for point in result.points()] == literal.peaks(result)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_heat_turns_at_the_value_before_which_it_is_on_the_other_side(dtype: type) -> None:
    geometry = fit((40, 50), 48, 16)
    grid = np.random.default_rng(0).standard_normal((3, 3, 3)).astype(dtype)
    for order, reverse in (("picture", False), ("picture", True), ("grid", False), ("none", False)):
        heat = heatmaps.heat_of(grid, geometry, order, reverse=reverse)
        least = turning_of(heat, 0.3).least
        at, before = (heat.of(values, slice(None)) >= 0.3 for values in (least.copy(), np.nextafter(least, dtype(-np.inf))))
        assert (at != reverse).all() and (before == reverse).all()
    # heat is never above 1
    assert not turning_of(heatmaps.heat_of(grid, geometry, "grid"), 1.5).warm(grid, slice(None)).any()


def test_refined_results_are_read_off_their_maps() -> None:
    result = drawn(6)
    noise = np.random.default_rng(1).integers(0, 255, (*result.geometry.picture, 3), np.uint8)
    refined = replace(result, picture=Image.fromarray(noise)).refined(iterations=2)
    assert [(point.x, point.y, point.value) for point in refined.points()] == literal.peaks(refined)
    np.testing.assert_array_equal(refined.masks(0.5), literal.masks(refined, 0.5))
    assert refined.boxes(0.5) == literal.boxes(refined, 0.5)


def test_no_maps_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Result, "max_map_bytes", 0)
    result = drawn(0)
    for order in heatmaps.ORDERS:
        each = replace(result, order=order, reverse=False, limits=None)
        each.to_dict(), each.masks(), each.rle(), each.polygons(), each.labels(0.5), each.sam_points()


def test_polygons_of_a_ring_and_of_a_diagonal() -> None:
    def of(mask: NDArray[Any]) -> list[list[list[int]]]:
        height, width = mask.shape
        geometry = fit((height, width), (height, width), 1)
        result = Result(
            picture=Image.new("RGB", (width, height)), texts=("a",), similarity=mask[None].astype(np.float32), geometry=geometry,
            order="none",
        )  # fmt: skip
        assert (result.masks(1.0)[0] == mask).all()
        return [each.tolist() for each in result.polygons(1.0)[0]]

    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    assert of(ring) == [[[0, 0], [3, 0], [3, 3], [0, 3]], [[1, 1], [1, 2], [2, 2], [2, 1]]]
    squares = [[[0, 0], [1, 0], [1, 1], [0, 1]], [[1, 1], [2, 1], [2, 2], [1, 2]]]
    assert of(np.eye(2, dtype=bool)) == squares
    assert of(np.eye(2, dtype=bool)[::-1]) == [[[1, 0], [2, 0], [2, 1], [1, 1]], [[0, 1], [1, 1], [1, 2], [0, 2]]]
    assert of(np.zeros((2, 2), bool)) == []


def test_labels_of_many_texts_take_no_maps() -> None:
    import tracemalloc

    from fastloc.imaging.readouts.labels import labels

    geometry = fit((400, 500), 96, 16)
    values = np.random.default_rng(0).standard_normal((60, 6, 6)).astype(np.float32)
    labels(values, geometry)
    tracemalloc.start()
    labels(values, geometry)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # the labels themselves, and blocks of the maps: far from 60 maps
    assert peak < 10 * 400 * 500 * 4, peak
