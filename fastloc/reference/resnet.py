"""Slow, literal references of every method on CLIP's ResNets, in the steps of its authors' code. The fast path is tested against them.

They share only the tensors with the fast path: BatchNorm stays a BatchNorm, every attention map is in memory, every position of the
raw map passes through the pool alone, and Grad-CAM's gradients come from autograd, a picture and a text at a time. Any floating
dtype works; the tests run float64. Choices for the cases that the authors' code leaves open:

- the pool's position embedding is resized whenever the grid is not the trained one (the released pool only takes its own size);
- `itsm` reads a position as the pool's output for that position alone, with its own position embedding; `raw_map` is the released one;
- Grad-CAM on CLIP differentiates the recipe's target, a score of the image embedding with the text.

Read at: xmed-lab/CLIP_Surgery (clip/clip_model.py, clip/clip_surgery_model.py), chongzhou96/MaskCLIP
(mmseg/models/decode_heads/maskclip_head.py).
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.checkpoints.resnet_weights import EPS, Bottleneck, Conv, Pool, ResNetWeights
from fastloc.recipes import Recipe
from fastloc.reference import first_tokens, readouts

Grid = tuple[int, int]


# the methods: normalised pixels [B, 3, H, W] -> patch features [B, P, E] in the text's space, not of unit length


def itsm(weights: ResNetWeights, pixels: Tensor, position: str = "bilinear") -> Tensor:
    """Raw map: each position as the only token of the pool, whose softmax over one key is 1."""
    x = last_stage(weights, pixels)
    table = positions_of(weights, (x.shape[2], x.shape[3]), position)
    found = []
    for index, each in enumerate(_rows(x).unbind(1)):
        token = (each + table[1 + index])[:, None]
        found.append(pool_attention(weights.pool, token, weights.spec.heads)[:, 0])
    return torch.stack(found, 1)


def raw_map(weights: ResNetWeights, pixels: Tensor, position: str = "bilinear") -> Tensor:
    """The raw map of CLIP Surgery's repository (clip/clip_model.py), [B, 1+P, E], the mean token's row first.

    It is the pool's attention of every token over all tokens.
    """
    x = last_stage(weights, pixels)
    tokens = torch.cat([_rows(x).mean(1, keepdim=True), _rows(x)], 1) + positions_of(weights, (x.shape[2], x.shape[3]), position)
    return pool_attention(weights.pool, tokens, weights.spec.heads)


def maskclip(weights: ResNetWeights, pixels: Tensor) -> Tensor:
    """MaskCLIP's head: v_proj and c_proj as 1x1 convolutions on the last stage, without position embedding."""
    pool, x = weights.pool, last_stage(weights, pixels)
    v = F.conv2d(x, pool.v_w[:, :, None, None], pool.v_b)
    return _rows(F.conv2d(v, pool.out_w[:, :, None, None], pool.out_b))


def clip_surgery(weights: ResNetWeights, pixels: Tensor, settings: str = "") -> Tensor:
    """CLIP Surgery's AttentionPool2d, [B, 1+P, E], the mean token's row first.

    settings: "resnet" is the branch with unit keys and eight times the scale, which the released model never reaches.
    """
    pool, heads, x = weights.pool, weights.spec.heads, last_stage(weights, pixels)
    table = positions_of(weights, (x.shape[2], x.shape[3]), "bilinear")
    tokens = torch.cat([_rows(x).mean(1, keepdim=True), _rows(x)], 1) + table
    # all three parts of the official qkv hold v_proj
    v = split(tokens @ pool.v_w.T + pool.v_b, heads)
    scale = v.shape[-1] ** -0.5
    original = softmax(v @ v.mT * scale) @ v
    k = v
    if settings == "resnet":
        k = k / (torch.sqrt((k * k).sum(-1, keepdim=True)) + 1e-6)
        scale = scale * 8
    surgery = softmax(k @ k.mT * scale) @ v
    surgery, original = (merge(each) @ pool.out_w.T + pool.out_b for each in (surgery, original))
    return torch.cat([original[:, :1], surgery[:, 1:]], 1)


# RCLIP without training reads the raw features; only its map differs
METHODS: dict[str, Callable[[ResNetWeights, Tensor], Tensor]] = {
    "itsm": itsm, "rclip": itsm, "maskclip": maskclip, "clip_surgery": lambda weights, pixels: clip_surgery(weights, pixels)[:, 1:],
}


def scores(weights: ResNetWeights, pixels: Tensor, texts: Tensor, row: Recipe) -> Tensor:
    """Scores of a published row, or of its official form, for normalised pixels [B, 3, H, W] and several unit texts [T, E]: [B, P, T]."""
    weights = first_tokens.keeping_position(weights, pixels) if row.keep_position else weights
    if row.reads == "grad-cam":
        scale = row.score_scale(weights.logit_scale)
        return grad_cam(weights, pixels, texts, row.position, row.target, scale, row.cam).flatten(2).transpose(1, 2)
    if row.readout.score == "feature-surgery":
        return torch.cat([readouts.feature_surgery(clip_surgery(weights, one[None]), texts)[:, 1:] for one in pixels])
    if row.terms == ("qk",):
        return readouts.cosine(raw_map(weights, pixels, row.position)[:, 1:], texts)
    return readouts.cosine(METHODS[row.name](weights, pixels), texts)


def grad_cam(
    weights: ResNetWeights, pixels: Tensor, texts: Tensor, position: str, target: str = "cosine", scale: float = 100.0,
    cam: str = "grad-cam",
) -> Tensor:  # fmt: skip
    """Grad-CAM, Grad-CAM++ or LayerCAM on the last stage: maps [B, T, h, w] of unit texts [T, E].

    target: y is the cosine, the logit (`scale` times it), or the text's share in a softmax of the logits; of one text alone the logit.
    """
    pictures = []
    for picture in pixels:
        maps = []
        for index in range(len(texts)):
            activation = last_stage(weights, picture[None]).detach().requires_grad_()
            table = positions_of(weights, (activation.shape[2], activation.shape[3]), position)
            embedding = embed(weights, activation, table)[0]
            cosines = texts @ (embedding / torch.sqrt((embedding * embedding).sum()))
            logits = cosines if target == "cosine" else scale * cosines
            y = softmax(logits) if target == "softmax" and len(texts) > 1 else logits
            (gradient,) = torch.autograd.grad(y[index], activation)
            maps.append(cam_map(activation.detach()[0], gradient[0], cam))
        pictures.append(torch.stack(maps))
    return torch.stack(pictures)


def cam_map(activation: Tensor, gradient: Tensor, cam: str, eps: float = 0.0) -> Tensor:
    """One map [h, w] of a stage [C, h, w] and the score's gradient there.

    "grad-cam": Selvaraju et al., ICCV 2017, equations 1 and 2. "grad-cam++": Chattopadhay et al., WACV 2018, equations 5 and 19, without
    the factor exp(y) of the whole map. "layer-cam": Jiang et al., TIP 2021, equations 5 and 6. eps: added to the denominators of equation
    19; pytorch-grad-cam adds 1e-6.
    """
    if cam == "layer-cam":
        return torch.clamp((torch.clamp(gradient, min=0) * activation).sum(0), min=0)
    weight = gradient.mean((1, 2))
    if cam == "grad-cam++":
        sums = activation.sum((1, 2))[:, None, None]
        # 0 / 0 where a gradient is 0, which adds nothing
        alpha = torch.nan_to_num(gradient**2 / (2 * gradient**2 + sums * gradient**3 + eps), nan=0.0)
        weight = (alpha * torch.clamp(gradient, min=0)).sum((1, 2))
    return torch.clamp((weight[:, None, None] * activation).sum(0), min=0)


def encoder(weights: ResNetWeights, pixels: Tensor, position: str = "bilinear") -> Tensor:
    """The unchanged encoder's image embedding, [B, E]."""
    x = last_stage(weights, pixels)
    return embed(weights, x, positions_of(weights, (x.shape[2], x.shape[3]), position))


def embed(weights: ResNetWeights, x: Tensor, table: Tensor) -> Tensor:
    """The pool's output for its mean token: [B, C, h, w] -> [B, E]."""
    tokens = torch.cat([_rows(x).mean(1, keepdim=True), _rows(x)], 1) + table
    return pool_attention(weights.pool, tokens, weights.spec.heads)[:, 0]


# the parts of the encoder, from equations


def last_stage(weights: ResNetWeights, pixels: Tensor) -> Tensor:
    """The stem, and the four stages: [B, C, H/32, W/32]."""
    x = pixels.to(weights.dtype)
    for i, conv in enumerate(weights.stem):
        x = torch.clamp(batch_norm(conv, F.conv2d(x, conv.kernel, stride=2 if i == 0 else 1, padding=1)), min=0)
    x = average(x, 2)
    for stage in weights.stages:
        for block in stage:
            x = bottleneck(block, x)
    return x


def bottleneck(block: Bottleneck, x: Tensor) -> Tensor:
    one, two, three = block.convs
    y = torch.clamp(batch_norm(one, F.conv2d(x, one.kernel)), min=0)
    y = torch.clamp(batch_norm(two, F.conv2d(y, two.kernel, padding=1)), min=0)
    y = batch_norm(three, F.conv2d(average(y, block.stride), three.kernel))
    if block.skip is not None:
        x = batch_norm(block.skip, F.conv2d(average(x, block.stride), block.skip.kernel))
    return torch.clamp(x + y, min=0)


def batch_norm(conv: Conv, x: Tensor) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * scale + shift of every channel."""
    assert conv.norm is not None, "the reference runs weights as they were read, with BatchNorm not folded"
    scale, shift, mean, variance = (
        each[:, None, None] for each in (conv.norm.scale, conv.norm.shift, conv.norm.mean, conv.norm.variance)
    )
    return (x - mean) / torch.sqrt(variance + EPS) * scale + shift


def average(x: Tensor, side: int) -> Tensor:
    """The mean of every side x side square."""
    return x if side == 1 else x.unfold(2, side, side).unfold(3, side, side).mean((-1, -2))


def pool_attention(pool: Pool, tokens: Tensor, heads: int) -> Tensor:
    """Multi-head attention of all tokens, [B, N, C] -> [B, N, E]."""
    pairs = ((pool.q_w, pool.q_b), (pool.k_w, pool.k_b), (pool.v_w, pool.v_b))
    q, k, v = (split(tokens @ weight.T + bias, heads) for weight, bias in pairs)
    return merge(softmax(q @ k.mT / math.sqrt(q.shape[-1])) @ v) @ pool.out_w.T + pool.out_b


def positions_of(weights: ResNetWeights, grid: Grid, mode: str) -> Tensor:
    """The position embedding at this grid, [1+P, C]."""
    table, trained = weights.pool.position, weights.spec.grid
    if grid == trained:
        return table
    # torch has no half-precision resize with antialias
    square = table[1:].to(torch.promote_types(table.dtype, torch.float32)).reshape(1, *trained, -1).permute(0, 3, 1, 2)
    antialias = mode.endswith("-antialias")
    # MaskCLIP's mode, CLIP Surgery's and GEM's; the fast path has the SCLIP family's too
    resized = F.interpolate(square, size=grid, mode=mode.removesuffix("-antialias"), antialias=antialias)
    return torch.cat([table[:1], resized.permute(0, 2, 3, 1).reshape(grid[0] * grid[1], -1).to(table.dtype)])


def softmax(x: Tensor) -> Tensor:
    """The softmax over the last axis."""
    powers = torch.exp(x - x.amax(-1, keepdim=True))
    return powers / powers.sum(-1, keepdim=True)


def split(x: Tensor, heads: int) -> Tensor:
    """Split channels into heads: [B, N, C] -> [B, H, N, d]."""
    return x.reshape(*x.shape[:2], heads, -1).permute(0, 2, 1, 3)


def merge(x: Tensor) -> Tensor:
    """Merge heads into channels: [B, H, N, d] -> [B, N, C]."""
    return x.permute(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], -1)


def _rows(x: Tensor) -> Tensor:
    return x.flatten(2).permute(0, 2, 1)
