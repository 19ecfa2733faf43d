"""ConvNeXt's stages as a function of its tensors and pixels."""

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor

from fastloc.checkpoints.hierarchical.convnext import Block, Stage, Trunk
from fastloc.checkpoints.hierarchical.parts import Conv, LayerNorm

__all__ = ["maps"]


def maps(trunk: Trunk, pixels: Tensor) -> Iterator[Tensor]:
    """The map of every stage, [B, C_i, h_i, w_i], for normalised pixels [B, 3, H, W] of the trunk's dtype; the last is the head's.

    H and W are multiples of the stride. Differentiable.
    """
    x = pixels
    for index, stage in enumerate(trunk.stages):
        x = _step(x, stage, first=index == 0)
        for block in stage.blocks:
            x = x + _branch(x, block)
        yield x


def _step(x: Tensor, stage: Stage, *, first: bool) -> Tensor:
    """The step to the stage's own grid: [B, c, h, w] -> [B, C, h / stride, w / stride]."""
    if first:
        return _normed(_convolved(x, stage.step), stage.norm).permute(0, 3, 1, 2)
    return _convolved(_normed(x, stage.norm).permute(0, 3, 1, 2), stage.step)


def _branch(x: Tensor, block: Block) -> Tensor:
    """The branch of a block beside x, [B, C, h, w]."""
    y = _normed(_convolved(x, block.depthwise), block.norm)
    y = F.gelu(F.linear(y, block.inner.weight, block.inner.bias))
    y = F.linear(y, block.outer.weight, block.outer.bias)
    return (y if block.scale is None else y * block.scale).permute(0, 3, 1, 2)


def _convolved(x: Tensor, conv: Conv) -> Tensor:
    return F.conv2d(x, conv.kernel, conv.bias, conv.stride, conv.padding, groups=conv.groups)


def _normed(x: Tensor, norm: LayerNorm) -> Tensor:
    """The LayerNorm over channels, and channels moved to the end: [B, C, h, w] -> [B, h, w, C]."""
    return F.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],), norm.scale, norm.shift, norm.eps)
