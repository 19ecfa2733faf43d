"""Read-outs stated at full size, a line or two each: what the package reads off the grid must be these, pixel by pixel."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fastloc.imaging import heatmaps
from fastloc.imaging.geometry import Geometry
from fastloc.results.result import Box, Result

__all__ = ["boxes", "cooled", "labels", "masks", "peaks"]


def labels(values: NDArray[Any], geometry: Geometry, threshold: float | None = None, order: str = "none") -> NDArray[np.int32]:
    """The argmax of the maps; -1 where a crop hid the picture, and where the best value is below the threshold."""
    upsampled, inside = heatmaps.upsample(values, geometry, order), geometry.covered()
    chosen = np.full(geometry.picture, heatmaps.BACKGROUND, np.int32)
    chosen[inside] = upsampled.argmax(0)[inside]
    if threshold is not None:
        chosen[upsampled.max(0) < threshold] = heatmaps.BACKGROUND
    return chosen


def cooled(result: Result, threshold: float) -> NDArray[np.int32]:
    """`Result.labels(threshold)`: -1 also where the chosen text's heat is below it."""
    chosen = labels(-result.similarity if result.reverse else result.similarity, result.geometry, None, result.order)
    heat = np.take_along_axis(result.heatmaps, np.maximum(chosen, 0)[None], axis=0)[0]
    return np.where(heat < threshold, np.int32(heatmaps.BACKGROUND), chosen)


def peaks(result: Result) -> list[tuple[int, int, float]]:
    """(x, y, heat) of each map's greatest heat where the model looked."""
    rows, columns = result.geometry.covered()
    found = []
    for heat in result.heatmaps[:, rows, columns]:
        y, x = heatmaps.peak(heat)
        found.append((x + columns.start, y + rows.start, float(heat.max())))
    return found


def masks(result: Result, threshold: float) -> NDArray[np.bool_]:
    """Pixels at which the maps reach the threshold and the model looked."""
    inside = (slice(None), *result.geometry.covered())
    made = np.zeros(result.heatmaps.shape, np.bool_)
    made[inside] = result.heatmaps[inside] >= threshold
    return made


def boxes(result: Result, threshold: float, least: float | None = None) -> list[Box]:
    """Boxes of scipy's regions of the masks."""
    found = []
    least = math.prod(result.geometry.picture) / 1000 if least is None else least
    for text, (x, y, _), mask, heat in zip(result.texts, peaks(result), masks(result, threshold), result.heatmaps, strict=True):
        if not mask[y, x]:
            continue
        regions, _ = ndimage.label(mask, structure=np.ones((3, 3)))
        rows = []
        for number, (down, along) in enumerate(ndimage.find_objects(regions), start=1):
            region = regions == number
            hottest, area = bool(region[y, x]), int(region.sum())
            if hottest or area >= least:
                box = Box(text, along.start, down.start, along.stop, down.stop, float(heat[region].max()))
                rows.append((hottest, box.value, area, box))
        found += [row[-1] for row in sorted(rows, key=lambda row: row[:3], reverse=True)]
    return found
