"""Points and boxes: the peaks of a text's heatmap, and the warm regions around them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastloc.imaging.regions import Regions, regions

__all__ = ["Box", "Point", "boxes_of", "kept"]


@dataclass(frozen=True, slots=True)
class Point:
    """The peak of a text's heatmap: the pixel (column x, row y), the heatmap's value there and the similarity it was made from."""

    text: str
    x: int
    y: int
    value: float
    similarity: float


@dataclass(frozen=True, slots=True)
class Box:
    """One connected warm region: columns x0 to x1 and rows y0 to y1, x1 and y1 just outside it, and the heatmap's highest value in it."""

    text: str
    x0: int
    y0: int
    x1: int
    y1: int
    value: float


def boxes_of(peak: Point, mask: NDArray[np.bool_], heat: NDArray[np.float32], least: float) -> list[Box]:
    """The boxes of one text, the one at its peak first: regions of a mask [H, W] that hold the peak, or at least `least` pixels."""
    if not mask[peak.y, peak.x]:
        return []
    # what is looked at costs by the pixel, and most of a picture is cold
    top, left, part = _warm(mask)
    found = regions(part, heat[top : top + part.shape[0], left : left + part.shape[1]])
    hottest = found.at(peak.x - left, peak.y - top)
    made = []
    for index in kept(found, hottest, least):
        x0, y0, x1, y1 = found.boxes[index].tolist()
        made.append(Box(peak.text, x0 + left, y0 + top, x1 + left, y1 + top, float(found.value[index])))
    return made


def kept(found: Regions, hottest: int, least: float) -> list[int]:
    """The regions that are boxes, in their order: the one that holds the peak first, then by value and area, of at least `least` pixels."""
    areas, values = found.area.tolist(), found.value.tolist()
    large = [index for index, area in enumerate(areas) if index == hottest or area >= least]
    return sorted(large, key=lambda index: (index == hottest, values[index], areas[index]), reverse=True)


def _warm(mask: NDArray[np.bool_]) -> tuple[int, int, NDArray[np.bool_]]:
    """The smallest part of a mask that holds all its True pixels, and its top and left; at least one pixel must be True."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(rows[0]), int(columns[0]), mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
