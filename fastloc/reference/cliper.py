"""CLIPer's scores once more: slow, literal, in the steps of its authors' code, modified_clip/model.py.

Its forward_transformer, custom_attn and forward take one picture a call. Where they leave a case open:

- the tokens in front of the patches, one, several or none, take part in the maps and are dropped from what is read;
- norms behind attention and MLP: no level passes one on its way in, as no block's input does;
- background words: the empty text alone stands for them where there are none, or nothing;
- its refinement by Stable Diffusion and its second pass over crops are left out.

What surprises in them, all of it kept here: an early level passes two LayerNorms, its own block's and the last block's; the attention's
first two divisions are in place, so that each level's map has been balanced once more than the one before; the cells that the cutoff makes
0 are set in place too, and are 0 in the mean over the levels.

Read at: linsun449/cliper.code.
"""

import torch
from torch import Tensor

from fastloc.checkpoints.vit_weights import Weights
from fastloc.recipes import Recipe
from fastloc.reference import parts


def scores(
    weights: Weights, normed: list[Tensor], maps: list[Tensor], last: Tensor, texts: Tensor, row: Recipe, empty: Tensor | None
) -> Tensor:
    """[P, T] of one picture and unit texts [T, E].

    Args:
        normed, maps: of every block but the last, what its projections read, [1, N, C], and its attention, [1, H, N, N].
        last: what the last block reads, [1, N, C].
        empty: [E], or background words [K, E], of unit length.
    """
    front, features = weights.spec.prefix, []
    # one map for all blocks, divided anew for every level
    shared = torch.stack(maps).sum(0)
    for level in (*normed, last):
        shared = shared / shared.sum(-2, keepdim=True)
        shared = shared / shared.sum(-1, keepdim=True)
        attention = balanced(shared)
        features.append(through_last_block(weights, level, attention, row))
    background = [] if empty is None else [empty if empty.ndim == 2 else empty[None]]
    rivals = parts.unit(torch.cat([texts, *background, texts.mean(0, keepdim=True)]))
    scale = row.score_scale(weights.logit_scale)
    shares = [parts.softmax(scale * parts.unit(each[front:]) @ rivals.T)[:, : len(texts)] for each in features]
    chosen = shares[row.start]
    shares[row.start] = chosen = torch.where(chosen < row.cutoff * chosen.amax(0, keepdim=True), torch.zeros_like(chosen), chosen)
    refined = attention[0].mean(0)[front:, front:].T @ chosen
    return refined + torch.stack(shares).mean(0)


def balanced(shared: Tensor) -> Tensor:
    """The attention of one level, of the map [1, H, N, N] that was divided by its columns and rows: what lies above its columns' means."""
    attention = (shared + shared.mT) / 2
    attention = (attention - attention.mean(-2, keepdim=True)).clamp(min=0)
    return attention / attention.sum(-1, keepdim=True)


def through_last_block(weights: Weights, level: Tensor, attention: Tensor, row: Recipe) -> Tensor:
    """The last block's values of a level as this attention sees them, without residual and MLP: [N, E]."""
    block, spec = weights.blocks[-1], weights.spec
    _, _, v = parts.qkv(block, parts.entered(block, level, spec), spec)
    return parts.project(weights, parts.out(block, attention @ v, spec)[0], row.patch_read)
