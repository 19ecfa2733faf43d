"""Heatmaps on the picture from similarities on the patch grid. Pure numpy, float32 or float64 in and out (float16 comes out as float32)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloc.errors import FastlocError, unknown
from fastloc.imaging.bilinear import Bilinear
from fastloc.imaging.geometry import Geometry
from fastloc.utils.distinct import distinct_rows

__all__ = [
    "BACKGROUND", "COMPETING", "ORDERS", "Heat", "heat_of", "heatmaps", "is_flat", "minmax", "peak", "softmax",
    "surface", "through_input", "upsample",
]  # fmt: skip

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
    low, span = _stretch(x.min(axis=axes, keepdims=True), x.max(axis=axes, keepdims=True))
    scaled: Floats = np.subtract(x, low, out=out)
    scaled /= span
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


def softmax(x: Floats, scale: float, out: Floats | None = None) -> Floats:
    """Softmax of scale * x over the texts, the first axis of x [T, ...], into out (which may be x) where given."""
    powers: Floats = np.subtract(x, x.max(axis=0, keepdims=True), out=out)
    powers *= scale
    np.exp(powers, out=powers)
    # one by one: a sum over an axis has another order for other shapes
    total = powers[0].copy()
    for each in powers[1:]:
        total += each
    powers /= total
    return powers


def through_input(order: str) -> bool:
    """True where maps pass the pixels of the model's input on their way to the picture's."""
    return order == "softmax-input"


def surface(similarity: Floats, geometry: Geometry, order: str = "none") -> Bilinear:
    """The bilinear maps of similarities [T, h, w], as the order has them."""
    values = _checked(similarity)
    return Bilinear(values, *geometry.steps((values.shape[1], values.shape[2]), through_input(order)))


def upsample(similarity: Floats, geometry: Geometry, order: str = "none") -> Floats:
    """[T, h, w] -> [T, H, W], bilinear, as the order has it; 0 on picture borders that a crop hid from the model (`Geometry.covered`)."""
    return Heat(surface(similarity, geometry, order), geometry).tile()


# arrays have no single truth
@dataclass(frozen=True, eq=False)
class Heat:
    """Heatmaps [T, H, W] that are read a part at a time, each part with the bits of the whole: see `heat_of`.

    Attributes:
        maps: the bilinear maps; where texts compete, of the distinct texts
        low, span: [T, 1, 1], the value at which heat is 0, and the range from there to 1
        cut: True where heat is cut off at 0 and 1
        logit_scale: of the softmax over the texts
        index: the place of each text among the maps, where texts repeat
    """

    maps: Bilinear
    geometry: Geometry
    low: Floats | None = None
    span: Floats | None = None
    cut: bool = False
    reverse: bool = False
    logit_scale: float | None = None
    index: tuple[int, ...] | None = None

    @property
    def count(self) -> int:
        """The number of texts."""
        return len(self.maps.values) if self.index is None else len(self.index)

    def repeat(self, made: NDArray[Any]) -> None:
        """Of an array [T, ...] that begins with the distinct maps, bring each to its places."""
        # a map's number is at most that of its first place: from the last place on, none is written over before it is read
        for place, number in reversed(list(enumerate(self.index or ()))):
            if place != number:
                made[place] = made[number]

    def parts(
        self, rows: slice, columns: slice, across: Floats | None = None, out: Floats | None = None
    ) -> Iterator[tuple[slice, slice, Floats]]:
        """Parts of the heat of the maps: texts, rows and the values [t, n, w] there; of pixels inside what the model saw. out: see
        `Bilinear.parts`; the heat is made in it."""
        for texts, part, values in self.maps.parts(rows, columns, self.logit_scale is not None, across, out):
            yield texts, part, self.of(values, texts)

    def inside(self, rows: slice, columns: slice, across: Floats | None = None) -> Floats:
        """[t, r, c]: the heat of the maps at pixels that the model saw; see `Bilinear.parts`."""
        made = np.empty((len(self.maps.values), rows.stop - rows.start, columns.stop - columns.start), self.maps.values.dtype)
        self.fill(made, rows, columns, across)
        return made

    def fill(self, out: Floats, rows: slice, columns: slice, across: Floats | None = None) -> None:
        """Make `inside` in an array of its shape and dtype, which may be a part of another."""
        for _ in self.parts(rows, columns, across, out):
            pass

    def of(self, values: Floats, texts: slice) -> Floats:
        """The heat of values [t, ...] of the maps of these texts, in their place. All texts stand together where they compete."""
        if self.logit_scale is not None:
            return softmax(values, self.logit_scale, out=values)
        if self.low is not None and self.span is not None:
            shape = (-1, *(1,) * (values.ndim - 1))
            values -= self.low[texts].reshape(shape)
            values /= self.span[texts].reshape(shape)
        if self.cut:
            np.clip(values, 0, 1, out=values)
        return np.subtract(1, values, out=values) if self.reverse else values

    def tile(self, rows: slice = slice(None), columns: slice = slice(None)) -> Floats:
        """[T, r, c]: the heat of rows and columns of the picture; 0 where a crop hid it."""
        height, width = self.geometry.picture
        (top, bottom, _), (left, right, _) = rows.indices(height), columns.indices(width)
        made = np.zeros((self.count, max(bottom - top, 0), max(right - left, 0)), self.maps.values.dtype)
        distinct = made[: len(self.maps.values)]
        down, along = self.geometry.covered()
        down, along = slice(max(down.start, top), min(down.stop, bottom)), slice(max(along.start, left), min(along.stop, right))
        if down.start < down.stop and along.start < along.stop:
            self.fill(distinct[:, down.start - top : down.stop - top, along.start - left : along.stop - left], down, along)
        self.repeat(made)
        return made


def heat_of(
    similarity: Floats, geometry: Geometry, order: str = "picture", logit_scale: float | None = None, reverse: bool = False,
    limits: Floats | None = None,
) -> Heat:  # fmt: skip
    """The heatmaps of `heatmaps`, to be read a part at a time: `heat_of(...).tile(rows, columns)`. Raises FastlocError as it does."""
    if order not in ORDERS:
        raise FastlocError(unknown("order", order, ORDERS))
    if reverse and order not in ("grid", "picture"):
        raise FastlocError(f"order must be 'grid' or 'picture' where reverse is set, got {order!r}")
    values = _checked(similarity)
    if limits is not None:
        check_limits(np.asarray(limits), len(values), order)
        return Heat(surface(values, geometry), geometry, *_between(limits, values), cut=True, reverse=reverse)
    if order == "grid":
        return Heat(surface(_minmax_grid(values, geometry, reverse), geometry), geometry, cut=True)
    if order in COMPETING and (logit_scale is None or not (math.isfinite(logit_scale) and logit_scale > 0)):
        raise FastlocError(f"logit_scale must be positive for order {order!r}, got {logit_scale!r}")
    if order in COMPETING and (copies := distinct_rows(values)):
        return replace(heat_of(values[copies.first], geometry, order, logit_scale), index=tuple(copies.index))
    if order in COMPETING and len(values) == 1:
        order = "picture"
    if order == "softmax-grid" and logit_scale is not None:
        # a blend ends at its upper cell only up to rounding
        return Heat(surface(softmax(values, logit_scale), geometry), geometry, cut=True)
    maps = surface(values, geometry, order)
    if order == "picture":
        return Heat(maps, geometry, *_stretch(*maps.range()), reverse=reverse)
    return Heat(maps, geometry, logit_scale=None if order == "none" else logit_scale)


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
    return heat_of(similarity, geometry, order, logit_scale, reverse, limits).tile()


def _minmax_grid(grid: Floats, geometry: Geometry, reverse: bool) -> Floats:
    seen = (slice(None), *geometry.seen((grid.shape[1], grid.shape[2])))
    scaled = np.zeros_like(grid)
    scaled[seen] = 1 - minmax(grid[seen]) if reverse else minmax(grid[seen])
    return scaled


def _stretch(low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """The low and the span of `Heat`, of the least and greatest value [T, 1, 1] of each map."""
    # noise over infinity is 0
    return low, np.where(is_flat(low, high), np.inf, high - low).astype(low.dtype)


def _between(limits: Floats, values: Floats) -> tuple[Floats, Floats]:
    """The low and the span of `Heat`, of limits [T, 2] for values of a dtype; heat is 0 where both limits are one number."""
    low, high = (np.asarray(limits, values.dtype)[:, end].reshape(-1, 1, 1) for end in (0, 1))
    return low, np.where(high > low, high - low, np.inf).astype(values.dtype)


def between(x: Floats, limits: Floats) -> Floats:
    """x [T, H, W] scaled so that limits [T, 2] become 0 and 1, and cut off there; 0 where both limits are one number."""
    low, span = _between(limits, x)
    scaled: Floats = x - low
    scaled /= span
    return np.clip(scaled, 0, 1, out=scaled)


def check_limits(limits: Floats, count: int, order: str) -> None:
    """Raise FastlocError unless limits are [count, 2], finite and in order, and the order of the read-out has a min-max."""
    if order not in ("grid", "picture"):
        raise FastlocError(f"order must be 'grid' or 'picture' where limits are set, got {order!r}")
    if limits.shape != (count, 2) or not np.isfinite(limits).all() or (limits[:, 0] > limits[:, 1]).any():
        raise FastlocError(f"limits must be {count} pairs of finite similarities (low, high), got {limits.tolist()}")


def _checked(similarity: Floats) -> Floats:
    """The similarities [T, h, w] in float32 or float64."""
    values = np.asarray(similarity)
    if values.ndim != 3 or 0 in values.shape:
        raise FastlocError(f"similarity must be [T, h, w] with at least one of each, got {list(values.shape)}")
    if not np.issubdtype(values.dtype, np.floating):
        raise FastlocError(f"similarity must be floats, got {values.dtype}")
    # half precision would be slow here and would show its steps in the picture
    return values.astype(np.float32) if values.dtype.itemsize < 4 else values
