"""The graph of a file: the functional ViT with its inputs and outputs, as a module that PyTorch's exporter can trace."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastloc.checkpoints.vit_weights import Weights
from fastloc.export.attention_ops import ATTEND
from fastloc.export.inputs import Embed, embed_of
from fastloc.export.options import Options
from fastloc.export.outputs import MADE, Place
from fastloc.functional import readout
from fastloc.functional.attention import local_form
from fastloc.functional.folding import FoldedViT, fold, without_scale
from fastloc.functional.op_set import TORCH, Ops, add_norm
from fastloc.functional.output import Output
from fastloc.functional.position_embedding import Positions, position_of_any_grid
from fastloc.functional.rotary import rotations
from fastloc.functional.similarity import answer
from fastloc.functional.vit import positions
from fastloc.imaging.geometry import Geometry
from fastloc.recipes import Recipe

TOWERS = {"float16": torch.float16}


@dataclass(frozen=True)
class Parts:
    """The parts of a graph. `weights` are in float32."""

    weights: Weights
    recipe: Recipe
    options: Options
    geometry: Geometry | None  # of the frames, for kind "frames"
    texts: Tensor | None  # [T, E], baked
    empty: Tensor | None  # [E], the text without a thing: for maps that read it and the background


class Graph(nn.Module):
    """A picture [B, …] and, unless they are baked, text embeddings [T, E] -> the outputs in the options' order."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        options, tower = parts.options, without_scale(parts.weights)
        self.parts = parts
        self.dtype = TOWERS.get(options.dtype, torch.float32)
        self.prepared: FoldedViT = fold(tower.to(dtype=self.dtype), parts.recipe, joint=True)
        attend = ATTEND[options.spelling]
        norm = add_norm if self.dtype == torch.float32 else _norm_in_float32
        self.ops = Ops(add_norm=norm, activate=TORCH.activate, attend=attend, local=local_form(attend, None), most=None)
        how = options.layout, options.bgr, options.resize
        self.embed: Embed = embed_of(options.kind, parts.weights, self.dtype, parts.geometry, *how, self.ops)
        self.outputs = options.outputs
        # with a static size the tracer must see numbers, not their computation
        grid = None if options.size is None else _grid(options.size, parts.weights)
        self.fixed = None if grid is None else positions(self.prepared.weights, grid, parts.recipe)

    def forward(self, picture: Tensor, text_embeddings: Tensor | None = None) -> tuple[Tensor, ...]:
        texts = self.parts.texts if text_embeddings is None else text_embeddings
        assert texts is not None
        tokens, grid = self.embed(picture)
        weights = self.prepared.weights
        places = self.fixed
        if places is None:
            row = self.prepared.recipe
            table = position_of_any_grid(weights.pos, weights.spec.grid, grid, row.position, row.keep_position)
            places = Positions(table, None if weights.spec.rope is None else rotations(weights.spec, grid, weights.pos))
        cls = self.parts.options.embeds or readout.needs_cls(self.prepared.recipe.readout, self._count())
        beside = self.parts.empty if "background" in self.outputs else None
        similarity, cosines = answer(self.prepared, tokens, places, grid, texts, self._similarity, self.ops, cls, beside, self.parts.empty)
        found = {"similarity": similarity, "scores": cosines}
        if beside is not None and cosines is not None:
            found |= {"scores": cosines[:, :-1], "background": cosines[:, -1:]}
        place = Place(self.parts.geometry, (picture.shape[-2], picture.shape[-1]), grid)
        for name in self.outputs:
            if name in MADE:
                found[name] = MADE[name](similarity, place, self.prepared.recipe.readout)
        return tuple(found[name] for name in self.outputs)  # type: ignore[misc]  # scores are an output only where there are any

    def _count(self) -> int:
        """The number of texts; 2 stands for any number."""
        return len(self.parts.options.texts) or self.parts.options.count or 2

    def _similarity(self, out: Output, texts: Tensor) -> Tensor:
        options, score = self.parts.options, self.prepared.recipe.readout
        several = readout.similarity(out, texts, score, self.parts.empty)
        if score.score != "feature-surgery" or options.texts or options.count is not None:
            return several
        # any number of texts: a single one is compared with the empty text
        assert self.parts.empty is not None
        alone = torch.ones_like(texts[:, 0]).sum() < 1.5
        single = readout.similarity(out, texts - self.parts.empty, replace(score, score="cosine"))
        return torch.where(alone, single, several)


def _grid(size: tuple[int, int], weights: Weights) -> tuple[int, int]:
    return size[0] // weights.spec.patch[0], size[1] // weights.spec.patch[1]


def _norm_in_float32(
    x: Tensor, delta: Tensor | None, weight: Tensor, bias: Tensor, eps: float, lengths: bool = False
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The residual sum in the tower's dtype, its LayerNorm and lengths in float32; see `fastloc.functional.op_set.AddNorm`."""
    total = x if delta is None else x + delta
    y = F.layer_norm(total.float(), (total.shape[-1],), weight.float(), bias.float(), eps)
    return total, y.to(x.dtype), torch.linalg.vector_norm(y, dim=-1) if lengths else None
