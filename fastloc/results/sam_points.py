"""Point prompts for SAM from similarities on the patch grid, by the rule of CLIP Surgery (clip/clip.py, similarity_map_to_points).

The official rule is for a square grid over the whole picture. Here the grid may have any sides, each is halved by itself, and the cells
are those that hold some of the picture: a letterbox's pure padding takes no part, and a crop's points lie where the model looked.
On a square grid over a stretched picture this is the official rule, number by number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastloc.errors import FastlocError
from fastloc.imaging.axis_sampling import sample
from fastloc.imaging.geometry import Geometry
from fastloc.imaging.heatmaps import minmax

__all__ = ["SamPoints", "sam_points", "together"]

Floats = NDArray[np.float64]
POSITIVE, NEGATIVE = 1, 0


# arrays have no single truth
@dataclass(frozen=True, slots=True, eq=False)
class SamPoints:
    """Point prompts of one object.

    Attributes:
        text: the text of the prompt; several texts joined by "+"
        coordinates: int64 [n, 2], pixels of the picture, (x, y)
        labels: int64 [n], 1 for a point on the object and 0 for one beside it
    """

    text: str
    coordinates: NDArray[np.int64]
    labels: NDArray[np.int64]


def sam_points(text: str, similarity: NDArray[np.float32], geometry: Geometry, threshold: float = 0.8, down_sample: int = 2) -> SamPoints:
    """The prompt of one text, similarity [h, w].

    The grid is shrunk `down_sample` times (bilinear) and min-maxed. As many cells as reach the threshold, at most half of all, are
    positive, the highest; as many, the lowest, are negative. Positives come first, each group from low to high, as in the official code.
    A map without contrast and a grid that shrinks to one cell give no points.

    Raises FastlocError for a threshold outside (0, 1] and a down_sample that is no whole number from 1 on.
    """
    cells = _Cells(similarity.shape, geometry, down_sample)
    rank, count = _ranked(cells, cells.seen(similarity), threshold)
    chosen = [*rank[len(rank) - count :], *rank[:count]]
    return _prompt(text, [cells.pixel(index) for index in chosen], [POSITIVE] * count + [NEGATIVE] * count)


def together(
    texts: tuple[str, ...], similarity: NDArray[np.float32], geometry: Geometry, threshold: float = 0.8, down_sample: int = 2
) -> SamPoints:
    """One prompt for several texts, similarity [T, h, w], as the official demo's "person+bench": negatives of the mean of the min-maxed
    maps first, then each text's own positives. Arguments and errors as for `sam_points`."""
    cells = _Cells(similarity.shape[1:], geometry, down_sample)
    maps = [cells.seen(each) for each in similarity]
    rank, count = _ranked(cells, np.mean([minmax(each) for each in maps], axis=0), threshold)
    chosen, labels = list(rank[:count]), [NEGATIVE] * count
    for each in maps:
        rank, count = _ranked(cells, each, threshold)
        chosen += list(rank[len(rank) - count :])
        labels += [POSITIVE] * count
    return _prompt("+".join(texts), [cells.pixel(index) for index in chosen], labels)


class _Cells:
    """The shrunken grid's cells over the part of the picture that the model saw."""

    def __init__(self, grid: tuple[int, ...], geometry: Geometry, down_sample: int) -> None:
        if isinstance(down_sample, bool) or not isinstance(down_sample, int) or down_sample < 1:
            raise FastlocError(f"down_sample must be a whole number from 1 on, got {down_sample!r}")
        self.geometry = geometry
        self.slices = geometry.seen((grid[0], grid[1]))
        sides = [each.stop - each.start for each in self.slices]
        self.shape = tuple(max(side // down_sample, 1) for side in sides)
        self.matrices = [_shrink(side, small) for side, small in zip(sides, self.shape, strict=True)]
        self.spans = [_span(geometry, axis, grid[axis], self.slices[axis]) for axis in (0, 1)]

    def seen(self, similarity: NDArray[np.float32]) -> Floats:
        """The cells that hold some of the picture."""
        return np.asarray(similarity, np.float64)[self.slices]

    def shrunken(self, seen: Floats) -> Floats:
        """Their bilinear reduction, as torch's interpolate without antialias."""
        rows, columns = self.matrices
        return rows @ seen @ columns.T

    def pixel(self, index: int) -> tuple[int, int]:
        """(x, y) of a cell's centre, within the picture."""
        at = divmod(int(index), self.shape[1])
        y, x = (self._place(axis, at[axis]) for axis in (0, 1))
        return x, y

    def _place(self, axis: int, cell: int) -> int:
        start, extent = self.spans[axis]
        return int(max(min(start + (cell + 0.5) * (extent / self.shape[axis]), self.geometry.picture[axis] - 1), 0))


def _shrink(side: int, small: int) -> Floats:
    centres = (np.arange(small, dtype=np.float64) + 0.5) * (side / small) - 0.5
    return sample(centres, side, slice(0, small), slice(0, side)).matrix()


def _span(geometry: Geometry, axis: int, cells: int, seen: slice) -> tuple[float, float]:
    """The start and the extent of the seen cells, in pixels of the picture."""
    picture, resized = geometry.picture[axis], geometry.resized[axis]
    # products of whole numbers first: a stretched picture spans its own size exactly, as in the official code
    start = picture * (seen.start * geometry.input[axis] + geometry.corner[axis] * cells) / (cells * resized)
    return start, picture * (seen.stop - seen.start) * geometry.input[axis] / (cells * resized)


def _ranked(cells: _Cells, seen: Floats, threshold: float) -> tuple[NDArray[np.intp], int]:
    """Cells from the lowest to the highest, and the number to take from each end."""
    if not 0 < threshold <= 1:
        raise FastlocError(f"threshold must be above 0 and at most 1, got {threshold!r}")
    scaled = minmax(cells.shrunken(seen)).ravel()
    return np.argsort(scaled, kind="stable"), min(int((scaled >= threshold).sum()), len(scaled) // 2)


def _prompt(text: str, pixels: list[tuple[int, int]], labels: list[int]) -> SamPoints:
    return SamPoints(text, np.array(pixels, np.int64).reshape(-1, 2), np.array(labels, np.int64))
