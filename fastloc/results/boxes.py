"""Points and boxes: the peaks of a text's heatmap, and the warm regions around them."""

from __future__ import annotations

from dataclasses import dataclass

from fastloc.imaging.readouts.regions import Regions, of_runs
from fastloc.imaging.readouts.runs import Runs

__all__ = ["Box", "Point", "boxes_of"]


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


def boxes_of(peak: Point, runs: Runs, least: float) -> list[Box]:
    """The boxes of one text, the one at its peak first: regions of its runs that hold the peak, or at least `least` pixels."""
    if not len(runs.line):
        return []
    found, made = of_runs(runs), []
    for index in _kept(found, found.at(peak.x, peak.y), least):
        x0, y0, x1, y1 = found.boxes[index].tolist()
        made.append(Box(peak.text, x0, y0, x1, y1, float(found.value[index])))
    return made


def _kept(found: Regions, hottest: int, least: float) -> list[int]:
    """The regions that are boxes, in their order: the one that holds the peak first, then by value and area, of at least `least` pixels."""
    areas, values = found.area.tolist(), found.value.tolist()
    large = [index for index, area in enumerate(areas) if index == hottest or area >= least]
    return sorted(large, key=lambda index: (index == hottest, values[index], areas[index]), reverse=True)
