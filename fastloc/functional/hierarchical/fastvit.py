"""FastViT's stages as a function of its tensors and pixels, in branches as it was trained or folded."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.checkpoints.hierarchical.fastvit import (
    HEAD_WIDTH,
    AttentionBlock,
    Branches,
    Excite,
    Mixer,
    MixerBlock,
    Mlp,
    Position,
    Stage,
    Trunk,
    Unit,
)
from fastloc.checkpoints.hierarchical.parts import BatchNorm, Conv, LayerNorm, Linear

__all__ = ["last", "stages"]


def stages(trunk: Trunk, pixels: Tensor) -> list[Tensor]:
    """The map of every stage and of the final convolution, [B, C_i, h_i, w_i], for normalised pixels [B, 3, H, W] of the trunk's dtype.

    H and W are multiples of the stride. Differentiable. All maps are held; `last` holds one. The final convolution's squeeze-and-excitation
    reads the mean of the whole map, so a cell of the last map depends on all of them.
    """
    return list(_each(trunk, pixels))


def last(trunk: Trunk, pixels: Tensor) -> Tensor:
    """The last of `stages`; earlier ones are let go."""
    found = pixels
    for each in _each(trunk, pixels):
        found = each
    return found


def _each(trunk: Trunk, pixels: Tensor) -> Iterator[Tensor]:
    x = pixels
    for unit in trunk.stem:
        x = _unit(x, unit)
    for stage in trunk.stages:
        x = _stage(x, stage)
        yield x
    yield _unit(x, trunk.final)


def _stage(x: Tensor, stage: Stage) -> Tensor:
    for unit in stage.step:
        x = _unit(x, unit)
    if stage.position is not None:
        x = x + _convolved(x, stage.position.conv) if isinstance(stage.position, Position) else _convolved(x, stage.position)
    for block in stage.blocks:
        x = _mixed(x, block.mixer) if isinstance(block, MixerBlock) else x + _attended(x, block)
        x = x + _mlp(x, block.mlp)
    return x


def _unit(x: Tensor, unit: Unit) -> Tensor:
    y = _summed(x, unit.conv)
    if unit.excite is not None:
        y = y * _excited(y, unit.excite)
    return F.gelu(y)


def _excited(x: Tensor, excite: Excite) -> Tensor:
    """The factors of channels, [B, C, 1, 1]."""
    inner = F.relu(F.linear(x.mean((2, 3)), excite.inner.weight, excite.inner.bias))
    return torch.sigmoid(F.linear(inner, excite.outer.weight, excite.outer.bias))[:, :, None, None]


def _summed(x: Tensor, conv: Branches | Conv) -> Tensor:
    if isinstance(conv, Conv):
        return _convolved(x, conv)
    total = _convolved(x, conv.convs[0])
    for each in conv.convs[1:]:
        total = total + _convolved(x, each)
    return total if conv.identity is None else total + _normed(x, conv.identity)


def _mixed(x: Tensor, mixer: Mixer | Conv) -> Tensor:
    if isinstance(mixer, Conv):
        return _convolved(x, mixer)
    return x + mixer.scale[:, None, None] * (_summed(x, mixer.mixer) - _normed(x, mixer.norm))


def _attended(x: Tensor, block: AttentionBlock) -> Tensor:
    """The branch of attention beside x, [B, C, h, w]."""
    batch, channels, height, width = x.shape
    rows = (x if block.norm is None else _normed(x, block.norm)).flatten(2).transpose(1, 2)
    packed = _linear(rows, block.qkv).reshape(batch, height * width, 3, channels // HEAD_WIDTH, HEAD_WIDTH)
    q, k, v = packed.permute(2, 0, 3, 1, 4)
    found = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, height * width, channels)
    return (_linear(found, block.out) * block.scale).transpose(1, 2).reshape(x.shape)


def _mlp(x: Tensor, mlp: Mlp) -> Tensor:
    """The branch of the MLP beside x, [B, C, h, w]."""
    rows = _convolved(x, mlp.conv).permute(0, 2, 3, 1)
    return (_linear(F.gelu(_linear(rows, mlp.inner)), mlp.outer) * mlp.scale).permute(0, 3, 1, 2)


def _linear(x: Tensor, layer: Linear) -> Tensor:
    return F.linear(x, layer.weight, layer.bias)


def _convolved(x: Tensor, conv: Conv) -> Tensor:
    y = F.conv2d(x, conv.kernel, conv.bias, conv.stride, conv.padding, groups=conv.groups)
    return y if conv.norm is None else _normed(y, conv.norm)


def _normed(x: Tensor, norm: BatchNorm | LayerNorm) -> Tensor:
    """The norm of a map [B, C, h, w]."""
    if isinstance(norm, BatchNorm):
        return F.batch_norm(x, norm.mean, norm.variance, norm.scale, norm.shift, eps=norm.eps)
    return F.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],), norm.scale, norm.shift, norm.eps).permute(0, 3, 1, 2)
