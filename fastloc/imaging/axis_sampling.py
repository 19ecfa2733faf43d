"""Bilinear sampling of the patch grid along one axis of a picture: two neighbouring cells and a weight for each pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Axis", "bilinear", "sample"]


# two axes are never compared by value: arrays have no single truth
@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """Bilinear sampling along one axis of n pixels: `(1 - weight) * values[lower] + weight * values[upper]`.

    Attributes:
        cells: the number of the grid's cells along this axis
        lower: int32 [n], the cell whose centre lies at or before the pixel's; never decreasing
        weight: float64 [n] in [0, 1), of the cell after it
        inside: the pixels that the model saw; outside them a map is 0, whatever lower and weight say
        seen: the cells that hold any of the picture; no other has weight
    """

    cells: int
    lower: NDArray[np.int32]
    weight: NDArray[np.float64]
    inside: slice
    seen: slice

    @property
    def upper(self) -> NDArray[np.int32]:
        """int32 [n], the cell after `lower`; the last cell is its own neighbour, with weight 0."""
        upper: NDArray[np.int32] = np.minimum(self.lower + 1, self.cells - 1)
        return upper

    @property
    def extremes(self) -> NDArray[np.int32]:
        """int32 [at most 2 * cells], the inside pixels that are the first or the last with their `lower`.

        Pixels that share a cell on both axes lie on one bilinear patch, which takes its least and its greatest value over any lattice at
        the lattice's corners. So a map's minimum and maximum over all inside pixels are those over extremes (rows) x extremes (columns),
        for every size, fit and ratio: about 4 h w of the H W pixels.
        """
        cell = self.lower[self.inside]
        steps = np.flatnonzero(np.diff(cell)) + 1
        ends = np.concatenate(([0], steps, steps - 1, [len(cell) - 1]))
        extremes: NDArray[np.int32] = (self.inside.start + np.unique(ends)).astype(np.int32)
        return extremes

    def bands(self, most: int) -> NDArray[np.int32]:
        """int32 [S + 1]: where runs of at most `most` pixels of one `lower` begin, from 0 on, and the count of pixels at the end."""
        steps = np.flatnonzero(np.diff(self.lower)) + 1
        runs = zip([0, *steps], [*steps, len(self.lower)], strict=True)
        return np.array([*(start for first, stop in runs for start in range(first, stop, most)), len(self.lower)], np.int32)

    def matrix(self) -> NDArray[np.float64]:
        """float64 [n, cells]: the same sampling as a matrix; rows outside are 0."""
        matrix = np.zeros((len(self.lower), self.cells))
        pixels = np.arange(len(self.lower))[self.inside]
        matrix[pixels, self.lower[pixels]] = 1 - self.weight[pixels]
        # += because the last cell is its own neighbour
        matrix[pixels, self.upper[pixels]] += self.weight[pixels]
        return matrix


def sample(at: NDArray[np.float64], cells: int, inside: slice, seen: slice) -> Axis:
    """The sampling of pixels whose centres lie at float64 [n], never decreasing, where cell i's centre is at i; edges are replicated."""
    clamped = np.clip(at, seen.start, seen.stop - 1)
    lower = np.floor(clamped)
    return Axis(cells, lower.astype(np.int32), clamped - lower, inside, seen)


def bilinear(cells: int, pixels: int) -> NDArray[np.float64]:
    """float64 [pixels, cells]: the matrix of `interpolate(mode="bilinear", align_corners=False)` along one axis."""
    at = (np.arange(pixels, dtype=np.float64) + 0.5) * (cells / pixels) - 0.5
    return sample(at, cells, slice(0, pixels), slice(0, cells)).matrix()
