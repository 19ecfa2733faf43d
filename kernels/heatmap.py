"""Similarity grids to heatmaps at picture size, in one pass over the picture.

    v[y, x] = bilinear(similarity - c)          c = one seen cell, so that a small range around a large mean loses no digits
    out     = (v - low) / (high - low)          order "picture": low, high = extremes of v over the pixels that the model saw
                                                order "grid": those of the seen cells, which upsampling, being linear, lets us apply last
    out     = softmax over the texts of logit_scale * v                  order "softmax", with c = 0
    out     = v                                                          order "none", with c = 0

A bilinear map takes its extremes over the picture at pixels that are first or last between two cells (`Axis.extremes`), so a small
kernel finds low and high from about 4 h w of the H W pixels. Both kernels interpolate with the same operations, so the coldest
pixel is exactly 0 and, with 1 / (high - low) rounded up, the warmest exactly 1. A flat map is 0, as in `fastloc.imaging.heatmaps.minmax`.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

import math
from collections.abc import Mapping
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastloc.functional.heatmaps import BAND, AxisTensors
from fastloc.imaging.geometry import fit
from fastloc.kernels.bilinear import along, axis_refusals, bilinear, block_of, outside, tile, upsampled
from fastloc.kernels.gate import Case
from fastloc.kernels.launch import empty, launch

DTYPES = (torch.float32, torch.float16, torch.uint8)
ORDERS = ("grid", "picture", "softmax", "none")
LOG2_E = math.log2(math.e)


@triton.jit
def find_ranges(
    similarity,  # [B * T, h, w]
    ranges,  # [B * T, 2]: low, 1 / (high - low)
    row_extremes,  # [row_count] int32
    column_extremes,  # [column_count] int32
    row_lower, row_weight, column_lower, column_weight,
    row_count, column_count, h, w, row_first, column_first, GRID: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    plane = similarity + tl.program_id(0).to(tl.int64) * h * w
    centre = tl.load(plane + row_first * w + column_first)
    low = tl.full([ROWS, COLUMNS], float("inf"), tl.float32)
    high = tl.full([ROWS, COLUMNS], float("-inf"), tl.float32)
    for row in range(0, row_count, ROWS):
        # the last ones are repeated where the count is not a multiple
        y = tl.minimum(row + tl.arange(0, ROWS)[:, None], row_count - 1)
        if GRID:
            above, row_weights = row_first + y, tl.zeros([ROWS, 1], tl.float32)
        else:
            y = tl.load(row_extremes + y)
            above, row_weights = tl.load(row_lower + y), tl.load(row_weight + y)
        for column in range(0, column_count, COLUMNS):
            x = tl.minimum(column + tl.arange(0, COLUMNS)[None, :], column_count - 1)
            if GRID:
                left, column_weights = column_first + x, tl.zeros([1, COLUMNS], tl.float32)
            else:
                x = tl.load(column_extremes + x)
                left, column_weights = tl.load(column_lower + x), tl.load(column_weight + x)
            below, right = tl.minimum(above + 1, h - 1), tl.minimum(left + 1, w - 1)
            upper = along(plane + above * w, left, right, column_weights, centre)
            lower = along(plane + below * w, left, right, column_weights, centre)
            value = tl.fma(lower - upper, row_weights, upper)
            low, high = tl.minimum(low, value), tl.maximum(high, value)
    lowest, highest = tl.min(tl.min(low, 1), 0), tl.max(tl.max(high, 1), 0)
    span = highest - lowest
    # 8 units of float32 as in maps.minmax, and below the smallest normal number 1 / span would be infinite
    noise = tl.maximum(tl.abs(lowest + centre), tl.abs(highest + centre)) * 9.5367431640625e-07
    flat = span <= tl.maximum(noise, 1.1754943508222875e-38)
    inverse = tl.div_rn(1.0, tl.where(flat, 1.0, span))
    # one unit up where rounding would leave the warmest pixel short of 1
    inverse = tl.where(inverse * span < 1.0, inverse * 1.00000011920928955, inverse)
    tl.store(ranges + tl.program_id(0) * 2, lowest)
    tl.store(ranges + tl.program_id(0) * 2 + 1, tl.where(flat, 0.0, inverse))


@triton.jit
def store_unit(output, value, mask, BYTES: tl.constexpr):
    """Writes `value`, cut to [0, 1], as the output's floats or as round(255 * value)."""
    if BYTES:
        # cut after multiplying, so that the product is rounded before the sum: 1.5 * 2^23 leaves the nearest integer in the low bits
        value = tl.minimum(tl.maximum(value * 255.0, 0.0), 255.0) + 12582912.0
        tl.store(output, (value.to(tl.int32, bitcast=True) & 255).to(tl.uint8), mask=mask)
    else:
        tl.store(output, tl.minimum(tl.maximum(value, 0.0), 1.0).to(output.dtype.element_ty), mask=mask)


@triton.jit
def write_maps(
    similarity,  # [B * T, h, w]
    ranges,  # [B * T, 2]
    output,  # [B * T, H, W]
    bands, row_lower, row_weight, column_lower, column_weight,
    h, w, height, width, row_first, column_first, band_count, y_start, y_stop, x_start, x_stop,
    SCALED: tl.constexpr, REVERSE: tl.constexpr, BYTES: tl.constexpr, CROPPED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    index = tl.program_id(0) // band_count
    y, x, mask, above, below, left, right, row_weights, column_weights = tile(
        tl.program_id(0) % band_count, tl.program_id(1), bands, row_lower, row_weight, column_lower, column_weight, h, w, width,
        ROWS, COLUMNS,
    )  # fmt: skip
    plane = similarity + index.to(tl.int64) * h * w
    output += index.to(tl.int64) * height * width + y * width + x
    centre = 0.0
    if SCALED:
        centre = tl.load(plane + row_first * w + column_first)
    value = bilinear(plane, above, below, left, right, row_weights, column_weights, w, centre)
    if SCALED:
        value = (value - tl.load(ranges + index * 2)) * tl.load(ranges + index * 2 + 1)
        if REVERSE:
            value = 1.0 - value
    if CROPPED:
        value = tl.where((y >= y_start) & (y < y_stop) & (x >= x_start) & (x < x_stop), value, 0.0)
    if SCALED:
        store_unit(output, value, mask, BYTES)
    else:
        tl.store(output, value.to(output.dtype.element_ty), mask=mask)


@triton.jit
def write_softmax(
    similarity,  # [B, T, h, w]
    output,  # [B, T, H, W]
    bands, row_lower, row_weight, column_lower, column_weight,
    scale, texts, h, w, height, width, band_count, y_start, y_stop, x_start, x_stop,
    BYTES: tl.constexpr, CROPPED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(0) // band_count
    y, x, mask, above, below, left, right, row_weights, column_weights = tile(
        tl.program_id(0) % band_count, tl.program_id(1), bands, row_lower, row_weight, column_lower, column_weight, h, w, width,
        ROWS, COLUMNS,
    )  # fmt: skip
    first = similarity + image.to(tl.int64) * texts * h * w
    output += image.to(tl.int64) * texts * height * width + y * width + x
    # the running maximum, and the sum of exponentials below it
    most = tl.full([ROWS, COLUMNS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    plane = first
    for _ in range(texts):
        value = bilinear(plane, above, below, left, right, row_weights, column_weights, w, 0.0)
        higher = tl.maximum(most, value)
        total = total * tl.exp2((most - higher) * scale) + tl.exp2((value - higher) * scale)
        most = higher
        plane += h * w
    share = 1.0 / total
    if CROPPED:
        share = tl.where((y >= y_start) & (y < y_stop) & (x >= x_start) & (x < x_stop), share, 0.0)
    plane = first
    for _ in range(texts):
        value = bilinear(plane, above, below, left, right, row_weights, column_weights, w, 0.0)
        store_unit(output, tl.exp2((value - most) * scale) * share, mask, BYTES)
        plane += h * w
        output += height * width


def heatmap(
    similarity: Tensor, rows: AxisTensors, columns: AxisTensors, *, order: str = "picture", logit_scale: float | None = None,
    reverse: bool = False, dtype: torch.dtype = torch.float32, configuration: Mapping[str, int] | None = None,
) -> Tensor:  # fmt: skip
    """Heatmaps [B, T, H, W] of similarities float32 [B, T, h, w], as `fastloc.functional.heatmaps.heatmaps`.

    rows and columns come from `fastloc.functional.heatmaps.tables`; all B pictures share them. dtype is float32, float16 or uint8, for
    round(255 * map); order "none" has no bytes.
    """
    batch, texts, h, w = similarity.shape
    rows, columns = rows.to(similarity.device), columns.to(similarity.device)
    if order == "softmax" and texts == 1:
        order = "picture"
    output = empty((batch, texts, rows.pixels, columns.pixels), dtype, similarity.device)
    chosen = dict(configuration or _configuration(columns.pixels, order))
    blocks, band_count = triton.cdiv(columns.pixels, chosen["COLUMNS"]), len(rows.bands) - 1
    axes = (rows.lower, rows.weight, columns.lower, columns.weight)
    sizes, inside = (h, w, rows.pixels, columns.pixels), (*rows.inside, *columns.inside)
    cropped = inside != (0, rows.pixels, 0, columns.pixels)
    constants = {"BYTES": dtype == torch.uint8, "CROPPED": cropped, "ROWS": BAND, **chosen}
    if order == "softmax":
        scale = float(logit_scale or 0.0) * LOG2_E
        launch(write_softmax, (batch * band_count, blocks), similarity, output, rows.bands, *axes, scale, texts, *sizes, band_count,
               *inside, **constants)  # fmt: skip
        return output
    seen = (rows.seen[0], columns.seen[0])
    ranges = similarity
    if order != "none":
        grid = order == "grid"
        counts = [axis.seen[1] - axis.seen[0] if grid else len(axis.extremes) for axis in (rows, columns)]
        ranges = empty((batch, texts, 2), torch.float32, similarity.device)
        launch(find_ranges, (batch * texts,), similarity, ranges, rows.extremes, columns.extremes, *axes, *counts, h, w, *seen,
               GRID=grid, ROWS=32, COLUMNS=64, num_warps=8)  # fmt: skip
    launch(write_maps, (batch * texts * band_count, blocks), similarity, ranges, output, rows.bands, *axes, *sizes, *seen, band_count,
           *inside, SCALED=order != "none", REVERSE=reverse, **constants)  # fmt: skip
    return output


def _configuration(width: int, order: str) -> dict[str, int]:
    # four columns of every row a thread, stored as one; where that is impossible, or in a loop, one column, the gathers' layout
    columns, each = (128, 1) if order == "softmax" or width % 16 else (block_of(width), 4)
    return {"COLUMNS": columns, "num_warps": columns // (32 * each)}


def why_not(
    similarity: Tensor, rows: AxisTensors, columns: AxisTensors, *, order: str = "picture", logit_scale: float | None = None,
    reverse: bool = False, dtype: torch.dtype = torch.float32, configuration: Mapping[str, int] | None = None,
) -> list[str]:  # fmt: skip
    """Every reason to refuse these arguments."""
    reasons = axis_refusals(similarity, rows, columns)
    if order not in ORDERS:
        reasons.append(f"order must be one of {', '.join(ORDERS)}, got {order!r}")
    if reverse and order not in ("grid", "picture"):
        reasons.append(f"order must be 'grid' or 'picture', a min-max map, for reverse, got {order!r}")
    if order == "softmax" and not (logit_scale is not None and math.isfinite(logit_scale) and logit_scale > 0):
        reasons.append(f"logit_scale must be above 0 for order 'softmax', got {logit_scale!r}")
    if dtype not in DTYPES:
        reasons.append(f"dtype must be float32, float16 or uint8, got {str(dtype).removeprefix('torch.')}")
    if dtype == torch.uint8 and order == "none":
        reasons.append("dtype must be float32 or float16 for order 'none', whose raw similarities uint8 cannot hold, got uint8")
    return reasons


def reference(
    similarity: Tensor, rows: AxisTensors, columns: AxisTensors, *, order: str = "picture", logit_scale: float | None = None,
    reverse: bool = False, dtype: torch.dtype = torch.float32, configuration: Mapping[str, int] | None = None,
) -> Tensor:  # fmt: skip
    """The heatmaps step by step, with every map at picture size before its extremes are taken."""
    maps = upsampled(similarity, rows, columns)
    if order == "softmax" and similarity.shape[1] > 1:
        maps = torch.softmax(maps * (logit_scale or 0.0), 1)
    elif order != "none":
        span_of = similarity if order == "grid" else maps
        edges = (rows.seen, columns.seen) if order == "grid" else (rows.inside, columns.inside)
        region = span_of[..., slice(*edges[0]), slice(*edges[1])]
        low, high = region.amin((-2, -1), keepdim=True), region.amax((-2, -1), keepdim=True)
        flat = high - low <= 8 * torch.finfo(torch.float32).eps * torch.maximum(low.abs(), high.abs())
        maps = ((maps - low) / (high - low).masked_fill(flat, math.inf)).clamp(0, 1)
        maps = 1 - maps if reverse else maps
    maps = maps.masked_fill(outside(rows, columns, similarity.device), 0.0)
    return (maps * 255).round().to(dtype) if dtype == torch.uint8 else maps.to(dtype)


def check(inputs: dict[str, Any], found: Tensor, exact: Tensor) -> str:
    """The fault of a heatmap; empty if every pixel is as near the exact one as float32 and the output's dtype allow."""
    order, dtype = inputs.get("order", "picture"), found.dtype
    size = float(inputs["similarity"].abs().max()) if order == "none" else 1.0
    # a softmax is as far off as its exponents are
    size += 4 * float(inputs["similarity"].abs().max()) * inputs["logit_scale"] if order == "softmax" else 0.0
    allowed = 1e-6 * size
    if dtype == torch.uint8:
        inputs = {**inputs, "similarity": inputs["similarity"].double(), "dtype": torch.float64}
        exact, allowed = 255 * reference(**inputs), 0.5 + 255 * allowed
    if dtype == torch.float16:
        allowed += size * torch.finfo(dtype).eps / 2
    worst = float((found.double() - exact.double()).abs().max())
    # written so that a NaN fails
    return "" if worst <= allowed else f"a pixel is {worst:.2e} off, {allowed:.2e} is allowed"


def _case(
    label: str, picture: tuple[int, int], size: tuple[int, int], name: str = "stretch", batch: int = 1, texts: int = 2, *,
    mean: float = 0.0, spread: float = 1.0, flat: bool = False, large: bool = False, **options: Any,
) -> Case:  # fmt: skip
    def inputs(generator: torch.Generator) -> dict[str, Any]:
        geometry = fit(picture, size, 16, name)
        rows, columns = map(AxisTensors.of, geometry.sampling(geometry.grid(16)))
        similarity = mean + spread * torch.randn(batch, texts, rows.cells, columns.cells, generator=generator, dtype=torch.float64)
        if flat:
            similarity[:, 0] = 0.237
        return {"similarity": similarity, "rows": rows, "columns": columns, **options}

    return Case(label, inputs, batched=("similarity",), large=large, dtypes=(torch.float32,))


CASES = (
    _case("33 x 29 from 7 x 5", (33, 29), (112, 80)),
    _case("one pixel, which is flat", (1, 1), (48, 48), batch=3),
    _case("one cell, one text", (20, 17), (16, 16), texts=1),
    _case("a crop, three images, bytes", (17, 65), (64, 64), "crop", batch=3, dtype=torch.uint8),
    _case("a tall crop, reversed", (90, 30), (48, 48), "crop", reverse=True),
    _case("a letterbox and its padding", (30, 77), (96, 96), "letterbox", batch=3, mean=5.0),
    _case("on the grid, letterbox, halves", (30, 77), (96, 96), "letterbox", order="grid", dtype=torch.float16),
    _case("on the grid, reversed, bytes", (50, 64), (64, 48), order="grid", reverse=True, dtype=torch.uint8),
    _case("a small range upon a large mean", (60, 150), (64, 64), mean=0.25, spread=1e-4),
    _case("a flat map beside another", (131, 77), (96, 96), flat=True),
    _case("smaller than the grid", (9, 11), (320, 320)),
    _case("softmax, 5 texts, crop", (21, 50), (64, 64), "crop", texts=5, batch=3, order="softmax", logit_scale=40.0, spread=0.3),
    _case("softmax, 17 texts, bytes", (17, 40), (32, 48), texts=17, order="softmax", logit_scale=100.0, dtype=torch.uint8),
    _case("softmax of one text", (33, 40), (48, 64), texts=1, order="softmax", logit_scale=40.0),
    _case("upsampled only, crop", (41, 60), (48, 48), "crop", order="none", mean=-3.0),
    _case("448 x 448 from 28 x 28", (448, 448), (448, 448), batch=2, texts=20, large=True),
    _case("1080 x 1920 from 28 x 50, bytes", (1080, 1920), (448, 448), "aspect", texts=3, large=True, dtype=torch.uint8),
    _case("1080 x 1920, softmax of 150", (1080, 1920), (448, 448), "crop", texts=150, order="softmax", logit_scale=50.0, large=True),
)


def builds(head_width: int, dtype: torch.dtype) -> None:
    """Start every shipped configuration; neither argument matters here."""
    # rows that are aligned to 16 elements, rows that are not, and a crop
    for picture, name in ((448, 448), "stretch"), ((375, 500), "letterbox"), ((1080, 1920), "crop"):
        geometry = fit(picture, 448, 16, name)
        rows, columns = (AxisTensors.of(axis).to(torch.device("meta")) for axis in geometry.sampling((28, 28)))
        similarity = torch.empty(2, 20, 28, 28, device="meta")
        for kind in DTYPES:
            heatmap(similarity, rows, columns, dtype=kind)
        heatmap(similarity, rows, columns, order="softmax", logit_scale=40.0)
        if name == "stretch":
            heatmap(similarity, rows, columns, order="softmax", logit_scale=40.0, dtype=torch.uint8)
            heatmap(similarity, rows, columns, order="grid", reverse=True)
            heatmap(similarity, rows, columns, order="none")
