"""FastViT-MCI as functions of its tensors, with the branches of training or merged.

The last map is the output of the last convolution with its squeeze-excite, which weighs channels by the whole picture; its mean,
through the head's linear layer, is the image embedding.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.checkpoints.hierarchical.branches import Branches
from fastloc.checkpoints.hierarchical.fastvit import AttentionBlock, MixerBlock, Mlp, SqueezeExcite, Stage, Step, Trunk
from fastloc.checkpoints.hierarchical.parts import BatchNorm, LayerNorm
from fastloc.functional.hierarchical.layers import convolved, linear, normalised

# channels of a head
HEAD_WIDTH = 32


def stages(trunk: Trunk, pixels: Tensor) -> list[Tensor]:
    """The output of every stage and the last map: [B, 3, H, W] -> [B, C_i, h_i, w_i], h_i = H / 4, H / 8, …; the last grid twice."""
    outputs = list(_stages(trunk, pixels))
    return [*outputs, finished(trunk, outputs[-1])]


def last(trunk: Trunk, pixels: Tensor) -> Tensor:
    """The last map [B, 2 C, h, w]; no stage's output is kept."""
    x = pixels
    for each in _stages(trunk, pixels):
        x = each
    return finished(trunk, x)


def finished(trunk: Trunk, x: Tensor) -> Tensor:
    """The last map of the last stage's output: [B, C, h, w] -> [B, 2 C, h, w]."""
    return F.gelu(_squeezed(_branched(x, trunk.final), trunk.final_squeeze))


def _stages(trunk: Trunk, pixels: Tensor) -> Iterator[Tensor]:
    x = pixels
    for branches in trunk.stem:
        x = F.gelu(_branched(x, branches))
    for stage in trunk.stages:
        x = _stage(x, stage)
        yield x


def _stage(x: Tensor, stage: Stage) -> Tensor:
    if stage.step is not None:
        x = _stepped(x, stage.step)
    if stage.position is not None:
        x = _branched(x, stage.position)
    for block in stage.blocks:
        x = _mixed(x, block) if isinstance(block, MixerBlock) else _attended(x, block)
        x = x + _mlp(x, block.mlp)
    return x


def _stepped(x: Tensor, step: Step) -> Tensor:
    x = _branched(x, step.large)
    if step.squeeze is not None:
        x = _squeezed(x, step.squeeze)
    return F.gelu(_branched(F.gelu(x), step.pointwise))


def _branched(x: Tensor, branches: Branches) -> Tensor:
    out = convolved(x, branches.convs[0])
    for conv in branches.convs[1:]:
        out = out + convolved(x, conv)
    if branches.identity is not None:
        out = out + _batch_normed(x, branches.identity)
    return out + x if branches.skip else out


def _mixed(x: Tensor, block: MixerBlock) -> Tensor:
    mixed = _branched(x, block.mixer)
    if block.norm is None:
        return mixed
    return x + _scaled(mixed - _batch_normed(x, block.norm), block.gamma)


def _attended(x: Tensor, block: AttentionBlock) -> Tensor:
    rows = _normed_rows(x, block.norm)
    q, k, v = (_by_head(each) for each in linear(rows, block.qkv).chunk(3, -1))
    out = linear(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2), block.proj)
    return x + _scaled(out.transpose(1, 2).reshape(x.shape), block.gamma)


def _normed_rows(x: Tensor, norm: BatchNorm | LayerNorm | None) -> Tensor:
    """The norm's output, cell by cell: [B, C, h, w] -> [B, P, C]."""
    rows = (_batch_normed(x, norm) if isinstance(norm, BatchNorm) else x).flatten(2).transpose(1, 2)
    return normalised(rows, norm) if isinstance(norm, LayerNorm) else rows


def _mlp(x: Tensor, mlp: Mlp) -> Tensor:
    y = convolved(F.gelu(convolved(convolved(x, mlp.depthwise), mlp.fc1)), mlp.fc2)
    return _scaled(y, mlp.gamma)


def _squeezed(x: Tensor, squeeze: SqueezeExcite) -> Tensor:
    mean = x.mean((2, 3), keepdim=True)
    return x * torch.sigmoid(convolved(F.relu(convolved(mean, squeeze.fc1)), squeeze.fc2))


def _batch_normed(x: Tensor, norm: BatchNorm) -> Tensor:
    factor, offset = (each.to(x.dtype)[:, None, None] for each in norm.factors())
    return x * factor + offset


def _scaled(x: Tensor, gamma: Tensor | None) -> Tensor:
    return x if gamma is None else x * gamma[:, None, None]


def _by_head(x: Tensor) -> Tensor:
    """Split channels into heads: [B, P, C] -> [B, H, P, 32]."""
    return x.reshape(*x.shape[:2], -1, HEAD_WIDTH).transpose(1, 2)
