"""Position embeddings at another grid than the trained one, as the methods' authors resize them, and biases of relative positions."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.checkpoints.vit_weights import Block, Weights

# the number of a block, counted from 0 or from the end -> its addition to the logits q k^T, [1, H, S + P, S + P]
Biases = Callable[[int], Tensor]
# the most numbers of biases that are kept for a grid, those of all blocks together: 128 MB of float32
KEPT = 1 << 25


@dataclass(frozen=True)
class Positions:
    """The positions of a ViT's tokens on one grid: learned, rotary, and as a bias of the attention's logits."""

    table: Tensor  # [S + P, C], added to the tokens
    turns: Tensor | None = None  # [2, S + P, d/2], see `fastloc.functional.rotary.rotations`
    biases: Biases | None = None  # see `relative_biases`

    def bias_of(self, block: int) -> Tensor | None:
        """One block's bias [1, H, S + P, S + P]; None for a tower without."""
        return None if self.biases is None else self.biases(block)


def relative_biases(weights: Weights, grid: tuple[int, int]) -> Biases | None:
    """Each block's addition to the logits q k^T of a grid; None for a tower without.

    Of a query in row y and column x and a key in y', x', it is the block's MLP of the two numbers sign(t) log(1 + |t|), t = y - y' and
    x - x', with ReLU between its products. The S tokens in front get 0, as queries and as keys. Source: timm, layers/pos_embed_rel.py,
    RelPosMlp with mode "cr", after Swin V2 (arXiv 2111.09883, section 3.3). Distances are in patches whatever the grid, so a larger grid
    asks the MLP for longer ones, as timm's `set_input_size` does, and nothing is resized.

    They are made once, or at every call where they are more than `KEPT` numbers. An expression in the grid's sides, so that an exported
    graph can take any. In the dtype and on the device of `weights`, computed in float32 at least.
    """
    spec, count = weights.spec, grid[0] * grid[1]
    if not spec.relative:
        return None
    dtype = torch.promote_types(weights.dtype, torch.float32)
    down, across = (torch.arange(side, device=weights.device) for side in grid)
    # the place in a table of (2h - 1) x (2w - 1) distances
    rows, columns = (at[:, None] - at + side - 1 for at, side in zip((down, across), grid, strict=True))
    places = (rows[:, None, :, None] * (2 * grid[1] - 1) + columns[None, :, None, :]).reshape(-1)
    distances = [torch.arange(2 * side - 1, device=weights.device).to(dtype) - (side - 1) for side in grid]
    vertical, horizontal = (torch.sign(each) * torch.log1p(each.abs()) for each in distances)

    def of_block(block: Block) -> Tensor:
        assert block.relative_in_w is not None
        assert block.relative_in_b is not None
        assert block.relative_out_w is not None
        assert block.relative_out_b is not None
        by_row, by_column = block.relative_in_w.to(dtype).unbind(1)
        hidden = torch.relu(vertical[:, None, None] * by_row + horizontal[:, None] * by_column + block.relative_in_b.to(dtype))
        # the weight stands first: a graph's products with weights behind become 8 bits where asked, and a bias does not
        table = block.relative_out_w.to(dtype) @ hidden.flatten(0, 1).T + block.relative_out_b.to(dtype)[:, None]
        pairs = table.index_select(1, places).reshape(spec.heads, count, count)
        return F.pad(pairs, (spec.prefix, 0, spec.prefix, 0))[None].to(weights.dtype)

    # in an exported graph the count may be no number yet
    if isinstance(count, int) and spec.layers * spec.heads * (spec.prefix + count) ** 2 <= KEPT:
        return [of_block(block) for block in weights.blocks].__getitem__
    return lambda block: of_block(weights.blocks[block])


def resized_position(position: Tensor, trained: tuple[int, int], grid: tuple[int, int], mode: str, keep: bool = False) -> Tensor:
    """Resize the patches' rows of `position` [S + gh*gw, C] to `grid`; the S rows in front are kept. -> [S + h*w, C].

    mode: "bicubic-antialias" (GEM, LeGrad), "bicubic" (MaskCLIP), "bilinear" (CLIP Surgery), "bilinear-antialias" (SigLIP 2 NaFlex in
        transformers), or "bicubic-scale", the SCLIP family's resize by the factor (h + 0.1) / gh, which samples at other positions than a
        resize by size.
    keep: keep all rows for a grid of as many patches as the trained one, see `fastloc.recipes.Recipe`.
    """
    same = grid == trained or (keep and math.prod(grid) == math.prod(trained))
    return position if same else _resized(position, trained, _axes(position, trained, grid, mode))


def position_of_any_grid(position: Tensor, trained: tuple[int, int], grid: tuple[int, int], mode: str, keep: bool = False) -> Tensor:
    """`resized_position` for an exported graph, in which the grid may be unknown: no branch depends on its size."""
    rows, columns = _axes(position, trained, grid, mode)
    sides = torch.stack([torch.full((), side, device=position.device) for side in grid])
    # a resize by another factor than that of the sizes would change even the trained grid
    same = (sides == torch.tensor(trained, device=position.device)).all()
    kept = (torch.where(same, _diagonal(axis), axis) for axis in (rows, columns))
    resized = _resized(position, trained, tuple(kept))
    if not keep:
        return resized
    rows = torch.arange(resized.shape[0], device=position.device)
    as_many = sides.prod() == math.prod(trained)
    return torch.where(as_many, position[rows.clamp_max(len(position) - 1)], resized)


def _axes(position: Tensor, trained: tuple[int, int], grid: tuple[int, int], mode: str) -> tuple[Tensor, ...]:
    # never in half precision: the table is tiny
    like = torch.empty(0, dtype=torch.promote_types(position.dtype, torch.float32), device=position.device)
    return tuple(axis_weights(side, old, mode, like) for side, old in zip(grid, trained, strict=True))


def _resized(position: Tensor, trained: tuple[int, int], axes: tuple[Tensor, ...]) -> Tensor:
    rows, columns = axes
    prefix = len(position) - trained[0] * trained[1]
    table = position[prefix:].to(rows.dtype).reshape(*trained, -1).permute(2, 0, 1)
    resized = (rows @ table @ columns.transpose(0, 1)).permute(1, 2, 0)
    return torch.cat([position[:prefix], resized.flatten(0, 1).to(position.dtype)])


def _diagonal(like: Tensor) -> Tensor:
    """The identity matrix in the shape of `like`: 1 where row and column are the same."""
    row, column = (torch.arange(side, device=like.device) for side in like.shape)
    return (row[:, None] == column).to(like.dtype)


def axis_weights(side: int, cells: int, mode: str, like: Tensor) -> Tensor:
    """One axis of a resize as a matrix [side, cells], in the dtype and on the device of `like`.

    The weights equal those of `torch.nn.functional.interpolate` with align_corners=False. They are an expression in the sizes, so that an
    exported graph can take any.
    """
    at = torch.arange(side, dtype=like.dtype, device=like.device)[:, None] + 0.5
    cell = torch.arange(cells, dtype=like.dtype, device=like.device)
    # a tensor, because in an exported graph the size may be one
    size = torch.full((), side, dtype=like.dtype, device=like.device)
    step = cells / (size + 0.1) if mode == "bicubic-scale" else cells / size
    if mode in ("bicubic-antialias", "bilinear-antialias"):
        return _antialiased(at * step, cell, step.clamp_min(1.0), linear=mode == "bilinear-antialias")
    source = at * step - 0.5
    if mode == "bilinear":
        # beyond the middle of the border cells the value stays theirs
        return (1 - (source.clamp(0, cells - 1) - cell).abs()).clamp_min(0)
    first = source.floor()
    weights = torch.zeros_like(source * cell)
    for tap in range(-1, 3):
        # taps beyond the border fall onto the border cell
        place = (first + tap).clamp(0, cells - 1)
        weights = weights + torch.where(place == cell, _cubic(source - first - tap, -0.75), 0.0)
    return weights


def _antialiased(centre: Tensor, cell: Tensor, stretch: Tensor, linear: bool) -> Tensor:
    distance = (cell + 0.5 - centre) / stretch
    weights = (1 - distance.abs()).clamp_min(0) if linear else _cubic(distance, -0.5)
    return weights / weights.sum(1, keepdim=True)


def _cubic(distance: Tensor, a: float) -> Tensor:
    """Keys' cubic convolution kernel."""
    x = distance.abs()
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))
