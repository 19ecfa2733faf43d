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

__all__ = ["entered", "excited", "linear", "maps", "mlp", "normed", "scaled", "summed", "tokens", "unit"]


def maps(trunk: Trunk, pixels: Tensor) -> Iterator[Tensor]:
    """The map of every stage and of the final convolution, [B, C_i, h_i, w_i], for normalised pixels [B, 3, H, W] of the trunk's dtype.

    H and W are multiples of the stride. Differentiable. The final convolution's squeeze-and-excitation reads the mean of the whole map, so
    a cell of the last map depends on all of them.
    """
    x = _stemmed(trunk, pixels)
    for stage in trunk.stages:
        x = _stage(x, stage)
        yield x
    yield unit(x, trunk.final)


def tokens(trunk: Trunk, pixels: Tensor) -> Tensor:
    """The input of the last stage's first block, [B, C, h, w], for pixels as `maps` takes them."""
    x = _stemmed(trunk, pixels)
    for stage in trunk.stages[:-1]:
        x = _stage(x, stage)
    return entered(x, trunk.stages[-1])


def _stemmed(trunk: Trunk, pixels: Tensor) -> Tensor:
    """The first stage's input, at a quarter of the picture's sides: [B, 3, H, W] -> [B, C, H/4, W/4]."""
    for each in trunk.stem:
        pixels = unit(pixels, each)
    return pixels


def entered(x: Tensor, stage: Stage) -> Tensor:
    """The stage's input on its own grid, with positions: before its first block."""
    for each in stage.step:
        x = unit(x, each)
    if stage.position is not None:
        x = x + _convolved(x, stage.position.conv) if isinstance(stage.position, Position) else _convolved(x, stage.position)
    return x


def _stage(x: Tensor, stage: Stage) -> Tensor:
    x = entered(x, stage)
    for block in stage.blocks:
        x = _mixed(x, block.mixer) if isinstance(block, MixerBlock) else x + _attended(x, block)
        x = x + mlp(x, block.mlp)
    return x


def unit(x: Tensor, part: Unit) -> Tensor:
    """A convolution, its squeeze-and-excitation and GELU: [B, C, h, w] -> [B, D, h / stride, w / stride]."""
    y = summed(x, part.conv)
    if part.excite is not None:
        y = y * excited(y, part.excite)
    return F.gelu(y)


def excited(x: Tensor, excite: Excite) -> Tensor:
    """The factors of channels, [B, C, 1, 1]."""
    inner = F.relu(F.linear(x.mean((2, 3)), excite.inner.weight, excite.inner.bias))
    return torch.sigmoid(F.linear(inner, excite.outer.weight, excite.outer.bias))[:, :, None, None]


def summed(x: Tensor, conv: Branches | Conv) -> Tensor:
    """The sum of the branches, or the one convolution that they are folded to."""
    if isinstance(conv, Conv):
        return _convolved(x, conv)
    total = _convolved(x, conv.convs[0])
    for each in conv.convs[1:]:
        total = total + _convolved(x, each)
    return total if conv.identity is None else total + normed(x, conv.identity)


def _mixed(x: Tensor, mixer: Mixer | Conv) -> Tensor:
    if isinstance(mixer, Conv):
        return _convolved(x, mixer)
    return x + mixer.scale[:, None, None] * (summed(x, mixer.mixer) - normed(x, mixer.norm))


def _attended(x: Tensor, block: AttentionBlock) -> Tensor:
    """The branch of attention beside x, [B, C, h, w]."""
    batch, channels, height, width = x.shape
    rows = (x if block.norm is None else normed(x, block.norm)).flatten(2).transpose(1, 2)
    packed = linear(rows, block.qkv).reshape(batch, height * width, 3, channels // HEAD_WIDTH, HEAD_WIDTH)
    q, k, v = packed.permute(2, 0, 3, 1, 4)
    found = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, height * width, channels)
    return scaled(linear(found, block.out), block.scale).transpose(1, 2).reshape(x.shape)


def mlp(x: Tensor, part: Mlp) -> Tensor:
    """The branch of the MLP beside x, [B, C, h, w]."""
    x = _convolved(x, part.conv)
    if isinstance(part.inner, Conv) or isinstance(part.outer, Conv):
        assert isinstance(part.inner, Conv)
        assert isinstance(part.outer, Conv)
        assert part.scale is None, "a tower of these is folded"
        return _convolved(F.gelu(_convolved(x, part.inner)), part.outer)
    rows = x.permute(0, 2, 3, 1)
    return scaled(linear(F.gelu(linear(rows, part.inner)), part.outer), part.scale).permute(0, 3, 1, 2)


def scaled(x: Tensor, scale: Tensor | None) -> Tensor:
    """Times the scale of each channel, the last axis; None where the layer before it holds the scale."""
    return x if scale is None else x * scale


def linear(x: Tensor, layer: Linear) -> Tensor:
    """The layer over the last axis."""
    return F.linear(x, layer.weight, layer.bias)


def _convolved(x: Tensor, conv: Conv) -> Tensor:
    y = F.conv2d(x, conv.kernel, conv.bias, conv.stride, conv.padding, groups=conv.groups)
    return y if conv.norm is None else normed(y, conv.norm)


def normed(x: Tensor, norm: BatchNorm | LayerNorm) -> Tensor:
    """The norm of a map [B, C, h, w]."""
    if isinstance(norm, BatchNorm):
        return F.batch_norm(x, norm.mean, norm.variance, norm.scale, norm.shift, eps=norm.eps)
    return F.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],), norm.scale, norm.shift, norm.eps).permute(0, 3, 1, 2)
