"""The parts that the literal methods are made of: walks through the encoder, one block's steps, read-outs and maps.

Everything is written out: every token goes through every block, and every N x N attention map is held.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.checkpoints.vit_weights import Block, Weights
from fastloc.errors import ModelError

Grid = tuple[int, int]
# (index of the changed block, y [B,N,C], q, k and v [B,H,N,d]) -> [B,H,N,d]
Attention = Callable[[int, Tensor, Tensor, Tensor, Tensor], Tensor]


# the walks through the encoder that the methods share


def encoder(weights: Weights, pixels: Tensor, position: str) -> tuple[Tensor, Tensor]:
    """The untouched encoder: its image embedding [B, E] and its patch features [B, P, E]."""
    x = walk(weights, embed(weights, pixels, position), weights.blocks)
    return pooled(weights, x), project(weights, x)[:, 1:]


def dual_paths(
    weights: Weights, pixels: Tensor, blocks: int, attention: Attention, position: str, residual: bool
) -> tuple[Tensor, Tensor]:
    """(g, x) after the last block, each [B, N, C]: x is the untouched path; g adds, in the last `blocks` blocks, `attention` of x."""
    spec = weights.spec
    if not 0 <= blocks <= spec.layers:
        raise ModelError(f"{blocks} changed blocks do not fit a model of {spec.layers}")
    first = spec.layers - blocks
    x = walk(weights, embed(weights, pixels, position), weights.blocks[:first])
    g = x if residual else torch.zeros_like(x)
    for index, block in enumerate(weights.blocks[first:]):
        y = layer_norm(x, block.ln1_w, block.ln1_b, spec.norm_eps)
        q, k, v = qkv(block, y, spec.heads)
        g = g + out(block, attention(index, y, q, k, v))
        x = x + out(block, attend(q, k, v))
        x = x + mlp(block, x, spec)
    return g, x


def last_block(weights: Weights, pixels: Tensor, attention: Attention, position: str, plain: bool) -> Tensor:
    """Patch features with another attention in the last block; its residual and MLP are kept (`plain`) or dropped."""
    spec, block = weights.spec, weights.blocks[-1]
    x = walk(weights, embed(weights, pixels, position), weights.blocks[:-1])
    y = layer_norm(x, block.ln1_w, block.ln1_b, spec.norm_eps)
    attended = out(block, attention(0, y, *qkv(block, y, spec.heads)))
    if not plain:
        return project(weights, attended)[:, 1:]
    x = x + attended
    return project(weights, x + mlp(block, x, spec))[:, 1:]


def walk(weights: Weights, x: Tensor, blocks: tuple[Block, ...]) -> Tensor:
    spec = weights.spec
    for block in blocks:
        y = layer_norm(x, block.ln1_w, block.ln1_b, spec.norm_eps)
        x = x + out(block, attend(*qkv(block, y, spec.heads)))
        x = x + mlp(block, x, spec)
    return x


# the parts of the encoder, from equations


def embed(weights: Weights, pixels: Tensor, position: str) -> Tensor:
    """Patches cut out and multiplied by their weights, class token, position embedding, first LayerNorm: [B, 1+P, C]."""
    height, width = weights.spec.patch
    cut = pixels.to(weights.dtype).unfold(2, height, height).unfold(3, width, width)
    patches = cut.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2) @ weights.patch_w.flatten(1).T
    x = torch.cat([weights.cls.repeat(len(pixels), 1, 1), patches], 1) + _position(weights, grid_of(weights, pixels), position)
    if weights.ln_pre_w is None or weights.ln_pre_b is None:
        return x
    return layer_norm(x, weights.ln_pre_w, weights.ln_pre_b, weights.spec.norm_eps)


def grid_of(weights: Weights, pixels: Tensor) -> Grid:
    return pixels.shape[2] // weights.spec.patch[0], pixels.shape[3] // weights.spec.patch[1]


def _position(weights: Weights, grid: Grid, mode: str) -> Tensor:
    trained = weights.spec.grid
    if grid == trained:
        return weights.pos
    # torch has no half-precision resize with antialias
    accumulate_dtype = torch.promote_types(weights.dtype, torch.float32)
    table = weights.pos[1:].to(accumulate_dtype).reshape(1, *trained, -1).permute(0, 3, 1, 2)
    # GEM
    if mode == "bicubic-antialias":
        table = F.interpolate(table, size=grid, mode="bicubic", antialias=True)
    # SCLIP, ClearCLIP and NACLIP ask for a tenth of a patch too much, and the samples lie where that factor puts them
    elif mode == "bicubic-scale":
        factor = (grid[0] + 0.1) / trained[0], (grid[1] + 0.1) / trained[1]
        table = F.interpolate(table, scale_factor=factor, mode="bicubic", recompute_scale_factor=False)
    # MaskCLIP "bicubic", CLIP Surgery "bilinear"
    else:
        table = F.interpolate(table, size=grid, mode=mode)
    return torch.cat([weights.pos[:1], table.permute(0, 2, 3, 1).reshape(grid[0] * grid[1], -1).to(weights.dtype)])


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last axis."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt((centred * centred).mean(-1, keepdim=True) + eps) * weight + bias


def qkv(block: Block, y: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """The three projections of y [B,N,C], each [B,H,N,d]."""
    batch, tokens, width = y.shape
    projected = (y @ block.qkv_w.T + block.qkv_b).reshape(batch, tokens, 3, heads, width // heads)
    q, k, v = projected.permute(2, 0, 3, 1, 4)
    return q, k, v


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v."""
    return softmax(logits(q, k)) @ v


def logits(q: Tensor, k: Tensor) -> Tensor:
    """q k^T / sqrt(d): [B,H,N,N]."""
    return q @ k.mT / math.sqrt(q.shape[-1])


def unit(x: Tensor) -> Tensor:
    """Length 1 along the last axis."""
    return x / torch.sqrt((x * x).sum(-1, keepdim=True))


def softmax(x: Tensor) -> Tensor:
    """Over the last axis."""
    powers = torch.exp(x - x.amax(-1, keepdim=True))
    return powers / powers.sum(-1, keepdim=True)


def out(block: Block, attended: Tensor) -> Tensor:
    """Heads merged, out-projected, scaled: [B,H,N,d] -> [B,N,C]."""
    merged = attended.transpose(1, 2).flatten(2) @ block.out_w.T + block.out_b
    return merged if block.ls1 is None else merged * block.ls1


def mlp(block: Block, x: Tensor, spec: ModelSpec) -> Tensor:
    """What the MLP adds to x [B,N,C]."""
    hidden = layer_norm(x, block.ln2_w, block.ln2_b, spec.norm_eps) @ block.fc_w.T + block.fc_b
    added = activate(hidden, spec.activation) @ block.proj_w.T + block.proj_b
    return added if block.ls2 is None else added * block.ls2


def activate(x: Tensor, name: str) -> Tensor:
    """GELU by the error function, its tanh form (arXiv 1606.08415, section 2), or OpenAI's x sigmoid(1.702 x)."""
    if name == "gelu":
        return x * (1 + torch.erf(x / math.sqrt(2))) / 2
    if name == "gelu_tanh":
        return x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2
    return x / (1 + torch.exp(-1.702 * x))


def project(weights: Weights, tokens: Tensor) -> Tensor:
    """Last LayerNorm and projection: [..., C] -> [..., E]."""
    return layer_norm(tokens, weights.ln_post_w, weights.ln_post_b, weights.spec.norm_eps) @ weights.proj


def pooled(weights: Weights, x: Tensor) -> Tensor:
    if weights.spec.pool == "tok":
        return project(weights, x)[:, 0]
    if weights.spec.norm_after_pool:
        return project(weights, x[:, 1:].mean(1))
    # a projection has no bias, so the mean may come after it
    return project(weights, x)[:, 1:].mean(1)


# scores and maps: patches [B, P, E] and unit texts [T, E] -> scores [B, P, T] -> maps [B, T, H, W]


def cosine(patches: Tensor, texts: Tensor) -> Tensor:
    """Cosines of patches and texts."""
    return unit(patches) @ texts.T


def feature_surgery(tokens: Tensor, texts: Tensor) -> Tensor:
    """`clip_feature_surgery` of CLIP Surgery (clip/clip.py) on tokens [B, N, E], image embedding first: [B, N, T].

    The official code weighs the texts for a batch of one; here every image has its own weights.
    """
    features = unit(tokens)
    # w: how much the picture as a whole speaks of each text; the 2 is in the code, its argument t is not read
    chance = softmax(2 * (features[:, :1] @ texts.T))
    weight = chance / chance.mean(-1, keepdim=True)
    products = features[:, :, None] * texts[None, None] * weight[..., None]  # [B, N, T, E]
    redundant = products.mean(2, keepdim=True)
    return (products - redundant).sum(-1)


def minus_empty(patches: Tensor, texts: Tensor, empty: Tensor) -> Tensor:
    """CLIP Surgery's score of a single text (demo.py): the empty text [E] is what is redundant."""
    return unit(patches) @ (texts - empty[None]).T


def gem_map(scores: Tensor, grid: Grid, size: Grid) -> Tensor:
    """GEM (gem/gem_wrapper.py): bilinear to the size of the input, then min-max of every map."""
    maps = _bilinear(scores, grid, size)
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    return (maps - low) / (high - low)


def surgery_map(scores: Tensor, grid: Grid, size: Grid) -> Tensor:
    """`get_similarity_map` of CLIP Surgery (clip/clip.py), class token dropped before: min-max over the patches, then bilinear."""
    low, high = scores.amin(1, keepdim=True), scores.amax(1, keepdim=True)
    return _bilinear((scores - low) / (high - low), grid, size)


def rclip_map(scores: Tensor, grid: Grid, size: Grid) -> Tensor:
    """RCLIP: |1 - M| of the min-maxed map."""
    return torch.abs(1 - surgery_map(scores, grid, size))


def segmentation_map(scores: Tensor, grid: Grid, size: Grid, logit_scale: float) -> Tensor:
    """SCLIP (clip_segmentor.py) and its kin: bilinear, then a softmax over the texts."""
    return softmax((_bilinear(scores, grid, size) * logit_scale).movedim(1, -1)).movedim(-1, 1)


def _bilinear(scores: Tensor, grid: Grid, size: Grid) -> Tensor:
    batch, _, texts = scores.shape
    return F.interpolate(scores.transpose(1, 2).reshape(batch, texts, *grid), size=size, mode="bilinear", align_corners=False)
