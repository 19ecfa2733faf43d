"""GEM in the tensor ops of the official package (WalBouss/GEM, gem/gem_utils.py), for timing: what `fastloc` is compared with.

Both paths walk side by side, every token is carried through every block, the last one's original path included, and each of the
seven N x N maps of a changed block is written to memory. The blocks before are open_clip's, whose nn.MultiheadAttention ends in
PyTorch's fused attention. Written with F.layer_norm, F.linear, F.normalize, softmax and matmul, because the literal equations of
`fastloc.reference.methods`, with which the tests compare it, would be unfairly slow. Where the official package could be quicker it is:
text is encoded beforehand, and upsampling to the picture is optional.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.checkpoints.vit_weights import Block, Weights
from fastloc.functional.position_embedding import resized_position


def gem(
    weights: Weights, pixels: Tensor, texts: Tensor, depth: int = 7, iterations: int = 1, size: tuple[int, int] | None = None
) -> Tensor:
    """Cosines of every patch with every text, [B, T, h, w], or [B, T, *size] upsampled.

    Args:
        weights: of any floating dtype; it is the dtype of the whole pass.
        pixels: [B, 3, H, W], normalised. texts: [T, E], unit length.
        depth: the official parameter: one more than the number of changed blocks.
    """
    spec, proj = weights.spec, weights.proj
    assert proj is not None
    patches = F.conv2d(pixels.to(weights.dtype), weights.patch_w, stride=spec.patch)
    grid = patches.shape[-2], patches.shape[-1]
    patches = patches.flatten(2).transpose(1, 2)
    x = torch.cat([weights.prefix.expand(len(patches), -1, -1), patches], 1)
    x = x + resized_position(weights.pos, spec.grid, grid, "bicubic-antialias")
    if weights.ln_pre_w is not None:
        x = _norm(x, weights.ln_pre_w, weights.ln_pre_b, spec.norm_eps)
    first = spec.layers - (depth - 1)
    for block in weights.blocks[:first]:
        x = _plain_block(block, x, spec.heads, spec.norm_eps, spec.activation)
    changed = x
    for block in weights.blocks[first:]:
        changed, x = _gem_block(block, changed, x, spec.heads, spec.norm_eps, spec.activation, iterations)
    features = F.normalize(_norm(changed, weights.ln_post_w, weights.ln_post_b, spec.norm_eps) @ proj, dim=-1)
    scores = features[:, 1:] @ texts.to(weights.dtype).T
    maps = scores.transpose(1, 2).reshape(len(pixels), len(texts), *grid)
    return maps if size is None else F.interpolate(maps, size=size, mode="bilinear")


def _plain_block(block: Block, x: Tensor, heads: int, eps: float, activation: str) -> Tensor:
    q, k, v = _qkv(block, _norm(x, block.ln1_w, block.ln1_b, eps), heads)
    x = x + _scaled(_out(block, F.scaled_dot_product_attention(q, k, v)), block.ls1)
    return x + _mlp(block, x, eps, activation)


def _gem_block(block: Block, changed: Tensor, x: Tensor, heads: int, eps: float, activation: str, iterations: int) -> tuple[Tensor, Tensor]:
    y = _norm(x, block.ln1_w, block.ln1_b, eps)
    q, k, v = _qkv(block, y, heads)
    scale = q.shape[-1] ** -0.5
    attended = (q @ k.transpose(-2, -1) * scale).softmax(-1) @ v
    # the mean length of an image's tokens
    inverse_temperature = y.norm(dim=-1).mean(-1)[:, None, None, None] * scale
    streams = [_self_self(p, v, inverse_temperature, iterations) for p in (v, k, q)]
    changed = changed + _scaled(_out(block, (streams[0] + streams[1] + streams[2]) / 3), block.ls1)
    x = x + _scaled(_out(block, attended), block.ls1)
    return changed, x + _mlp(block, x, eps, activation)


def _self_self(p: Tensor, v: Tensor, inverse_temperature: Tensor, iterations: int) -> Tensor:
    for _ in range(iterations):
        p = F.normalize(p, dim=-1)
        p = (p @ p.transpose(-2, -1) * inverse_temperature).softmax(-1) @ p
    p = F.normalize(p, dim=-1)
    return (p @ p.transpose(-2, -1) * inverse_temperature).softmax(-1) @ v


def _qkv(block: Block, y: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    batch, tokens, width = y.shape
    q, k, v = F.linear(y, block.qkv_w, block.qkv_b).reshape(batch, tokens, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    return q, k, v


def _out(block: Block, attended: Tensor) -> Tensor:
    """[B, H, N, d] -> [B, N, C]."""
    return F.linear(attended.transpose(1, 2).flatten(2), block.out_w, block.out_b)


def _mlp(block: Block, x: Tensor, eps: float, activation: str) -> Tensor:
    hidden = F.linear(_norm(x, block.ln2_w, block.ln2_b, eps), block.fc_w, block.fc_b)
    if activation == "quick_gelu":
        hidden = hidden * torch.sigmoid(1.702 * hidden)
    else:
        hidden = F.gelu(hidden, approximate="tanh" if activation == "gelu_tanh" else "none")
    return _scaled(F.linear(hidden, block.proj_w, block.proj_b), block.ls2)


def _norm(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    return F.layer_norm(x, (x.shape[-1],), weight, bias, eps)


def _scaled(x: Tensor, scale: Tensor | None) -> Tensor:
    return x if scale is None else x * scale
