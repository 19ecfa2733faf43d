"""Swin's stages as a function of its tensors and pixels (Liu et al., ICCV 2021; timm/models/swin_transformer.py)."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.checkpoints.hierarchical.parts import LayerNorm, Linear
from fastloc.checkpoints.hierarchical.swin import Block, Stage, Trunk, bias_of

__all__ = ["maps"]

# the logit between cells of two regions that a shift brings into one window, as trained
_APART = -100.0


def maps(trunk: Trunk, pixels: Tensor) -> Iterator[Tensor]:
    """The map of every stage, [B, C_i, h_i, w_i], for normalised pixels [B, 3, H, W] of the trunk's dtype.

    H and W are multiples of the stride. The last map is the one before the tower's last LayerNorm. A map that is no multiple of the
    window is padded at the bottom and at the right with zeros behind the block's first norm, and the padding is attended to, as
    trained detectors and timm do. Differentiable.
    """
    # [B, h, w, channels] within the stages
    planes = pixels
    for stage in trunk.stages:
        x = _step(planes, stage)
        for block in stage.blocks:
            x = x + _attention(_normed(x, block.norm1), block)
            # no name for the hidden layer, four times as wide: the next block's attention would run beside it
            x = x + _linear(F.gelu(_linear(_normed(x, block.norm2), block.inner)), block.outer)
        # the next stage reads this very tensor, so that a gradient at it exists
        planes = x.permute(0, 3, 1, 2)
        yield planes


def _step(planes: Tensor, stage: Stage) -> Tensor:
    """The step to the stage's own grid: [B, C, h, w] -> [B, h', w', C']."""
    if stage.patch is not None:
        patch = stage.patch
        return _normed(F.conv2d(planes, patch.kernel, patch.bias, patch.stride).permute(0, 2, 3, 1), stage.norm)
    assert stage.merge is not None
    batch, channels, height, width = planes.shape
    four = planes.permute(0, 2, 3, 1).reshape(batch, height // 2, 2, width // 2, 2, channels).permute(0, 1, 3, 4, 2, 5).flatten(3)
    return _linear(_normed(four, stage.norm), stage.merge)


def _attention(y: Tensor, block: Block) -> Tensor:
    """The attention's branch from normed cells y [B, h, w, C]: [B, h, w, C]."""
    batch, height, width, channels = y.shape
    side, shift = block.window, block.shift
    if shift:
        y = torch.roll(y, (-shift, -shift), (1, 2))
    down, across = -height % side, -width % side
    if down or across:
        y = F.pad(y, (0, 0, 0, across, 0, down))
    rows, columns = (height + down) // side, (width + across) // side
    # [B, windows, N, C]
    y = y.reshape(batch, rows, side, columns, side, channels).transpose(2, 3).reshape(batch, rows * columns, side * side, channels)
    qkv = _linear(y, block.qkv).unflatten(3, (3, block.heads, -1))  # type: ignore[no-untyped-call]
    q, k, v = qkv.permute(3, 0, 1, 4, 2, 5)
    bias = bias_of(block) if block.bias is None else block.bias
    if shift:
        bias = bias + _apart(rows, columns, side, shift, bias)[:, None]
    # windows and heads on one axis: exporters know attention of four axes alone
    masked = bias.expand(q.shape[1], -1, -1, -1).flatten(0, 1)[None]
    y = F.scaled_dot_product_attention(q.flatten(1, 2), k.flatten(1, 2), v.flatten(1, 2), masked).reshape(v.shape)
    y = _linear(y.transpose(2, 3).flatten(3), block.out)
    y = y.reshape(batch, rows, columns, side, side, channels).transpose(2, 3).reshape(batch, rows * side, columns * side, channels)
    y = y[:, :height, :width]
    return torch.roll(y, (shift, shift), (1, 2)) if shift else y


def _apart(rows: int, columns: int, side: int, shift: int, like: Tensor) -> Tensor:
    """`_APART` for every pair of a shifted window's cells that come from two ends of the map, 0 for others: [windows, N, N]."""
    region = []
    for windows in (rows, columns):
        at = torch.arange(windows * side, device=like.device)
        region.append((at >= (windows - 1) * side).long() + (at >= windows * side - shift).long())
    label = region[0][:, None] * 3 + region[1]
    label = label.reshape(rows, side, columns, side).transpose(1, 2).reshape(rows * columns, side * side)
    return (label[:, :, None] != label[:, None, :]).to(like.dtype) * _APART


def _linear(x: Tensor, linear: Linear) -> Tensor:
    return F.linear(x, linear.weight, linear.bias)


def _normed(x: Tensor, norm: LayerNorm) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], norm.scale, norm.shift, norm.eps)
