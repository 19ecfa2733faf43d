"""Block-by-block views of the encoder: the depth at which a class emerges, and the targets of its attentions.

After the analyses of CLIP Surgery (Li et al., arXiv 2304.05653, figures 3 and 8), of which no code was published. Each function states the
choices that their descriptions leave open. Everything is read from the unchanged encoder, in plain PyTorch.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.checkpoints.vit_weights import Weights
from fastloc.functional.attention import attend
from fastloc.functional.blocks import biased, embed, enter_block, mlp, out_projection, project, turned
from fastloc.functional.folding import without_scale
from fastloc.functional.op_set import TORCH
from fastloc.functional.patch_stem import patch_tokens
from fastloc.functional.pools import head, pooled
from fastloc.functional.position_embedding import Positions, relative_biases, resized_position
from fastloc.functional.rotary import rotations
from fastloc.functional.vit import check_pixels

# sub-modules of a block, in the order in which they run
MODULES = ("attention", "ffn")
# the pairs of projections that an attention compares
ATTENTIONS = ("qk", "qq", "kk", "vv")
POSITION = "bilinear"


@dataclass(frozen=True)
class Step:
    """One block: its input, its projections, and its two sub-modules' additions to the residual stream, LayerScale included."""

    before: Tensor  # [B, N, C]
    qkv: Tensor  # [B, 3, H, N, d]
    attention: Tensor  # [B, N, C]
    ffn: Tensor  # [B, N, C]
    bias: Tensor | None = None  # [1, H, N, N], the tower's own addition to the logits q k^T

    @property
    def after(self) -> Tensor:
        """The residual stream after the block."""
        return self.before + self.attention + self.ffn


def walk(weights: Weights, pixels: Tensor, position: str = POSITION) -> Iterator[Step]:
    """Yield the blocks of the unchanged encoder on normalised pixels [B, 3, H, W].

    Raises:
        ModelError: the shape of `pixels` does not fit the model.
    """
    check_pixels(weights.spec, pixels)
    weights, spec = without_scale(weights), weights.spec
    tokens, grid = patch_tokens(weights, pixels)
    turns = None if spec.rope is None else rotations(spec, grid, weights.pos)
    places = Positions(resized_position(weights.pos, spec.grid, grid, position), turns, relative_biases(weights, grid))
    x = embed(weights, tokens, places)
    for i, block in enumerate(weights.blocks):
        _, y, _ = enter_block(block, x, None, spec, TORCH)
        qkv = turned(block, biased(project(y, (block.qkv_w, block.qkv_b), spec, "qkv"), places, i), spec, places)
        attention = out_projection(block, attend(qkv["q"], qkv["k"], qkv["v"], spec.head_width**-0.5, qkv.bias), spec)
        step = Step(x, qkv.by_head, attention, mlp(block, x + attention, spec), qkv.bias)
        yield step
        x = step.after


def module_cosines(weights: Weights, pixels: Tensor, texts: Tensor, position: str = POSITION) -> tuple[Tensor, Tensor]:
    """Cosines of each sub-module's output with each text: (contribution, accumulated), each [B, L, 2, T].

    The output is mapped as the encoder maps its last block's to the image embedding, by the class token, the mean of the patches or the
    attention pool, and compared with the unit texts [T, E]. The paper does not describe its map, hence both: "contribution" maps the
    sub-module's addition to the residual stream, "accumulated" the stream after it. Axis 2 is `MODULES`. The last accumulated value is
    the cosine of the image embedding. The last LayerNorm makes the map non-linear, so contributions do not add up to the accumulated
    value. An attention pool adds to this: its attention to a contribution is computed from that contribution alone.
    """
    contribution, accumulated = [], []
    for step in walk(weights, pixels, position):
        for before, added in ((step.before, step.attention), (step.before + step.attention, step.ffn)):
            contribution.append(_cosine(weights, added, texts))
            accumulated.append(_cosine(weights, before + added, texts))
    shape = len(pixels), weights.spec.layers, len(MODULES), len(texts)
    return torch.stack(contribution, 1).reshape(shape), torch.stack(accumulated, 1).reshape(shape)


def _cosine(weights: Weights, tokens: Tensor, texts: Tensor) -> Tensor:
    return F.normalize(pooled(weights, tokens), dim=-1) @ texts.to(tokens.dtype).T


def anchors(weights: Weights, pixels: Tensor, texts: Tensor, position: str = POSITION) -> Tensor:
    """The patch most similar to each text, int64 [B, T], by the largest cosine of the unchanged encoder's patch features."""
    *_, last = walk(weights, pixels, position)
    patches = F.normalize(head(weights, last.after[:, weights.spec.prefix :]), dim=-1)
    return (patches @ texts.to(patches.dtype).T).argmax(1)


def attention_rows(weights: Weights, pixels: Tensor, patches: Tensor, position: str = POSITION) -> Tensor:
    """The attention rows of chosen patches in every block: [B, L, 4, A, H, P], for patches int64 [B, A].

    Each is the patch's row of softmax(p_a p'^T / sqrt(d)) over all tokens, for p and p' as in `ATTENTIONS` (axis 2); a tower's bias of
    relative positions is in the logits of "qk". The columns of the
    tokens in front are dropped, so a row sums to the share of the patches. The encoder itself computes only "qk"; the others are the
    comparisons of CLIP Surgery.
    """
    rows = []
    for step in walk(weights, pixels, position):
        streams = dict(zip("qkv", step.qkv.unbind(1), strict=True))
        prefix = weights.spec.prefix
        biases = {"qk": step.bias}
        pairs = [_rows(streams[term[0]], streams[term[1]], patches, prefix, biases.get(term)) for term in ATTENTIONS]
        rows.append(torch.stack(pairs, 1))
    return torch.stack(rows, 1)


def _rows(p: Tensor, other: Tensor, patches: Tensor, prefix: int, bias: Tensor | None) -> Tensor:
    """Attention rows of the chosen patches: p and other [B, H, N, d], a bias [1, H, N, N] -> [B, A, H, P]."""
    index = (prefix + patches)[:, None, :, None].expand(-1, p.shape[1], -1, p.shape[3])
    chosen = p.gather(2, index)
    logits: Tensor = chosen @ other.mT * p.shape[3] ** -0.5
    if bias is not None:
        logits = logits + bias[0][:, prefix + patches].transpose(0, 1)
    return logits.softmax(-1)[..., prefix:].transpose(1, 2)
