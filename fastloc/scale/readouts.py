"""Rows of one picture's Result."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloc.results.result import Result

__all__ = ["rle", "rows_of"]


def rows_of(result: Result, key: str, threshold: float, score: float | None, *, masks: bool, grids: bool) -> list[dict[str, Any]]:
    """A row for each text, see `fastloc.scale.rows`: peak, boxes and mask are those of the Result.

    A text whose score lies below `score` has no boxes, and None as its mask. Raises FastlocError for a score where there are none.
    """
    found = result.to_dict(threshold, score=score)
    pixels = result.masks(threshold) if masks else None
    size = result.similarity.shape[1:] if grids else (None, None)
    rows = []
    for index, text in enumerate(found["texts"]):
        absent = score is not None and text["score"] < score
        peak = text["peak"]
        rows.append({
            "key": key, **found["picture"], "text_index": index, "text": result.texts[index], "peak_x": peak["x"], "peak_y": peak["y"],
            "value": peak["value"], "similarity": peak["similarity"], "score": text["score"], "boxes": text["boxes"],
            "mask": None if pixels is None or absent else rle(pixels[index]),
            "grid": result.similarity[index].astype(np.float16).ravel() if grids else None, "grid_height": size[0], "grid_width": size[1],
        })  # fmt: skip
    return rows


def rle(mask: NDArray[np.bool_]) -> str:
    """The `counts` of a mask [H, W] in COCO's compressed form."""
    from pycocotools import mask as coco

    counts: bytes = coco.encode(np.asfortranarray(mask.view(np.uint8)))["counts"]
    return counts.decode("ascii")
