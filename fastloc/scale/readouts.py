"""Rows of one picture's Result: peak, boxes and mask of each text."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloc.errors import FastlocError
from fastloc.results.result import Result
from fastloc.scale.linear import LinearMap, is_linear

__all__ = ["rle", "rows_of"]


def rows_of(result: Result, key: str, threshold: float, score: float | None, *, masks: bool, grids: bool) -> list[dict[str, Any]]:
    """A row for each text, see `fastloc.scale.rows`.

    A text whose score lies below `score` has no boxes, and None as its mask. Raises FastlocError for a score where there are none.
    """
    if score is not None and result.scores is None:
        raise FastlocError(f"score must be left out where there are no scores, got {score:g}: {result.no_scores or 'the method gave none'}")
    height, width = result.geometry.picture
    found = (_linear if is_linear(result) else _whole)(result, threshold, masks)
    rows = []
    for index, readout in enumerate(found):
        likely = None if result.scores is None else float(result.scores[index])
        absent = score is not None and likely is not None and likely < score
        grid = result.similarity[index] if grids else None
        rows.append({
            "key": key, "width": width, "height": height, "text_index": index, "text": result.texts[index], "score": likely,
            **readout, **({"boxes": [], "mask": None} if absent else {}),
            "grid": None if grid is None else grid.astype(np.float16).ravel(),
            **dict(zip(("grid_height", "grid_width"), (None, None) if grid is None else grid.shape, strict=True)),
        })  # fmt: skip
    return rows


def _linear(result: Result, threshold: float, masks: bool) -> list[dict[str, Any]]:
    """Read off the grids, without a map."""
    found = []
    for index in range(len(result.texts)):
        heat = LinearMap.of(result, index)
        (x, y), runs = heat.peak, heat.runs(threshold)
        similarity = heat.similarity(x, y)
        found.append({
            "peak_x": x, "peak_y": y, "value": 1.0, "similarity": -similarity if result.reverse else similarity,
            "boxes": heat.boxes(runs), "mask": heat.rle(runs) if masks else None,
        })  # fmt: skip
    return found


def _whole(result: Result, threshold: float, masks: bool) -> list[dict[str, Any]]:
    """Read off the maps, as the Result does."""
    pixels = result.masks(threshold) if masks else None
    found = []
    for index, text in enumerate(result.to_dict(threshold)["texts"]):
        peak = text["peak"]
        found.append({
            "peak_x": peak["x"], "peak_y": peak["y"], "value": peak["value"], "similarity": peak["similarity"], "boxes": text["boxes"],
            "mask": None if pixels is None else rle(pixels[index]),
        })  # fmt: skip
    return found


def rle(mask: NDArray[np.bool_]) -> str:
    """The `counts` of a mask [H, W] in COCO's compressed form."""
    from pycocotools import mask as coco

    counts: bytes = coco.encode(np.asfortranarray(mask.view(np.uint8)))["counts"]
    return counts.decode("ascii")
