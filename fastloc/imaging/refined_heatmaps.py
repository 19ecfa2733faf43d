"""Heatmaps and labels of refined similarity maps: refinement comes after the upsampling and before the order's step per picture.

NACLIP refines in the same place, before the softmax over the texts. Refinement commutes with scaling a map, hence "grid", which min-maxes
before the upsampling, is read off the same refined similarity, and labels are its largest text in every order. Propagation takes the same
place in PEARL.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloc.errors import FastlocError, unknown
from fastloc.imaging import heatmaps as maps
from fastloc.imaging.geometry import Geometry
from fastloc.imaging.pamr import Refinement, refine
from fastloc.imaging.propagation import Propagation, propagate
from fastloc.utils.distinct import distinct_rows

__all__ = ["REFINEMENTS", "AnyRefinement", "check", "heatmaps", "labels", "refinement", "similarity_maps"]

Floats = NDArray[Any]
AnyRefinement = Refinement | Propagation

REFINEMENTS: dict[str, type[AnyRefinement]] = {each.method: each for each in (Refinement, Propagation)}


def refinement(method: str, settings: Mapping[str, Any]) -> AnyRefinement:
    """A row of `REFINEMENTS` with its settings. Raises FastlocError for another name, setting or value."""
    if not isinstance(method, str) or method not in REFINEMENTS:
        raise FastlocError(unknown("refinement", method, REFINEMENTS))
    kind = REFINEMENTS[method]
    known = [field.name for field in fields(kind)]
    for name in settings:
        if name not in known:
            raise FastlocError(unknown(f"{method} setting", name, known))
    return kind(**settings)


def check(how: AnyRefinement, texts: int, geometry: Geometry) -> None:
    """Raise FastlocError where the refinement does not fit the texts, or would take more memory than its budget."""
    if isinstance(how, Propagation):
        rows, columns = geometry.covered()
        how.check(texts, (rows.stop - rows.start, columns.stop - columns.start))


def similarity_maps(
    similarity: Floats, geometry: Geometry, picture: NDArray[np.uint8], how: AnyRefinement, order: str = "none", reverse: bool = False
) -> Floats:
    """Similarity [T, h, w] upsampled as the order has it, and refined by the picture, uint8 [H, W, 3]: [T, H, W], 0 where a crop hid
    the picture.

    Pixels that a crop hid are left out: the border is that of the covered part. reverse: the least similar text is the surest one.
    """
    # texts compete in a propagation: one that is asked twice does once
    if isinstance(how, Propagation) and (copies := distinct_rows(similarity)):
        once = how if how.affinity is None else replace(how, affinity=tuple(how.affinity[i] for i in copies.first))
        return similarity_maps(similarity[copies.first], geometry, picture, once, order, reverse)[copies.index]
    raw = maps.upsample(similarity, geometry, order)
    rows, columns = geometry.covered()
    seen, shown = np.ascontiguousarray(raw[:, rows, columns]), picture[rows, columns]
    if isinstance(how, Refinement):
        raw[:, rows, columns] = refine(seen, shown, how)
    else:
        raw[:, rows, columns] = -propagate(-seen, shown, how) if reverse else propagate(seen, shown, how)
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
        # a constant map is refined to a constant but for rounding, which a map without contrast must not be made of
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
