"""The ViT in a graph."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.checkpoints.vit_weights import Weights
from fastloc.export.attention_ops import ATTEND
from fastloc.export.inputs import Embed, embed_of
from fastloc.export.parts import Parts
from fastloc.functional.attention import local_form
from fastloc.functional.folding import FoldedViT, fold, without_scale
from fastloc.functional.op_set import TORCH, Ops, add_norm
from fastloc.functional.position_embedding import Positions, position_of_any_grid, relative_biases
from fastloc.functional.rotary import rotations
from fastloc.functional.similarity import Read, answer
from fastloc.functional.vit import positions

__all__ = ["ViTGraph"]

Grid = tuple[int, int]


class ViTGraph:
    """A ViT and its method, see `fastloc.export.parts.GraphTower`."""

    def __init__(self, parts: Parts) -> None:
        assert isinstance(parts.weights, Weights)
        options, dtype = parts.options, parts.dtype
        self.empty = parts.empty
        self.prepared: FoldedViT = fold(without_scale(parts.weights).to(dtype=dtype), parts.recipe, joint=True)
        attend = ATTEND[options.spelling]
        norm = add_norm if dtype == torch.float32 else _norm_in_float32
        self.ops = Ops(add_norm=norm, activate=TORCH.activate, attend=attend, local=local_form(attend, None), most=None)
        how = options.layout, options.bgr, options.resize
        self.embed: Embed = embed_of(options.kind, parts.weights, dtype, parts.geometry, *how, self.ops)
        self.fixed = None if parts.grid is None else positions(self.prepared.weights, parts.grid, parts.recipe)

    def __call__(
        self, picture: Tensor, texts: Tensor, read: Read, cls: bool, beside: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Grid]:  # fmt: skip
        tokens, grid = self.embed(picture)
        places = self._places(grid) if self.fixed is None else self.fixed
        similarity, cosines = answer(self.prepared, tokens, places, grid, texts, read, self.ops, cls, beside, self.empty)
        return similarity, cosines, grid

    def _places(self, grid: Grid) -> Positions:
        weights, row = self.prepared.weights, self.prepared.recipe
        table = position_of_any_grid(weights.pos, weights.spec.grid, grid, row.position, row.keep_position)
        turns = None if weights.spec.rope is None else rotations(weights.spec, grid, weights.pos)
        return Positions(table, turns, relative_biases(weights, grid))


def _norm_in_float32(
    x: Tensor, delta: Tensor | None, weight: Tensor, bias: Tensor, eps: float, lengths: bool = False
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The residual sum in the tower's dtype, its LayerNorm and lengths in float32; see `fastloc.functional.op_set.AddNorm`."""
    total = x if delta is None else x + delta
    y = F.layer_norm(total.float(), (total.shape[-1],), weight.float(), bias.float(), eps)
    return total, y.to(x.dtype), torch.linalg.vector_norm(y, dim=-1) if lengths else None
