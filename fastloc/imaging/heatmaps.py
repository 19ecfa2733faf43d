"""Heatmaps on the picture from similarities on the patch grid. Pure numpy, float32 or float64 in and out (float16 comes out as float32)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloc.errors import FastlocError, unknown
from fastloc.imaging.geometry import Geometry
from fastloc.utils.distinct import distinct_rows

__all__ = ["BACKGROUND", "COMPETING", "ORDERS", "heatmaps", "is_flat", "labels", "minmax", "peak", "softmax", "through_input", "upsample"]

Floats = NDArray[Any]

ORDERS = {
    "grid": "min-max on the patch grid, then bilinear (CLIP Surgery)",
    "picture": "bilinear, then min-max (GEM)",
    "softmax": "bilinear, then softmax of logit_scale x similarity over the texts (SCLIP and its kin)",
    "softmax-input": "bilinear to the model's input and from there to the picture, then that softmax (NACLIP, ResCLIP, MaskCLIP)",
    "softmax-grid": "that softmax on the patch grid, then bilinear (TagCLIP)",
    "none": "bilinear only",
}
# of these, where texts compete
COMPETING = ("softmax", "softmax-input", "softmax-grid")

BACKGROUND = -1


def minmax(x: Floats, axes: tuple[int, ...] = (-2, -1), out: Floats | None = None) -> Floats:
    """x scaled to [0, 1] over the axes, into out (which may be x) where given.

    A constant map has no contrast and becomes 0; the official codes divide by zero there.
    """
    low, high = x.min(axis=axes, keepdims=True), x.max(axis=axes, keepdims=True)
    span = high - low
    flat = is_flat(low, high)
    scaled: Floats = np.subtract(x, low, out=out)
    # noise over infinity is 0
    scaled /= np.where(flat, np.inf, span).astype(x.dtype)
    return scaled


def is_flat(low: Floats, high: Floats) -> NDArray[np.bool_]:
    """True where a map's range is rounding noise: interpolating a constant leaves some, which must not be stretched to full heat."""
    found: NDArray[np.bool_] = high - low <= 8 * np.finfo(low.dtype).eps * np.maximum(np.abs(low), np.abs(high))
    return found


def peak(heat: Floats) -> tuple[int, int]:
    """(row, column) of the largest value of heat [H, W]; of several, the one nearest to their centre."""
    # of a comparison's bytes, which are found twice as fast as indices of two axes
    ties = np.stack(np.divmod(np.flatnonzero(heat == heat.max()), heat.shape[1]), 1)
    # beyond the border patch's centre the map is flat: the middle of equal pixels points better than the first
    row, column = ties[np.square(ties - ties.mean(axis=0)).sum(axis=1).argmin()].tolist()
    return row, column


def softmax(x: Floats, scale: float) -> Floats:
    """Softmax of scale * x over the texts, the first axis of x [T, ...]."""
    powers: Floats = x - x.max(axis=0, keepdims=True)
    powers *= scale
    np.exp(powers, out=powers)
    powers /= powers.sum(axis=0, keepdims=True)
    return powers


def through_input(order: str) -> bool:
    """True where maps pass the pixels of the model's input on their way to the picture's."""
    return order == "softmax-input"


def upsample(similarity: Floats, geometry: Geometry, order: str = "none") -> Floats:
    """[T, h, w] -> [T, H, W], bilinear, as the order has it; 0 on picture borders that a crop hid from the model (`Geometry.covered`)."""
    values, rows, columns = _matrices(similarity, geometry, order)
    # the short product first: [T, h, w] @ [w, W] is small
    maps: Floats = rows @ (values @ columns.T)
    return maps


def heatmaps(
    similarity: Floats, geometry: Geometry, order: str = "picture", logit_scale: float | None = None, reverse: bool = False,
    limits: Floats | None = None,
) -> Floats:  # fmt: skip
    """Heatmaps [T, H, W] of similarities [T, h, w] on the patch grid, within [0, 1] except for order "none".

    order is a key of `ORDERS`. With "softmax" and its kin the texts compete; one text alone would be 1 everywhere, so it is
    read out as "picture". A repeated text has equal similarities: it competes once, and each of its places gets the same map.
    reverse gives 1 - map of a min-max map, RCLIP's |1 - map|. Borders that a crop hid from the model are 0 and a letterbox's padding takes
    no part in the min and max. limits [T, 2] are the similarities at which heat is 0 and 1, in place of each map's min and max; beyond
    them it is cut off. Raises FastlocError for an unknown order, a softmax without a positive logit_scale, reverse or limits without a
    min-max, and limits that are not finite or not in order.
    """
    if order not in ORDERS:
        raise FastlocError(unknown("order", order, ORDERS))
    if reverse and order not in ("grid", "picture"):
        raise FastlocError(f"order must be 'grid' or 'picture' where reverse is set, got {order!r}")
    if limits is not None:
        return _limited(similarity, geometry, order, reverse, limits)
    if order == "grid":
        return _minmax_grid(similarity, geometry, reverse)
    if order in COMPETING and (logit_scale is None or not (math.isfinite(logit_scale) and logit_scale > 0)):
        raise FastlocError(f"logit_scale must be positive for order {order!r}, got {logit_scale!r}")
    if order in COMPETING and (copies := distinct_rows(np.asarray(similarity))):
        return heatmaps(np.asarray(similarity)[copies.first], geometry, order, logit_scale)[copies.index]
    if order in COMPETING and len(similarity) == 1:
        order = "picture"
    if order == "softmax-grid" and logit_scale is not None:
        maps = upsample(softmax(_checked(similarity), logit_scale), geometry)
        # the matrices' rows sum to 1 only up to rounding
        return np.clip(maps, 0, 1, out=maps)
    maps = upsample(similarity, geometry, order)
    inside = (slice(None), *geometry.covered())
    if order == "picture":
        region = maps[inside]
        minmax(region, out=region)
        if reverse:
            np.subtract(1, region, out=region)
    if order in COMPETING and logit_scale is not None:
        maps[inside] = softmax(maps[inside], logit_scale)
    return maps


def labels(similarity: Floats, geometry: Geometry, threshold: float | None = None, order: str = "none") -> NDArray[np.int32]:
    """The most similar text of every pixel, int32 [H, W], from similarities [T, h, w] upsampled as the order has it; of equal ones
    the first.

    `BACKGROUND` (-1) where the model did not look (a crop's borders) and where the best similarity is below the threshold. Works through
    the texts one by one: never more than two float maps of the picture's size, however many texts.
    """
    values, rows, columns = _matrices(similarity, geometry, order)
    best = rows @ (values[0] @ columns.T)
    chosen = np.zeros(best.shape, np.int32)
    for index in range(1, len(values)):
        rival = rows @ (values[index] @ columns.T)
        chosen[rival > best] = index
        np.maximum(best, rival, out=best)
    if threshold is not None:
        chosen[best < threshold] = BACKGROUND
    framed = np.full_like(chosen, BACKGROUND)
    inside = geometry.covered()
    framed[inside] = chosen[inside]
    return framed


def _minmax_grid(similarity: Floats, geometry: Geometry, reverse: bool) -> Floats:
    grid = _checked(similarity)
    seen = (slice(None), *geometry.seen((grid.shape[1], grid.shape[2])))
    scaled = np.zeros_like(grid)
    scaled[seen] = 1 - minmax(grid[seen]) if reverse else minmax(grid[seen])
    # the matrices' rows sum to 1 only up to rounding
    maps = upsample(scaled, geometry)
    return np.clip(maps, 0, 1, out=maps)


def between(x: Floats, limits: Floats) -> Floats:
    """x [T, ...] scaled so that limits [T, 2] become 0 and 1, and cut off there; 0 where both limits are one number."""
    low, high = (np.asarray(limits, x.dtype)[:, end].reshape(-1, *(1,) * (x.ndim - 1)) for end in (0, 1))
    scaled: Floats = x - low
    scaled /= np.where(high > low, high - low, np.inf).astype(x.dtype)
    return np.clip(scaled, 0, 1, out=scaled)


def check_limits(limits: Floats, count: int, order: str) -> None:
    """Raise FastlocError unless limits are [count, 2], finite and in order, and the order of the read-out has a min-max."""
    if order not in ("grid", "picture"):
        raise FastlocError(f"order must be 'grid' or 'picture' where limits are set, got {order!r}")
    if limits.shape != (count, 2) or not np.isfinite(limits).all() or (limits[:, 0] > limits[:, 1]).any():
        raise FastlocError(f"limits must be {count} pairs of finite similarities (low, high), got {limits.tolist()}")


def _limited(similarity: Floats, geometry: Geometry, order: str, reverse: bool, limits: Floats) -> Floats:
    """Maps upsampled first, then scaled: both are linear except for the cut, which is made once."""
    check_limits(np.asarray(limits), len(similarity), order)
    maps = upsample(similarity, geometry)
    inside = (slice(None), *geometry.covered())
    maps[inside] = 1 - between(maps[inside], limits) if reverse else between(maps[inside], limits)
    return maps


def _matrices(similarity: Floats, geometry: Geometry, order: str) -> tuple[Floats, Floats, Floats]:
    values = _checked(similarity)
    rows, columns = geometry.resampling((values.shape[1], values.shape[2]), through_input(order))
    return values, rows.astype(values.dtype), columns.astype(values.dtype)


def _checked(similarity: Floats) -> Floats:
    """The similarities [T, h, w] in float32 or float64."""
    values = np.asarray(similarity)
    if values.ndim != 3 or 0 in values.shape:
        raise FastlocError(f"similarity must be [T, h, w] with at least one of each, got {list(values.shape)}")
    if not np.issubdtype(values.dtype, np.floating):
        raise FastlocError(f"similarity must be floats, got {values.dtype}")
    # half precision would be slow here and would show its steps in the picture
    return values.astype(np.float32) if values.dtype.itemsize < 4 else values
