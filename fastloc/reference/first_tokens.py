"""The first tokens of a tower and their places: embedded pixels, learned positions, rotary angles and biases of relative positions."""

import math
from dataclasses import replace
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.checkpoints.resnet_weights import ResNetWeights
from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.checkpoints.vit_weights import Block, MapStem, Weights
from fastloc.reference.arithmetic import activate, layer_norm

__all__ = ["Grid", "angles", "embed", "grid_of", "keeping_position", "overlapping", "relative_bias"]

Grid = tuple[int, int]
Tower = TypeVar("Tower", Weights, ResNetWeights)


def embed(weights: Weights, pixels: Tensor, position: str) -> Tensor:
    """Embed pixels: the stem's convolutions, the tokens in front, position embedding, first LayerNorm. [B, S+P, C]."""
    if weights.maps is not None:
        planes = overlapping(weights.maps, pixels.to(weights.dtype), weights)
    else:
        planes = F.conv2d(pixels.to(weights.dtype), weights.patch_w, weights.patch_b, stride=weights.patch_w.shape[2:])
    for step in weights.stem:
        planes = F.conv2d(activate(planes, "gelu"), step.w, step.b, stride=step.w.shape[2:])
    tokens = torch.cat([weights.prefix.repeat(len(pixels), 1, 1), planes.flatten(2).mT], 1)
    x = tokens + _position(weights, grid_of(weights, pixels), position)
    if weights.ln_pre_w is None or weights.ln_pre_b is None:
        return x
    return layer_norm(x, weights.ln_pre_w, weights.ln_pre_b, weights.spec.norm_eps)


def overlapping(maps: MapStem, planes: Tensor, weights: Weights) -> Tensor:
    """ViTamin's stem (arXiv 2404.02132, section 3.3), [B,3,H,W] -> [B,C,H/16,W/16]: convolutions 3x3, and MBConv blocks with LayerNorm."""

    def normed(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return layer_norm(x.movedim(1, -1), weight, bias, weights.spec.norm_eps).movedim(-1, 1)

    x = F.conv2d(planes, weights.patch_w, weights.patch_b, stride=2, padding=1)
    x = F.conv2d(activate(normed(x, maps.norm_w, maps.norm_b), "gelu"), maps.second_w, maps.second_b, padding=1)
    for block in maps.blocks:
        step = 2 if block.halves else 1
        y = activate(F.conv2d(normed(x, block.norm_w, block.norm_b), block.widen_w[:, :, None, None], block.widen_b), "gelu")
        y = activate(F.conv2d(y, block.depth_w, block.depth_b, stride=step, padding=1, groups=y.shape[1]), "gelu")
        if block.halves:
            # the mean of the cells that a window of 3x3 holds
            window = planes.new_ones(1, 1, 3, 3)
            sums = F.conv2d(x.flatten(0, 1)[:, None], window, stride=2, padding=1)
            means = sums / F.conv2d(x.new_ones(1, 1, *x.shape[2:]), window, stride=2, padding=1)
            x = means.reshape(*x.shape[:2], *means.shape[2:])
        if block.short_w is not None:
            x = F.conv2d(x, block.short_w[:, :, None, None], block.short_b)
        x = x + F.conv2d(y, block.narrow_w[:, :, None, None], block.narrow_b)
    return F.conv2d(normed(x, maps.end_norm_w, maps.end_norm_b), maps.end_w, maps.end_b, stride=2, padding=1)


def grid_of(weights: Weights, pixels: Tensor) -> Grid:
    return pixels.shape[2] // weights.spec.patch[0], pixels.shape[3] // weights.spec.patch[1]


def keeping_position(weights: Tower, pixels: Tensor) -> Tower:
    """The tower as CLIP Surgery, SCLIP and related methods treat it.

    They compare only the number of patches with the trained one, so a grid of as many patches in another shape counts as the trained grid.
    """
    (height, width), (down, across) = pixels.shape[2:], weights.spec.patch
    if height // down * (width // across) != math.prod(weights.spec.grid):
        return weights
    return replace(weights, spec=replace(weights.spec, image=(height, width)))


def _position(weights: Weights, grid: Grid, mode: str) -> Tensor:
    trained = weights.spec.grid
    if grid == trained:
        return weights.pos
    # torch has no half-precision resize with antialias
    accumulate_dtype = torch.promote_types(weights.dtype, torch.float32)
    front = weights.pos[: weights.spec.prefix]
    table = weights.pos[weights.spec.prefix :].to(accumulate_dtype).reshape(1, *trained, -1).permute(0, 3, 1, 2)
    # GEM, and SigLIP 2 NaFlex
    if mode.endswith("-antialias"):
        table = F.interpolate(table, size=grid, mode=mode.removesuffix("-antialias"), antialias=True)
    # SCLIP, ClearCLIP and NACLIP resize to a tenth of a patch more, and that factor moves the sampling positions
    elif mode == "bicubic-scale":
        factor = (grid[0] + 0.1) / trained[0], (grid[1] + 0.1) / trained[1]
        table = F.interpolate(table, scale_factor=factor, mode="bicubic", recompute_scale_factor=False)
    # MaskCLIP "bicubic", CLIP Surgery "bilinear"
    else:
        table = F.interpolate(table, size=grid, mode=mode)
    return torch.cat([front, table.permute(0, 2, 3, 1).reshape(grid[0] * grid[1], -1).to(weights.dtype)])


def angles(weights: Weights, grid: Grid) -> Tensor | None:
    """The angle of every token and pair of a head's channels, float64 [N, d/2]: patch by patch, 0 for the tokens in front."""
    spec, rope = weights.spec, weights.spec.rope
    if rope is None:
        return None
    quarter = spec.head_width // 4
    rows = [[0.0] * (2 * quarter)] * spec.prefix
    for row in range(grid[0]):
        for column in range(grid[1]):
            y, x = row + rope.offset, column + rope.offset
            if rope.grid is not None:
                # EVA-02: as many steps as the pre-training had patches, whatever the picture's grid
                y, x = y * rope.grid[0] / grid[0], x * rope.grid[1] / grid[1]
            first, second = (x, y) if rope.first == "columns" else (y, x)
            theta = [10000 ** (-j / quarter) for j in range(quarter)]
            rows.append([first * each for each in theta] + [second * each for each in theta])
    return torch.tensor(rows, dtype=torch.float64, device=weights.device)


def relative_bias(block: Block, spec: ModelSpec, grid: Grid) -> Tensor | float:
    """A block's addition to the logits of queries and keys [H, N, N], pair by pair, 0 for the tokens in front; 0.0 in towers without.

    timm's RelPosMlp (layers/pos_embed_rel.py, mode "cr"): an MLP of a query's distance from a key, in rows and in columns.
    """
    if block.relative_in_w is None or block.relative_in_b is None or block.relative_out_w is None or block.relative_out_b is None:
        return 0.0
    places = [(row, column) for row in range(grid[0]) for column in range(grid[1])]
    pairs = [[_signed_log(a - b) for a, b in zip(query, key, strict=True)] for query in places for key in places]
    inputs = torch.tensor(pairs, dtype=torch.float64).to(block.relative_in_w)
    hidden = (inputs @ block.relative_in_w.T + block.relative_in_b).clamp(min=0)
    found = hidden @ block.relative_out_w.T + block.relative_out_b
    of_patches = found.reshape(len(places), len(places), spec.heads).permute(2, 0, 1)
    return F.pad(of_patches, (spec.prefix, 0, spec.prefix, 0))


def _signed_log(distance: int) -> float:
    return math.copysign(math.log(1 + abs(distance)), distance)
