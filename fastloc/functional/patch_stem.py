"""The patch embedding: pixels or ready patches to tokens."""

import torch.nn.functional as F
from torch import Tensor

from fastloc.checkpoints.vit_weights import Weights
from fastloc.functional.hierarchical.map_stem import map_tokens
from fastloc.functional.op_set import TORCH, Ops

__all__ = ["embedded_planes", "embedded_rows", "patch_rows", "patch_tokens"]

Grid = tuple[int, int]


def patch_tokens(weights: Weights, pixels: Tensor, ops: Ops = TORCH) -> tuple[Tensor, Grid]:
    """The patch embedding of normalised pixels: [B,3,H,W] -> [B,P,C] and the grid.

    A convolution that steps by its own size is a product with the patches laid out as rows; unlike cuDNN's, it is not rounded to TF32.
    """
    return embedded_planes(weights, pixels.to(weights.dtype), weights.patch_w.flatten(1), weights.patch_b, ops)


def embedded_planes(weights: Weights, planes: Tensor, matrix: Tensor, bias: Tensor | None, ops: Ops = TORCH) -> tuple[Tensor, Grid]:
    """Planes [B,3,H,W] -> tokens [B,P,C], by the first convolution as `matrix` and `bias`, see `embedded_rows`; and the grid."""
    if weights.maps is None:
        rows, grid = patch_rows(planes, weights.spec.patch)
        return embedded_rows(weights, rows, grid, matrix, bias), grid
    kernel = matrix.reshape(len(matrix), -1, *weights.patch_w.shape[2:])
    (height, width), (ph, pw) = planes.shape[-2:], weights.spec.patch
    return map_tokens(weights.maps, planes, kernel, bias, weights.spec.norm_eps, ops), (height // ph, width // pw)


def patch_rows(planes: Tensor, patch: tuple[int, int]) -> tuple[Tensor, Grid]:
    """Planes [B,3,H,W] cut into patches [B,P,3*ph*pw], row by row over the grid, and the grid."""
    (height, width), (ph, pw) = planes.shape[-2:], patch
    grid = height // ph, width // pw
    rows = planes.reshape(planes.shape[0], 3, grid[0], ph, grid[1], pw).permute(0, 2, 4, 1, 3, 5)
    return rows.reshape(planes.shape[0], grid[0] * grid[1], 3 * ph * pw), grid


def embedded_rows(weights: Weights, rows: Tensor, grid: Grid, matrix: Tensor, bias: Tensor | None) -> Tensor:
    """Patches [B,P,3*ph*pw] -> tokens [B,P,C], by the first convolution as `matrix` [C',3*kh*kw] and `bias`, then a stem's others.

    Where all of a stem's convolutions step by their own size, a patch's token depends on this patch alone. Where they overlap, the
    patches become planes again, and `matrix` may have a fourth plane of ones, see `map_tokens`.
    """
    if weights.maps is not None:
        (height, width), (ph, pw) = grid, weights.spec.patch
        planes = rows.reshape(-1, height, width, 3, ph, pw).permute(0, 3, 1, 4, 2, 5).reshape(-1, 3, height * ph, width * pw)
        return embedded_planes(weights, planes, matrix, bias)[0]
    if not weights.stem:
        return F.linear(rows, matrix, bias)
    (ph, pw), (kh, kw) = weights.spec.patch, weights.patch_w.shape[2:]
    cells = rows.reshape(*rows.shape[:2], 3, ph // kh, kh, pw // kw, kw).permute(0, 1, 3, 5, 2, 4, 6)
    x = F.linear(cells.flatten(4), matrix, bias)
    for step in weights.stem:
        x = F.gelu(x)
        _, inner, kh, kw = step.w.shape
        cells = x.reshape(*x.shape[:2], x.shape[2] // kh, kh, x.shape[3] // kw, kw, inner).permute(0, 1, 2, 4, 6, 3, 5)
        x = F.linear(cells.flatten(4), step.w.flatten(1), step.b)
    return x.flatten(2)
