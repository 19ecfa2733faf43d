"""Peaks, runs and masks of heatmaps, as their pixels have them: down columns where each text has a map of its own, else strip by strip."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloc.imaging.geometry import Geometry
from fastloc.imaging.heatmaps import BACKGROUND, Heat
from fastloc.imaging.readouts.columns import Columns
from fastloc.imaging.readouts.runs import Runs
from fastloc.imaging.readouts.strips import Strips
from fastloc.imaging.readouts.turning import Turning, turning_of

__all__ = ["Reader"]

# rows of cells times columns of pixels of all texts: about 12 bytes each
KEPT = 1 << 22


class Reader:
    """The heatmaps of T texts, or of those that differ: `index` is the place of each text among the maps."""

    def __init__(self, strips: Strips, index: tuple[int, ...], alone: Heat | None = None) -> None:
        self._strips, self.index, self._alone = strips, index, alone
        self._kept: list[Columns] | None = None
        self._last: tuple[float, list[Runs]] | None = None

    @classmethod
    def of_heat(cls, heat: Heat) -> Reader:
        """Of heatmaps that are not made."""
        index = tuple(range(len(heat.maps.values))) if heat.index is None else heat.index
        return cls(Strips(heat, heat.geometry), index, heat if heat.logit_scale is None else None)

    @classmethod
    def of_maps(cls, maps: NDArray[Any], geometry: Geometry) -> Reader:
        """Of heatmaps [T, H, W]."""
        return cls(Strips(maps, geometry), tuple(range(len(maps))))

    def peaks(self) -> list[tuple[int, int, float]]:
        """Of each text the (row, column) of its greatest heat, of several the one nearest to their centre; and that heat."""
        found = self._strips.peaks() if self._alone is None else [each.peak() for each in self._columns(self._alone)]
        return [found[place] for place in self.index]

    def runs(self, threshold: float) -> list[Runs]:
        """Of each map the runs of pixels whose heat reaches the threshold; the last ones that were asked for are kept."""
        if self._last is None or self._last[0] != threshold:
            alone = self._alone
            found = self._strips.runs(threshold) if alone is None else [each.runs(threshold) for each in self._columns(alone)]
            self._last = threshold, found
        return self._last[1]

    def _columns(self, heat: Heat) -> Iterable[Columns]:
        """The maps down their columns: kept where they take little, one by one otherwise."""
        if self._kept is None and len(heat.maps.values) * heat.maps.values.shape[1] * self._strips.geometry.picture[1] <= KEPT:
            self._kept = list(Columns.each(heat))
        return Columns.each(heat) if self._kept is None else self._kept

    def masks(self, threshold: float) -> NDArray[np.bool_]:
        """bool [T, H, W]: where heat reaches the threshold, never where the model did not look."""
        geometry = self._strips.geometry
        made = np.zeros((len(self.index), *geometry.picture), np.bool_)
        inside, turning = geometry.covered(), self.turning(threshold)
        if turning is not None:
            for texts, rows, values in turning.maps.parts(*inside):
                turning.warm(values, texts, out=made[texts, rows, inside[1]])
            return made
        for rows, heat in self._strips:
            np.greater_equal(heat[list(self.index)], threshold, out=made[:, rows, inside[1]])
        return made

    def turning(self, threshold: float) -> Turning | None:
        """Values of maps at which the heat of each text reaches the threshold; None where texts compete, and of maps that are made."""
        return None if self._alone is None else turning_of(self._alone, threshold)[list(self.index)]

    def cool(self, labels: NDArray[np.int32], threshold: float) -> None:
        """Set labels [H, W] of texts to `BACKGROUND` where the heat of the pixel's text is below the threshold."""
        columns = self._strips.geometry.covered()[1]
        for rows, heat in self._strips:
            chosen = labels[rows, columns]
            own = np.take_along_axis(heat, np.asarray(self.index)[chosen][None], 0)[0]
            chosen[own < threshold] = BACKGROUND
