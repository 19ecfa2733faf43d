"""Slow, literal references of every method on hierarchical towers, from the equations. The fast path is tested against them.

The stages come from `fastloc.functional.hierarchical`, whose families are tested against timm's own modules; what stands here is the part
behind the last map, cell by cell, Grad-CAM by autograd through everything, and the local path of a FastViT's last stage with every map of
attention in memory.
"""

import math

import torch
from torch import Tensor

from fastloc.checkpoints.hierarchical.fastvit import HEAD_WIDTH, AttentionBlock
from fastloc.checkpoints.hierarchical.parts import LayerNorm, Linear
from fastloc.checkpoints.hierarchical.weights import Head, HierarchicalWeights
from fastloc.functional.hierarchical import fastvit
from fastloc.functional.hierarchical.forms import FORMS
from fastloc.functional.hierarchical.stages import MAPS
from fastloc.recipes import Recipe
from fastloc.reference import any_recipe, arithmetic, readouts
from fastloc.reference.resnet import cam_map, softmax

__all__ = ["any_scores", "encoder", "grad_cam", "itsm", "local_path", "maps_of", "scores"]


def itsm(weights: HierarchicalWeights, pixels: Tensor) -> Tensor:
    """Every cell of the last map as if it were the whole: [B, P, E]."""
    return _cells(weights, maps_of(weights, pixels)[-1])


def encoder(weights: HierarchicalWeights, pixels: Tensor) -> Tensor:
    """The image embedding, [B, E]."""
    return torch.stack([embed(weights.head, x) for x in maps_of(weights, pixels)[-1]])


def scores(weights: HierarchicalWeights, pixels: Tensor, texts: Tensor) -> Tensor:
    """Cosines of the cells with unit texts [T, E]: [B, P, T]."""
    return readouts.cosine(itsm(weights, pixels), texts)


def any_scores(weights: HierarchicalWeights, pixels: Tensor, texts: Tensor, row: Recipe, empty: Tensor | None = None) -> Tensor:
    """A recipe's scores of normalised pixels [B, 3, H, W] and unit texts [T, E], in the weights' dtype: [B, P, T].

    empty: [E], the empty text's embedding, for feature surgery with one text. weights: as they were trained, not folded.
    """
    if row.reads != "patches":
        with torch.enable_grad():
            maps = grad_cam(weights, pixels, texts, row.target, row.score_scale(weights.logit_scale), row.start or -1, row.cam)
        return maps.detach().flatten(2).transpose(1, 2)
    cells = itsm(weights, pixels) if row.name in FORMS else local_path(weights, pixels, row)
    if row.readout.score != "feature-surgery":
        return readouts.cosine(cells, texts)
    if empty is not None and len(texts) == 1:
        return readouts.minus_empty(cells, texts, empty)
    whole = encoder(weights, pixels)
    pairs = zip(whole, cells, strict=True)
    return torch.cat([readouts.feature_surgery(torch.cat([one[None, None], each[None]], 1), texts)[:, 1:] for one, each in pairs])


def local_path(weights: HierarchicalWeights, pixels: Tensor, row: Recipe) -> Tensor:
    """Cells of a recipe's local path in a FastViT's last stage, see `fastloc.functional.hierarchical.self_self`: [B, P, E].

    The encoder's own map gates the final convolution. weights: as they were trained, not folded.
    """
    trunk = weights.trunk
    x = fastvit.tokens(trunk, pixels.to(weights.dtype))
    blocks = [block for block in trunk.stages[-1].blocks if isinstance(block, AttentionBlock)]
    first, local = len(blocks) - row.blocks, x
    for i, block in enumerate(blocks):
        if i == first:
            local = x if row.residual else torch.zeros_like(x)
        y, q, k, v = _projections(block, x)
        if i >= first:
            given = {"q": q, "k": k, "v": v}
            local = local + _attended(block, any_recipe.combined(row, i - first, y, given, 0, (x.shape[2], x.shape[3])) @ v, x)
        x = x + _attended(block, arithmetic.attend(q, k, v), x)
        x = x + fastvit.mlp(x, block.mlp)
    if row.blocks == 0:
        local = x
    elif row.mlp:
        local = local + fastvit.mlp(local, blocks[-1].mlp)
    final = trunk.final
    own, here = fastvit.summed(x, final.conv), fastvit.summed(local, final.conv)
    gated = here if final.excite is None else here * fastvit.excited(own, final.excite)
    return _cells(weights, gated / 2 * (1 + torch.erf(gated / math.sqrt(2))))


def grad_cam(
    weights: HierarchicalWeights, pixels: Tensor, texts: Tensor, target: str = "cosine", scale: float = 100.0, start: int = -1,
    cam: str = "grad-cam",
) -> Tensor:  # fmt: skip
    """Grad-CAM, Grad-CAM++ or LayerCAM on one map, see `fastloc.reference.resnet.cam_map`: maps [B, T, h, w] of unit texts [T, E].

    start: the map, counted from the end. target: y is the cosine, the logit (`scale` times it), or the text's share in a softmax of the
    logits; of one text alone the logit.
    """
    pictures = []
    for picture in pixels:
        maps = []
        for index in range(len(texts)):
            stages = maps_of(weights, picture[None].clone().requires_grad_())
            embedding = embed(weights.head, stages[-1][0])
            cosines = texts @ (embedding / torch.sqrt((embedding * embedding).sum()))
            logits = cosines if target == "cosine" else scale * cosines
            y = softmax(logits) if target == "softmax" and len(texts) > 1 else logits
            (gradient,) = torch.autograd.grad(y[index], stages[start])
            maps.append(cam_map(stages[start].detach()[0], gradient[0], cam))
        pictures.append(torch.stack(maps))
    return torch.stack(pictures)


def maps_of(weights: HierarchicalWeights, pixels: Tensor) -> list[Tensor]:
    """The maps of all stages, [B, C, h, w] each."""
    return list(MAPS[weights.spec.family](weights.trunk, pixels.to(weights.dtype)))


def _cells(weights: HierarchicalWeights, maps: Tensor) -> Tensor:
    """Every cell of [B, C, h, w] as if it were the whole map: [B, P, E]."""
    found = []
    for x in maps:
        cells = [x[:, row, column] for row in range(x.shape[1]) for column in range(x.shape[2])]
        found.append(torch.stack([embed(weights.head, cell[:, None, None]) for cell in cells]))
    return torch.stack(found)


def _projections(block: AttentionBlock, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The normed cells [B, P, C], and q, k and v, [B, H, P, d] each."""
    assert block.norm is not None, "a folded tower has no norm left"
    y = fastvit.normed(x, block.norm).flatten(2).transpose(1, 2)
    q, k, v = (y @ weight.T for weight in block.qkv.weight.chunk(3))
    heads = [each.reshape(*each.shape[:2], -1, HEAD_WIDTH).transpose(1, 2) for each in (q, k, v)]
    return y, heads[0], heads[1], heads[2]


def _attended(block: AttentionBlock, gathered: Tensor, like: Tensor) -> Tensor:
    """The out-projection of [B, H, P, d] and its scale, as a map."""
    rows = gathered.transpose(1, 2).flatten(2) @ block.out.weight.T + (0 if block.out.bias is None else block.out.bias)
    return fastvit.scaled(rows, block.scale).transpose(1, 2).reshape(like.shape)


def embed(head: Head, x: Tensor) -> Tensor:
    """The head's embedding of one map: [C, h, w] -> [E]."""
    cells = x.flatten(1).T
    if head.norm is not None and head.norm_first:
        cells = torch.stack([layer_norm(head.norm, cell) for cell in cells])
    mean = cells.sum(0) / len(cells)
    if head.norm is not None and not head.norm_first:
        mean = layer_norm(head.norm, mean)
    if head.hidden is not None:
        hidden = linear(head.hidden, mean)
        mean = hidden / 2 * (1 + torch.erf(hidden / math.sqrt(2)))
    return linear(head.out, mean)


def layer_norm(norm: LayerNorm, x: Tensor) -> Tensor:
    """A LayerNorm of one vector [C]."""
    centred = x - x.sum() / len(x)
    return centred / torch.sqrt((centred * centred).sum() / len(x) + norm.eps) * norm.scale + norm.shift


def linear(layer: Linear, x: Tensor) -> Tensor:
    """A linear layer of one vector."""
    return layer.weight @ x + (0 if layer.bias is None else layer.bias)
