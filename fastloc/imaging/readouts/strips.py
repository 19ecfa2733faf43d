"""Peaks and runs of heatmaps that are made, or lie there, strip by strip: where texts compete, and of refined maps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloc.imaging.geometry import Geometry
from fastloc.imaging.heatmaps import Heat
from fastloc.imaging.readouts.runs import Runs
from fastloc.imaging.readouts.shares import peaks

__all__ = ["Strips"]

Floats = NDArray[Any]
# rows of the picture, and the heat [T, n, w] there of the columns that the model saw
Strip = tuple[slice, Floats]
# pixels of a strip of all texts
PIXELS = 1 << 20
# and of all strips, where they are kept instead of made anew
WHOLE = 1 << 24


class Strips:
    """Heatmaps that are not made yet, a `Heat`, or are, [T, H, W]; read from top to bottom as often as is asked."""

    def __init__(self, heat: Heat | Floats, geometry: Geometry) -> None:
        self.geometry, self._heat = geometry, heat
        self._count = len(heat.maps.values if isinstance(heat, Heat) else heat)

    def __iter__(self) -> Iterator[Strip]:
        rows, columns = self.geometry.covered()
        wide, whole = columns.stop - columns.start, self._whole
        high = max(PIXELS // (self._count * wide), 1)
        across = self._heat.maps.across(slice(None), columns) if isinstance(self._heat, Heat) and whole is None else None
        for top in range(rows.start, rows.stop, high):
            strip = slice(top, min(top + high, rows.stop))
            if whole is not None:
                yield strip, whole[:, strip.start - rows.start : strip.stop - rows.start]
            elif isinstance(self._heat, Heat):
                yield strip, self._heat.inside(strip, columns, across)

    @cached_property
    def _whole(self) -> Floats | None:
        """The heat of all that the model saw, where it is made or takes little."""
        rows, columns = self.geometry.covered()
        if not isinstance(self._heat, Heat):
            return self._heat[:, rows, columns]
        little = self._count * (rows.stop - rows.start) * (columns.stop - columns.start) <= WHOLE
        return self._heat.inside(rows, columns) if little else None

    def peaks(self) -> list[tuple[int, int, float]]:
        """Of each text the (row, column) of its greatest heat, of several the one nearest to their centre; and that heat."""
        if isinstance(self._heat, Heat) and (found := peaks(self._heat)) is not None:
            return found
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


def _joined(parts: list[Runs]) -> Runs:
    """The runs of several strips, from top to bottom."""
    line, start, end, largest = (np.concatenate([getattr(each, name) for each in parts]) for name in ("line", "start", "end", "largest"))
    return Runs(parts[0].size, False, line, start, end, largest)
