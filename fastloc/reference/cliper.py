"""A slow, literal reference of CLIPer's scores, in the steps of its authors' code, modified_clip/model.py.

Its forward_transformer, custom_attn and forward take one picture a call. Choices for the cases that they leave open:

- the tokens in front of the patches, one, several or none, take part in the maps and are dropped from the output;
- norms behind attention and MLP: no level passes one at its input, as no block's input does;
- background words: without any, the empty text stands for them; without that, there is no background;
- its refinement by Stable Diffusion and its second pass over crops are left out.

Surprises of the authors' code, all kept here: an early level passes two LayerNorms, its own block's and the last block's; the attention's
first two divisions are in place, so each level's map has been balanced once more than the one before; the cells below the cutoff are set
to 0 in place too, and are 0 in the mean over the levels.

Read at: linsun449/cliper.code.
"""

import torch
from torch import Tensor

from fastloc.checkpoints.vit_weights import Weights
from fastloc.recipes import Recipe
from fastloc.reference import arithmetic, parts


def scores(
    weights: Weights, normed: list[Tensor], maps: list[Tensor], last: Tensor, texts: Tensor, row: Recipe, empty: Tensor | None
) -> Tensor:
    """CLIPer's scores [P, T] of one picture and unit texts [T, E].

    Args:
        normed, maps: for every block but the last, its projections' input, [1, N, C], and its attention, [1, H, N, N].
        last: the last block's input, [1, N, C].
        empty: [E], or background words [K, E], of unit length.
    """
    front, features = weights.spec.prefix, []
    # one map for all blocks, divided again for every level
    shared = torch.stack(maps).sum(0)
    for level in (*normed, last):
        shared = shared / shared.sum(-2, keepdim=True)
        shared = shared / shared.sum(-1, keepdim=True)
        attention = balanced(shared)
        features.append(through_last_block(weights, level, attention, row))
    background = [] if empty is None else [empty if empty.ndim == 2 else empty[None]]
    rivals = arithmetic.unit(torch.cat([texts, *background, texts.mean(0, keepdim=True)]))
    scale = row.score_scale(weights.logit_scale)
    shares = [arithmetic.softmax(scale * arithmetic.unit(each[front:]) @ rivals.T)[:, : len(texts)] for each in features]
    chosen = shares[row.start]
    shares[row.start] = chosen = torch.where(chosen < row.cutoff * chosen.amax(0, keepdim=True), torch.zeros_like(chosen), chosen)
    refined = attention[0].mean(0)[front:, front:].T @ chosen
    return refined + torch.stack(shares).mean(0)


def balanced(shared: Tensor) -> Tensor:
    """The attention of one level: the part above its columns' means of the map [1, H, N, N], after division by columns and rows."""
    attention = (shared + shared.mT) / 2
    attention = (attention - attention.mean(-2, keepdim=True)).clamp(min=0)
    return attention / attention.sum(-1, keepdim=True)


def through_last_block(weights: Weights, level: Tensor, attention: Tensor, row: Recipe) -> Tensor:
    """The last block's output on a level with this attention, without residual and MLP: [N, E]."""
    block, spec = weights.blocks[-1], weights.spec
    _, _, v = parts.qkv(block, parts.entered(block, level, spec), spec)
    return parts.project(weights, parts.out(block, attention @ v, spec)[0], row.patch_read)
