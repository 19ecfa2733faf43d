"""Rows of a batch hold what the Result says, and masks as pycocotools encodes them."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from fastloc.errors import FastlocError
from fastloc.imaging.geometry import fit
from fastloc.results.result import Result
from fastloc.scale.readouts import rows_of


def result_of(order: str = "picture", texts: int = 1) -> Result:
    noise = np.random.default_rng(0)
    geometry = fit((150, 210), 112, 16)
    names = tuple(f"text {index}" for index in range(texts))
    return Result(
        picture=Image.new("RGB", (210, 150)), texts=names, similarity=noise.standard_normal((texts, 7, 7), np.float32), geometry=geometry,
        order=order, logit_scale=100.0, scores=np.linspace(0.2, 0.8, texts).astype(np.float32),
    )  # fmt: skip


@pytest.mark.parametrize(("order", "texts"), [("picture", 3), ("softmax", 2), ("grid", 1), ("none", 1)])
def test_rows_are_those_of_the_result(order: str, texts: int) -> None:
    result = result_of(order, texts)
    rows = rows_of(result, "key", 0.5, None, masks=True, grids=True)
    for row, text, mask in zip(rows, result.to_dict(0.5)["texts"], result.masks(0.5), strict=True):
        assert (row["peak_x"], row["peak_y"], row["value"]) == (text["peak"]["x"], text["peak"]["y"], text["peak"]["value"])
        assert row["boxes"] == text["boxes"]
        assert row["mask"].encode() == coco.encode(np.asfortranarray(mask.view(np.uint8)))["counts"]
        assert len(row["grid"]) == row["grid_height"] * row["grid_width"]


def test_a_text_whose_score_is_below_has_no_boxes_and_no_mask() -> None:
    low, high = rows_of(result_of(texts=2), "key", 0.5, 0.5, masks=True, grids=False)
    assert (low["boxes"], low["mask"], low["grid"]) == ([], None, None)
    assert high["boxes"] and high["mask"]


def test_a_flat_map_says_nothing_and_a_score_needs_scores() -> None:
    result = result_of()
    result.similarity[:] = 0.25
    (row,) = rows_of(result, "key", 0.5, None, masks=True, grids=False)
    nothing = coco.encode(np.zeros(result.geometry.picture, np.uint8, "F"))["counts"].decode()
    assert (row["value"], row["boxes"], row["mask"]) == (0.0, [], nothing)
    with pytest.raises(FastlocError, match=r"score must be left out where there are no scores, got 0\.5"):
        rows_of(replace(result, scores=None), "key", 0.5, 0.5, masks=True, grids=False)
