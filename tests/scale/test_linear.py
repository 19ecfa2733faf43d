"""Read-outs without maps are those of Result, for every fit, at every threshold, up to pixels that lie at the threshold itself."""

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from fastloc.errors import FastlocError
from fastloc.imaging.geometry import fit
from fastloc.results.result import Result
from fastloc.scale.linear import LinearMap, is_linear
from fastloc.scale.readouts import rle, rows_of


def result_of(seed: int, fitting: str, *, reverse: bool = False, order: str = "picture", texts: int = 1) -> Result:
    noise = np.random.default_rng(seed)
    height, width = (int(side) for side in noise.integers(60, 300, 2))
    geometry = fit((height, width), 112 if fitting == "aspect" else (112, 112), 16, fitting)
    grid = noise.standard_normal((texts, *(side // 16 for side in geometry.input)), np.float32)
    names = tuple(f"text {index}" for index in range(texts))
    return Result(
        picture=Image.new("RGB", (width, height)), texts=names, similarity=grid, geometry=geometry, order=order, reverse=reverse,
        logit_scale=100.0,
    )  # fmt: skip


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("fitting", ["stretch", "aspect", "crop", "letterbox"])
def test_peaks_boxes_and_masks_are_those_of_the_result(fitting: str, threshold: float) -> None:
    for seed in range(4):
        result = result_of(seed, fitting, reverse=seed == 3)
        heat, peak = LinearMap.of(result, 0), result.points()[0]
        assert heat.peak == (peak.x, peak.y)
        runs = heat.runs(threshold)
        height, width = result.geometry.picture
        mask = coco.decode({"size": [height, width], "counts": heat.rle(runs).encode()}).astype(bool)
        # of a thousand pixels at most one, which lies at the threshold up to rounding
        wrong = mask != result.masks(threshold)[0]
        assert wrong.mean() < 1e-3
        assert abs(result.heatmaps[0][wrong] - threshold).max(initial=0) < 1e-5
        if wrong.any():
            continue
        assert heat.rle(runs) == rle(mask)
        assert [tuple(box.values())[:4] for box in heat.boxes(runs)] == [(b.x0, b.y0, b.x1, b.y1) for b in result.boxes(threshold)]
        (row,) = rows_of(result, "key", threshold, None, masks=False, grids=False)
        assert row["similarity"] == pytest.approx(peak.similarity, abs=1e-5)


def test_a_threshold_that_nothing_or_everything_reaches() -> None:
    result = result_of(0, "stretch")
    heat = LinearMap.of(result, 0)
    height, width = result.geometry.picture
    assert heat.boxes(heat.runs(1.5)) == []
    assert heat.rle(heat.runs(1.5)) == rle(np.zeros((height, width), bool))
    assert heat.rle(heat.runs(-1.0)) == rle(np.ones((height, width), bool))
    assert [(box["x0"], box["y0"], box["x1"], box["y1"]) for box in heat.boxes(heat.runs(0.0))] == [(0, 0, width, height)]


@pytest.mark.parametrize(("order", "texts"), [("softmax", 2), ("grid", 1), ("none", 1)])
def test_other_orders_are_read_off_the_maps(order: str, texts: int) -> None:
    result = result_of(0, "stretch", order=order, texts=texts)
    assert not is_linear(result)
    rows = rows_of(result, "key", 0.5, None, masks=True, grids=True)
    for row, entry, mask in zip(rows, result.to_dict(0.5)["texts"], result.masks(0.5), strict=True):
        assert (row["peak_x"], row["peak_y"], row["value"]) == (entry["peak"]["x"], entry["peak"]["y"], entry["peak"]["value"])
        assert row["boxes"] == entry["boxes"]
        assert row["mask"] == rle(mask)
        assert len(row["grid"]) == row["grid_height"] * row["grid_width"]


def test_a_flat_map_says_nothing_and_a_score_needs_scores() -> None:
    result = result_of(0, "stretch")
    result.similarity[:] = 0.25
    (row,) = rows_of(result, "key", 0.5, None, masks=True, grids=False)
    assert (row["value"], row["boxes"], row["mask"]) == (0.0, [], rle(np.zeros(result.geometry.picture, bool)))
    with pytest.raises(FastlocError, match=r"score must be left out where there are no scores, got 0\.5"):
        rows_of(result, "key", 0.5, 0.5, masks=True, grids=False)
