"""Similarity grids to the most similar text of every pixel, without T maps of the picture's size.

    label[y, x] = the first t with the greatest bilinear(similarity[t])[y, x]; background where that is below the threshold

A program goes through all texts for its pixels, so what is read is the small grids and what is written is one map.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from collections.abc import Mapping
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastloc.functional.heatmaps import BAND, AxisTensors
from fastloc.imaging.geometry import fit
from fastloc.kernels.bilinear import axis_refusals, bilinear, outside, tile, upsampled
from fastloc.kernels.gate import Case
from fastloc.kernels.launch import empty, launch

# the label for no text, by dtype
BACKGROUND = {torch.int32: -1, torch.uint8: 255}


@triton.jit
def write_labels(
    similarity,  # [B, T, h, w]
    output,  # [B, H, W]
    bands, row_lower, row_weight, column_lower, column_weight,
    threshold, background, texts, h, w, height, width, band_count, y_start, y_stop, x_start, x_stop,
    THRESHOLD: tl.constexpr, CROPPED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(0) // band_count
    y, x, mask, above, below, left, right, row_weights, column_weights = tile(
        tl.program_id(0) % band_count, tl.program_id(1), bands, row_lower, row_weight, column_lower, column_weight, h, w, width,
        ROWS, COLUMNS,
    )  # fmt: skip
    plane = similarity + image.to(tl.int64) * texts * h * w
    best = bilinear(plane, above, below, left, right, row_weights, column_weights, w, 0.0)
    chosen = tl.zeros([ROWS, COLUMNS], tl.int32)
    for text in range(1, texts):
        plane += h * w
        rival = bilinear(plane, above, below, left, right, row_weights, column_weights, w, 0.0)
        # equal texts give equal bits, so that the first of them stays
        chosen = tl.where(rival > best, text, chosen)
        best = tl.maximum(best, rival)
    if THRESHOLD:
        chosen = tl.where(best < threshold, background, chosen)
    if CROPPED:
        chosen = tl.where((y >= y_start) & (y < y_stop) & (x >= x_start) & (x < x_stop), chosen, background)
    output += image.to(tl.int64) * height * width + y * width + x
    tl.store(output, chosen.to(output.dtype.element_ty), mask=mask)


def label_map(
    similarity: Tensor, rows: AxisTensors, columns: AxisTensors, threshold: float | None = None, *, dtype: torch.dtype = torch.int32,
    configuration: Mapping[str, int] | None = None,
) -> Tensor:  # fmt: skip
    """The index of every pixel's most similar text, [B, H, W], of similarities float32 [B, T, h, w]; the first among equals.

    -1 where a crop hid the picture from the model and where the best similarity is below the threshold. dtype is int32, or uint8
    with 255 for -1, for at most 255 texts. rows and columns come from `fastloc.functional.heatmaps.tables`; all B pictures share them.
    """
    batch, texts, h, w = similarity.shape
    rows, columns = rows.to(similarity.device), columns.to(similarity.device)
    output = empty((batch, rows.pixels, columns.pixels), dtype, similarity.device)
    chosen = dict(configuration or _configuration())
    band_count, inside = len(rows.bands) - 1, (*rows.inside, *columns.inside)
    launch(
        write_labels, (batch * band_count, triton.cdiv(columns.pixels, chosen["COLUMNS"])), similarity, output, rows.bands, rows.lower,
        rows.weight, columns.lower, columns.weight, float(threshold or 0.0), BACKGROUND[dtype], texts, h, w, rows.pixels, columns.pixels,
        band_count, *inside, THRESHOLD=threshold is not None, CROPPED=inside != (0, rows.pixels, 0, columns.pixels), ROWS=BAND, **chosen,
    )  # fmt: skip
    return output


def _configuration() -> dict[str, int]:
    # one column of every row a thread, the gathers' layout: nothing passes shared memory in the loop
    return {"COLUMNS": 128, "num_warps": 4}


def why_not(
    similarity: Tensor, rows: AxisTensors, columns: AxisTensors, threshold: float | None = None, *, dtype: torch.dtype = torch.int32,
    configuration: Mapping[str, int] | None = None,
) -> list[str]:  # fmt: skip
    """Every reason to refuse these arguments."""
    reasons = axis_refusals(similarity, rows, columns)
    if dtype not in BACKGROUND:
        reasons.append(f"dtype must be int32 or uint8, got {str(dtype).removeprefix('torch.')}")
    if dtype == torch.uint8 and similarity.ndim == 4 and similarity.shape[1] > 255:
        reasons.append(f"texts must be at most 255 for uint8, where 255 is the background, got {similarity.shape[1]}; use int32")
    return reasons


def reference(
    similarity: Tensor, rows: AxisTensors, columns: AxisTensors, threshold: float | None = None, *, dtype: torch.dtype = torch.int32,
    configuration: Mapping[str, int] | None = None,
) -> Tensor:  # fmt: skip
    """The labels from all maps at picture size, in plain PyTorch."""
    maps = upsampled(similarity, rows, columns)
    chosen = maps.argmax(1)
    if threshold is not None:
        chosen = chosen.masked_fill(maps.amax(1) < threshold, BACKGROUND[dtype])
    return chosen.masked_fill(outside(rows, columns, similarity.device), BACKGROUND[dtype]).to(dtype)


def check(inputs: dict[str, Any], found: Tensor, exact: Tensor) -> str:
    """The fault of the labels; empty if only rounding decides between two texts, or between a text and the background."""
    rows, columns, threshold = inputs["rows"], inputs["columns"], inputs.get("threshold")
    background = BACKGROUND[found.dtype]
    maps = upsampled(inputs["similarity"].double(), rows, columns)
    rounding = 4 * torch.finfo(torch.float32).eps * float(maps.abs().max())
    if bool((found != background)[:, outside(rows, columns, found.device)].any()):
        return "a pixel that the model did not see has a label"
    label = found.long().masked_fill(found == background, 0)
    if bool(((label < 0) | (label >= maps.shape[1])).any()):
        return f"a label is none of the {maps.shape[1]} texts"
    best = maps.amax(1)
    worse = best - maps.gather(1, label[:, None])[:, 0] > rounding
    wrong = (found != exact) & (found != background) & worse
    # where one of the two is background, the threshold must be within rounding of the best
    hidden = ((found == background) != (exact == background)) & ~((best - (threshold or 0.0)).abs() <= rounding)
    count = int((wrong | hidden).sum())
    return f"{count} of {found.numel()} labels differ by more than rounding" if count else ""


def _case(
    label: str, picture: tuple[int, int], size: tuple[int, int], name: str = "stretch", batch: int = 1, texts: int = 3,
    *, twice: bool = False, large: bool = False, **options: Any,
) -> Case:  # fmt: skip
    def inputs(generator: torch.Generator) -> dict[str, Any]:
        geometry = fit(picture, size, 16, name)
        rows, columns = map(AxisTensors.of, geometry.sampling(geometry.grid(16)))
        similarity = torch.randn(batch, texts, rows.cells, columns.cells, generator=generator, dtype=torch.float64)
        if twice:
            similarity[:, -1] = similarity[:, 0]
        return {"similarity": similarity, "rows": rows, "columns": columns, **options}

    return Case(label, inputs, batched=("similarity",), large=large, dtypes=(torch.float32,))


CASES = (
    _case("one text", (33, 29), (112, 80), texts=1),
    _case("one text, threshold", (33, 29), (112, 80), texts=1, threshold=0.1),
    _case("3 texts, three images", (20, 70), (96, 96), batch=3),
    _case("a crop, bytes", (17, 65), (48, 48), "crop", batch=3, dtype=torch.uint8),
    _case("a tall crop, threshold", (90, 30), (48, 48), "crop", threshold=0.5),
    _case("a letterbox, bytes and threshold", (30, 77), (96, 96), "letterbox", threshold=0.7, dtype=torch.uint8),
    _case("the first text again as the last", (60, 70), (64, 64), texts=5, twice=True),
    _case("a negative threshold", (21, 40), (48, 64), texts=2, threshold=-0.25),
    _case("one pixel", (1, 1), (48, 48)),
    _case("one cell, 40 texts", (9, 17), (16, 16), texts=40),
    _case("1080 x 1920, 150 texts", (1080, 1920), (448, 448), "aspect", texts=150, large=True, dtype=torch.uint8),
)


def builds(head_width: int, dtype: torch.dtype) -> None:
    """Start every shipped configuration; neither argument matters here."""
    # rows that are aligned to 16 elements, rows that are not, and a crop
    for picture, name, threshold in ((448, 448), "stretch", None), ((375, 500), "letterbox", 0.2), ((1080, 1920), "crop", 0.2):
        geometry = fit(picture, 448, 16, name)
        rows, columns = (AxisTensors.of(axis).to(torch.device("meta")) for axis in geometry.sampling((28, 28)))
        for kind in BACKGROUND:
            label_map(torch.empty(2, 20, 28, 28, device="meta"), rows, columns, threshold, dtype=kind)
