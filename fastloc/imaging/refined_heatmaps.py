"""What a Result shows when its maps are refined: refinement comes after the upsampling and before what an order does per picture.

So it is NACLIP's place for it, before the softmax over the texts. Refinement commutes with scaling a map, hence "grid", which min-maxes
before the upsampling, is read off the same refined similarity, and labels are its largest text in every order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloc.imaging import heatmaps as maps
from fastloc.imaging.geometry import Geometry
from fastloc.imaging.pamr import Refinement, refine
from fastloc.utils.distinct import distinct_rows

__all__ = ["heatmaps", "labels", "similarity_maps"]

Floats = NDArray[Any]


def similarity_maps(similarity: Floats, geometry: Geometry, picture: NDArray[np.uint8], how: Refinement, order: str = "none") -> Floats:
    """Similarity [T, h, w] upsampled as the order has it, and refined by the picture, uint8 [H, W, 3]: [T, H, W], 0 where a crop hid the
    picture.

    What a crop hid takes no part: the border of what the model saw is the border.
    """
    raw = maps.upsample(similarity, geometry, order)
    rows, columns = geometry.covered()
    raw[:, rows, columns] = refine(np.ascontiguousarray(raw[:, rows, columns]), picture[rows, columns], how)
    return raw


def heatmaps(
    raw: Floats, similarity: Floats, geometry: Geometry, order: str, logit_scale: float | None, reverse: bool, limits: Floats | None = None
) -> Floats:
    """Heatmaps [T, H, W] of refined similarity maps, read out as `maps.heatmaps` does; a softmax stands behind the refinement in every
    order that has one."""
    if order in maps.COMPETING and (copies := distinct_rows(similarity)):
        return heatmaps(raw[copies.first], similarity[copies.first], geometry, order, logit_scale, reverse, limits)[copies.index]
    shown = np.zeros_like(raw)
    inside = (slice(None), *geometry.covered())
    low, slope = _on_the_grid(similarity, geometry)
    if limits is not None:
        shown[inside] = maps.between(raw[inside], limits)
    elif order in maps.COMPETING and len(raw) > 1 and logit_scale is not None:
        shown[inside] = maps.softmax(raw[inside], logit_scale)
    elif order == "picture" or order in maps.COMPETING:
        # weights sum to 1 but for rounding, which a map without contrast must not be made of
        shown[inside] = maps.minmax(raw[inside]) * (slope > 0)
    elif order == "grid":
        shown[inside] = np.clip((raw[inside] - low) * slope, 0, 1)
    else:
        shown[inside] = raw[inside]
    if reverse:
        shown[inside] = 1 - shown[inside]
    return shown


def labels(raw: Floats, geometry: Geometry, reverse: bool) -> NDArray[np.int32]:
    """The most similar text of every pixel, int32 [H, W], of refined similarity maps; -1 where a crop hid the picture."""
    chosen = np.full(raw.shape[1:], maps.BACKGROUND, np.int32)
    rows, columns = geometry.covered()
    seen = raw[:, rows, columns]
    chosen[rows, columns] = (seen.argmin(0) if reverse else seen.argmax(0)).astype(np.int32)
    return chosen


def _on_the_grid(similarity: Floats, geometry: Geometry) -> tuple[Floats, Floats]:
    """The least similarity of the cells that hold some of the picture, and 1 / their range, or 0 where there is no contrast: [T, 1, 1]."""
    seen = similarity[(slice(None), *geometry.seen((similarity.shape[1], similarity.shape[2])))]
    span = np.ptp(seen, axis=(1, 2), keepdims=True)
    contrast = np.ptp(maps.minmax(seen), axis=(1, 2), keepdims=True)
    return seen.min((1, 2), keepdims=True), contrast / np.maximum(span, np.finfo(seen.dtype).tiny)
