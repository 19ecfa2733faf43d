"""Rows of one picture's Result: peak, boxes and mask of each text."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastloc.errors import FastlocError
from fastloc.results.result import Result

__all__ = ["rows_of"]


def rows_of(result: Result, key: str, threshold: float, score: float | None, *, masks: bool, grids: bool) -> list[dict[str, Any]]:
    """A row for each text, see `fastloc.scale.rows`.

    A text whose score lies below `score` has no boxes, and None as its mask. Raises FastlocError for a score where there are none.
    """
    if score is not None and result.scores is None:
        raise FastlocError(f"score must be left out where there are no scores, got {score:g}: {result.no_scores or 'the method gave none'}")
    height, width = result.geometry.picture
    texts = result.to_dict(threshold)["texts"]
    run_lengths = [each["counts"] for each in result.rle(threshold)] if masks else [None] * len(texts)
    rows = []
    for index, (text, mask) in enumerate(zip(texts, run_lengths, strict=True)):
        peak, likely = text["peak"], text["score"]
        absent = score is not None and likely is not None and likely < score
        grid = result.similarity[index] if grids else None
        rows.append({
            "key": key, "width": width, "height": height, "text_index": index, "text": text["text"],
            "peak_x": peak["x"], "peak_y": peak["y"], "value": peak["value"], "similarity": peak["similarity"], "score": likely,
            "boxes": [] if absent else text["boxes"], "mask": None if absent else mask,
            "grid": None if grid is None else grid.astype(np.float16).ravel(),
            **dict(zip(("grid_height", "grid_width"), (None, None) if grid is None else grid.shape, strict=True)),
        })  # fmt: skip
    return rows
