"""Shared parts of the kernels that draw on the picture: a program's pixels, and their values between the grid's cells.

A program works on one band (`Axis.bands`: rows that lie between the same two rows of cells) and one block of columns. It interpolates
along the columns once for each of the two rows of cells, and between these for each row of pixels: one multiply-add a pixel.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastloc.functional.heatmaps import AxisTensors


@triton.jit
def along(line, left, right, weight, centre):
    """Values of one row of cells, or of one for each row of pixels, less `centre`, between its cells left and right."""
    before = tl.load(line + left) - centre
    return tl.fma(tl.load(line + right) - centre - before, weight, before)


@triton.jit
def bilinear(plane, above, below, left, right, row_weights, column_weights, w, centre):
    """[ROWS, COLUMNS] values of `plane` [h, w] less `centre`, between the rows of cells above and below; the rest is `tile`'s."""
    # lines stay vectors until here, so that their gathers need not have the layout of the wide store
    upper = along(plane + above * w, left, right, column_weights, centre)
    lower = along(plane + below * w, left, right, column_weights, centre)
    return tl.fma((lower - upper)[None, :], row_weights[:, None], upper[None, :])


@triton.jit
def tile(
    band, block,
    bands,  # [S + 1] int32
    row_lower,  # [H] int32
    row_weight,  # [H]
    column_lower,  # [W] int32
    column_weight,  # [W]
    h, w, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """One band's rows y [ROWS, 1] and one block's columns x [1, COLUMNS], which of them there are, their cells and their weights."""
    first, stop = tl.load(bands + band), tl.load(bands + band + 1)
    rows = first + tl.arange(0, ROWS)
    columns = block * COLUMNS + tl.arange(0, COLUMNS)
    row_weights = tl.load(row_weight + rows, mask=rows < stop, other=0.0)
    column_weights = tl.load(column_weight + columns, mask=columns < width, other=0.0)
    above = tl.load(row_lower + first)
    left = tl.load(column_lower + columns, mask=columns < width, other=0)
    y, x = rows[:, None], columns[None, :]
    mask = (y < stop) & (x < width)
    return y, x, mask, above, tl.minimum(above + 1, h - 1), left, tl.minimum(left + 1, w - 1), row_weights, column_weights


def block_of(width: int) -> int:
    """The number of columns of a tile: the choice with the fewest idle ones at the right edge, and among equals the largest."""
    return min((512, 256, 128), key=lambda columns: triton.cdiv(width, columns) * columns)


def upsampled(similarity: Tensor, rows: AxisTensors, columns: AxisTensors) -> Tensor:
    """Upsample [..., h, w] -> [..., H, W] in plain PyTorch, for references; pixels outside the model's view repeat its edge."""
    for axis, dim in ((columns.to(similarity.device), -1), (rows.to(similarity.device), -2)):
        lower = axis.lower.long()
        weight = axis.weight.to(similarity.dtype)
        first, second = (similarity.index_select(dim, cells) for cells in (lower, (lower + 1).clamp(max=axis.cells - 1)))
        similarity = torch.lerp(first, second, weight if dim == -1 else weight[:, None])
    return similarity


def outside(rows: AxisTensors, columns: AxisTensors, device: torch.device) -> Tensor:
    """The pixels outside the model's view, bool [H, W]."""
    mask = torch.ones(rows.pixels, columns.pixels, dtype=torch.bool, device=device)
    mask[slice(*rows.inside), slice(*columns.inside)] = False
    return mask


def axis_refusals(similarity: Tensor, rows: AxisTensors, columns: AxisTensors) -> list[str]:
    """The reasons why these grids and tables cannot be read out."""
    if similarity.ndim != 4 or 0 in similarity.shape[1:]:
        return [f"similarity must be [B, T, h, w] with at least one text and cell, got {list(similarity.shape)}"]
    reasons = []
    if similarity.dtype != torch.float32:
        reasons.append(f"similarity must be float32, got {str(similarity.dtype).removeprefix('torch.')}")
    if not similarity.is_contiguous():
        reasons.append(f"similarity must be contiguous, got strides {list(similarity.stride())}")
    if (rows.cells, columns.cells) != tuple(similarity.shape[2:]):
        reasons.append(f"similarity must have the grid of its tables, {[rows.cells, columns.cells]}, got {list(similarity.shape[2:])}")
    return reasons
