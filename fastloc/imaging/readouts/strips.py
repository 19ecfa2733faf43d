"""Peaks and runs of heatmaps that are made, or lie there, strip by strip: where texts compete, and of refined maps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloc.imaging.geometry import Geometry
from fastloc.imaging.heatmaps import Heat
from fastloc.imaging.readouts.runs import Runs

__all__ = ["Strips", "of_heat", "of_maps"]

Floats = NDArray[Any]
# rows of the picture, and the heat [T, n, w] there of the columns that the model saw
Strip = tuple[slice, Floats]
# pixels of a strip of all texts
PIXELS = 1 << 20


class Strips:
    """Heatmaps of T texts, read from top to bottom as often as is asked."""

    def __init__(self, count: int, geometry: Geometry, strips: Callable[[], Iterable[Strip]]) -> None:
        self._count, self.geometry, self._strips = count, geometry, strips

    def __iter__(self) -> Iterator[Strip]:
        return iter(self._strips())

    def peaks(self) -> list[tuple[int, int, float]]:
        """Of each text the (row, column) of its greatest heat, of several the one nearest to their centre; and that heat."""
        best = np.full(self._count, -np.inf)
        ties: list[list[Runs]] = [[] for _ in best]
        for rows, heat in self:
            greatest = heat.max((1, 2))
            for text in np.flatnonzero(greatest >= best).tolist():
                if greatest[text] > best[text]:
                    best[text], ties[text] = greatest[text], []
                ties[text].append(self._placed(Runs.of(heat[text] == best[text], heat[text]), rows))
        rows, columns = self.geometry.covered()
        return [(*_joined(each).middle((rows.start, columns.start)), float(value)) for each, value in zip(ties, best, strict=True)]

    def runs(self, threshold: float) -> list[Runs]:
        """Of each text the runs of rows that reach the threshold."""
        found: list[list[Runs]] = [[] for _ in range(self._count)]
        for rows, heat in self:
            for text, each in enumerate(heat):
                found[text].append(self._placed(Runs.of(each >= threshold, each), rows))
        return [_joined(each) for each in found]

    def _placed(self, runs: Runs, rows: slice) -> Runs:
        left = self.geometry.covered()[1].start
        return replace(runs, size=self.geometry.picture, line=runs.line + rows.start, start=runs.start + left, end=runs.end + left)


def of_heat(heat: Heat) -> Strips:
    """The strips of heatmaps that are not made yet; repeated texts are not repeated."""
    rows, columns = heat.geometry.covered()

    def strips() -> Iterator[Strip]:
        count = len(heat.maps.values)
        high = max(PIXELS // (count * (columns.stop - columns.start)), 1)
        for top in range(rows.start, rows.stop, high):
            strip = slice(top, min(top + high, rows.stop))
            made = np.empty((count, strip.stop - top, columns.stop - columns.start), heat.maps.values.dtype)
            for texts, part, values in heat.parts(strip, columns):
                made[texts, part.start - top : part.stop - top] = values
            yield strip, made

    return Strips(len(heat.maps.values), heat.geometry, strips)


def of_maps(maps: Floats, geometry: Geometry) -> Strips:
    """The strips of heatmaps [T, H, W]."""
    rows, columns = geometry.covered()
    high = max(PIXELS // (len(maps) * maps.shape[2]), 1)

    def strips() -> Iterator[Strip]:
        for top in range(rows.start, rows.stop, high):
            strip = slice(top, min(top + high, rows.stop))
            yield strip, maps[:, strip, columns]

    return Strips(len(maps), geometry, strips)


def _joined(parts: list[Runs]) -> Runs:
    """The runs of several strips, from top to bottom."""
    line, start, end, largest = (np.concatenate([getattr(each, name) for each in parts]) for name in ("line", "start", "end", "largest"))
    return Runs(parts[0].size, False, line, start, end, largest)
