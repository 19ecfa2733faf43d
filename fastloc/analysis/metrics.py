"""Measures of the agreement of a map or an attention row with an object's mask. Pure numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloc.imaging import heatmaps
from fastloc.imaging.geometry import Geometry, Pair

__all__ = ["auc", "central", "contrast", "coverage", "lift"]

Floats = NDArray[Any]


def coverage(mask: NDArray[np.bool_], geometry: Geometry, grid: Pair) -> NDArray[np.float64]:
    """The share of each patch that the mask [H, W] covers, float64 [h, w]; NaN for a patch that holds no pixel of the picture."""
    rows, columns = (_cells(geometry, axis, grid[axis]) for axis in (0, 1))
    index = np.where((rows >= 0)[:, None] & (columns >= 0), rows[:, None] * grid[1] + columns, grid[0] * grid[1])
    size = grid[0] * grid[1] + 1
    seen = np.bincount(index.ravel(), minlength=size)[:-1]
    inside = np.bincount(index.ravel(), mask.ravel(), minlength=size)[:-1]
    with np.errstate(invalid="ignore"):
        share: NDArray[np.float64] = (inside / seen).reshape(grid)
    return share


def _cells(geometry: Geometry, axis: int, cells: int) -> NDArray[np.int64]:
    """The patch that each pixel's centre lies in along one axis, -1 outside the input."""
    centres = (np.arange(geometry.picture[axis]) + 0.5) * geometry.scale[axis] - geometry.corner[axis]
    at = np.floor(centres * cells / geometry.input[axis]).astype(np.int64)
    return np.where((at >= 0) & (at < cells), at, -1)


def lift(rows: Floats, covered: Floats) -> Floats:
    """Attention on the object over the object's share of the area; an even spread has 1.

    rows [..., h, w] and coverage [h, w] have the same grid; patches without any picture are left out. NaN where the object covers nothing.
    """
    seen = ~np.isnan(covered)
    weights = rows[..., seen]
    with np.errstate(invalid="ignore", divide="ignore"):
        share: Floats = (weights * covered[seen]).sum(-1) / weights.sum(-1) / covered[seen].mean()
    return share


def auc(rows: Floats, covered: Floats) -> Floats:
    """The probability that a point on the object has a higher value than one off it, ties counted half.

    Arguments as for `lift`. A partly covered patch counts by its covered part. NaN where everything or nothing is covered.
    """
    seen = ~np.isnan(covered)
    inside = covered[seen]
    flat = rows[..., seen]
    found = [_auc(values, inside) for values in flat.reshape(-1, flat.shape[-1])]
    return np.array(found).reshape(flat.shape[:-1])


def _auc(values: Floats, inside: Floats) -> float:
    _, place = np.unique(values, return_inverse=True)
    on, beside = np.bincount(place, inside), np.bincount(place, 1 - inside)
    if not (on.sum() > 0 and beside.sum() > 0):
        return float("nan")
    below = np.cumsum(beside) - beside / 2
    return float((on * below).sum() / (on.sum() * beside.sum()))


def contrast(similarity: Floats, geometry: Geometry, mask: NDArray[np.bool_], reverse: bool = False) -> tuple[float, float]:
    """The means of the min-maxed map inside and outside the mask [H, W], within the model's view.

    Their difference is the score of opposite visualisation: negative where the map marks everything but the object. The map is similarity
    [h, w] upsampled, then min-maxed, for every method, whatever its own order; reversed it is 1 - map. NaN where the mask covers all or
    nothing of the view.
    """
    heat = heatmaps.upsample(similarity[None].astype(np.float64), geometry)[0]
    rows, columns = geometry.covered()
    heat, mask = heatmaps.minmax(heat[rows, columns]), mask[rows, columns]
    heat = 1 - heat if reverse else heat
    if mask.all() or not mask.any():
        return float("nan"), float("nan")
    return float(heat[mask].mean()), float(heat[~mask].mean())


def central(covered: Floats) -> int:
    """The index of the patch deepest in the object: among the most covered patches, the one nearest to the object's middle."""
    share = np.nan_to_num(covered)
    y, x = np.mgrid[: share.shape[0], : share.shape[1]]
    total = max(share.sum(), 1e-12)
    away = (y - (share * y).sum() / total) ** 2 + (x - (share * x).sum() / total) ** 2
    best = share >= share.max() - 1e-9
    return int(np.where(best, away, np.inf).argmin())
