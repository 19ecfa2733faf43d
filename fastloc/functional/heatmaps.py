"""Similarities on the patch grid -> heatmaps and labels on the picture, for a batch and on the device that holds it.

The same functions as `fastloc.imaging.heatmaps`, in plain PyTorch. The results differ by rounding alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch
from torch import Tensor

from fastloc.errors import FastlocError, unknown
from fastloc.imaging.axis_sampling import Axis
from fastloc.imaging.geometry import Geometry
from fastloc.imaging.heatmaps import BACKGROUND, COMPETING, ORDERS, through_input

__all__ = ["AxisTensors", "check_order", "checked", "heatmaps", "labels", "tables"]

DTYPES = (torch.float32, torch.float16, torch.float64, torch.uint8)
# the rows of the picture that a kernel processes at a time
BAND = 8
# a cell that no pixel lies near may be this far from the map's range, times its span, and not further: infinity x 0 is NaN
FAR = 1e30


# tables are not compared by value: comparing tensors gives no single bool
@dataclass(frozen=True, eq=False)
class AxisTensors:
    """One axis of the sampling on a device, for kernels: the fields of `fastloc.imaging.axis_sampling.Axis` with slices as pairs (start,
    stop).
    """

    cells: int
    pixels: int
    inside: tuple[int, int]
    seen: tuple[int, int]
    lower: Tensor  # [pixels] int32
    weight: Tensor  # [pixels] float32
    extremes: Tensor  # [at most 2 * cells] int32
    bands: Tensor  # [S + 1] int32, runs of at most `BAND` pixels
    _copies: dict[torch.device, AxisTensors] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, axis: Axis) -> AxisTensors:
        """The tables of an axis, on the CPU."""
        # a table made in inference mode could not be used outside it
        with torch.inference_mode(False):
            return cls(
                cells=axis.cells, pixels=len(axis.lower),
                inside=(axis.inside.start, axis.inside.stop), seen=(axis.seen.start, axis.seen.stop),
                lower=torch.from_numpy(axis.lower), weight=torch.from_numpy(axis.weight).float(),
                extremes=torch.from_numpy(axis.extremes), bands=torch.from_numpy(axis.bands(BAND)),
            )  # fmt: skip

    def to(self, device: torch.device) -> AxisTensors:
        """These tables on a device, copied once. The copy lives as long as this object: keep it for a CUDA graph that reads the copy."""
        if self.lower.device == device:
            return self
        if device not in self._copies:
            with torch.inference_mode(False):
                moved = {name: getattr(self, name).to(device) for name in ("lower", "weight", "extremes", "bands")}
            self._copies[device] = replace(self, **moved)
        return self._copies[device]


@lru_cache(maxsize=64)
def tables(geometry: Geometry, grid: tuple[int, int], device: torch.device) -> tuple[AxisTensors, AxisTensors]:
    """The kernels' tables (rows, columns), cached while in use. A CUDA graph that records them must hold references to them."""
    rows, columns = (AxisTensors.of(axis).to(device) for axis in geometry.sampling(grid))
    return rows, columns


def heatmaps(
    similarity: Tensor, geometry: Geometry, order: str = "picture", logit_scale: float | None = None, reverse: bool = False,
    *, dtype: torch.dtype = torch.float32,
) -> Tensor:  # fmt: skip
    """Heatmaps [B, T, H, W] of similarities [B, T, h, w] of pictures that share one geometry, on the similarity's device.

    order, logit_scale and reverse are those of `fastloc.imaging.heatmaps.heatmaps`. A float64 similarity is computed in float64, any other
    in float32; matrix products follow PyTorch's own setting for TF32. dtype is float32, float64 or float16, or uint8 for round(255 * map),
    which order "none" refuses.

    Raises FastlocError for what `fastloc.imaging.heatmaps.heatmaps` refuses, and for another dtype.
    """
    check_order(order, logit_scale, reverse, dtype)
    values = checked(similarity)
    if order in COMPETING and values.shape[1] == 1:
        order = "picture"
    if order in ("grid", "picture"):
        values = _scaled(values, geometry, order, reverse)
    if order == "softmax-grid" and logit_scale is not None:
        # the largest is subtracted first, so that no product overflows
        values = torch.softmax(logit_scale * (values - values.amax(1, keepdim=True)), 1)
    maps = _upsampled(values, geometry, order)
    if order in ("grid", "picture", "softmax-grid"):
        # the matrices' rows sum to 1 only up to rounding
        maps.clamp_(0, 1)
    elif order in COMPETING and logit_scale is not None:
        maps = _competing(maps, geometry, logit_scale)
    return maps.mul_(255).round_().to(dtype) if dtype == torch.uint8 else maps.to(dtype)


def labels(similarity: Tensor, geometry: Geometry, threshold: float | None = None, order: str = "none") -> Tensor:
    """The index of the most similar text of every pixel, int32 [B, H, W], from similarities [B, T, h, w] upsampled in the given order.

    Of equal similarities the first text wins. `maps.BACKGROUND` (-1) stands outside the model's view and where the best similarity is
    below the threshold. The texts are processed one by one, so a picture needs a few maps, however many texts there are. Raises
    FastlocError as `heatmaps` does.
    """
    values = checked(similarity)
    # text by text, in products of one shape: equal texts give equal bits, so the first of them wins
    best = _upsampled(values[:, 0], geometry, order)
    chosen = torch.zeros(best.shape, dtype=torch.int32, device=best.device)
    for index in range(1, values.shape[1]):
        rival = _upsampled(values[:, index], geometry, order)
        chosen.masked_fill_(rival > best, index)
        torch.maximum(best, rival, out=best)
    if threshold is not None:
        chosen.masked_fill_(best < threshold, BACKGROUND)
    framed = torch.full_like(chosen, BACKGROUND)
    inside = (slice(None), *geometry.covered())
    framed[inside] = chosen[inside]
    return framed


def _scaled(values: Tensor, geometry: Geometry, order: str, reverse: bool) -> Tensor:
    """The grid [B, T, h, w], scaled so that upsampling it gives the min-max map: both are linear, so the small side is scaled."""
    seen = geometry.seen(_grid(values))
    # subtracted first, so that a small range around a large mean loses no digits
    centre = values[..., seen[0].start, seen[1].start, None, None]
    values = values - centre
    if order == "grid":
        region = values[..., seen[0], seen[1]]
    else:
        rows, columns = _matrices(geometry, _grid(values), values.device, values.dtype, extremes=True)
        region = rows @ (values @ columns.T)
    low, high = region.amin((-2, -1), keepdim=True), region.amax((-2, -1), keepdim=True)
    # the same rule as in maps.minmax
    flat = high - low <= 8 * torch.finfo(values.dtype).eps * torch.maximum((low + centre).abs(), (high + centre).abs())
    scaled = ((values - low) / (high - low).masked_fill(flat, math.inf)).clamp_(-FAR, FAR)
    return 1 - scaled if reverse else scaled


def _competing(maps: Tensor, geometry: Geometry, logit_scale: float) -> Tensor:
    """Softmax over the texts of maps [B, T, H, W]; 0 outside the model's view."""
    inside = (..., *geometry.covered())
    framed = torch.zeros_like(maps)
    framed[inside] = torch.softmax(logit_scale * maps[inside], 1)
    return framed


def _upsampled(values: Tensor, geometry: Geometry, order: str) -> Tensor:
    """Upsample [..., h, w] -> [..., H, W], bilinear; 0 outside the model's view."""
    rows, columns = _matrices(geometry, _grid(values), values.device, values.dtype, through_input(order))
    # the smaller product first
    return rows @ (values @ columns.T)


@lru_cache(maxsize=64)
def _matrices(
    geometry: Geometry, grid: tuple[int, int], device: torch.device, dtype: torch.dtype, through: bool = False, extremes: bool = False
) -> tuple[Tensor, Tensor]:
    """Matrices [H, h] and [W, w] of the sampling, `through` the input's pixels, or their rows at the extremes alone."""
    with torch.inference_mode(False):
        rows, columns = geometry.resampling(grid, through)
        if extremes:
            rows, columns = (matrix[axis.extremes] for matrix, axis in zip((rows, columns), geometry.sampling(grid), strict=True))
        return torch.from_numpy(rows).to(device, dtype), torch.from_numpy(columns).to(device, dtype)


def check_order(order: str, logit_scale: float | None, reverse: bool, dtype: torch.dtype) -> None:
    """Raise FastlocError for settings of `heatmaps` that do not go together."""
    if order not in ORDERS:
        raise FastlocError(unknown("order", order, ORDERS))
    if reverse and order not in ("grid", "picture"):
        raise FastlocError(f"order must be 'grid' or 'picture' where reverse is set, got {order!r}")
    if order in COMPETING and (logit_scale is None or not (math.isfinite(logit_scale) and logit_scale > 0)):
        raise FastlocError(f"logit_scale must be positive for order {order!r}, got {logit_scale!r}")
    if dtype not in DTYPES:
        raise FastlocError(f"dtype of heatmaps must be one of {', '.join(map(str, DTYPES))}, got {dtype}")
    if dtype == torch.uint8 and order == "none":
        raise FastlocError(f"dtype must be a float type for order 'none', whose raw similarities bytes cannot hold, got {dtype}")


def checked(similarity: Tensor) -> Tensor:
    """Similarities [B, T, h, w] in float32 or float64. Raises FastlocError for another shape or dtype."""
    if similarity.ndim != 4 or 0 in similarity.shape[1:]:
        raise FastlocError(f"similarity must be [B, T, h, w] with at least one text and cell, got {list(similarity.shape)}")
    if not similarity.is_floating_point():
        raise FastlocError(f"similarity must be floats, got {similarity.dtype}")
    return similarity if similarity.dtype == torch.float64 else similarity.float()


def _grid(values: Tensor) -> tuple[int, int]:
    return values.shape[-2], values.shape[-1]
